"""Kosmos-2: a language model that points at places in a picture (arXiv 2306.14824)."""
