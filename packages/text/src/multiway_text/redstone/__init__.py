"""RedStone (arXiv 2412.03398): text for language models from archives of the web."""
