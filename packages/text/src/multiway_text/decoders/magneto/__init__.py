"""Magneto (arXiv 2210.06423) with xPos (arXiv 2212.10554): a deep Transformer that reads past its trained length."""
