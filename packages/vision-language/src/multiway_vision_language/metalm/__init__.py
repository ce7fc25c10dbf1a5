"""MetaLM: a causal language model as the interface of bidirectional encoders (arXiv 2206.06336)."""
