"""Pictures as visual words: VQ-KD (BEiT v2, arXiv 2208.06366)."""
