"""LLaMA-like decoders (arXiv 2302.13971), such as SmolLM2: baselines and teachers of the models here."""
