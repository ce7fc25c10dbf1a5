"""VL-BEiT (arXiv 2206.01127)."""
