"""YOCO (arXiv 2405.05254): a decoder-decoder whose upper half shares one key-value cache."""
