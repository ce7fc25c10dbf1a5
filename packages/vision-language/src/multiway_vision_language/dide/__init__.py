"""Distilled Dual-Encoder (arXiv 2112.08723)."""
