"""s2s-ft (Bao et al. 2021, arXiv 2110.13640): a BERT-like encoder learns to write a target from a source.

Read `objective.py` first: three ways to lay out a pair. Decoding stands in `multiway_text.seq2seq`.
"""
