"""InfoXLM: masked language models over many languages and over translations, and contrast of translations."""
