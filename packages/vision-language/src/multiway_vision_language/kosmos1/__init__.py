"""Kosmos-1, a multimodal large language model (arXiv 2302.14045), as a configuration of Kosmos-2's parts."""
