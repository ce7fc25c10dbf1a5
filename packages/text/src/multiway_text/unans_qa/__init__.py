"""Unanswerable twins of questions (Zhu et al. 2019, arXiv 1906.06045): pair-to-sequence, seq2seq, and a set of rules.

Read `model.py` first; `pairs.py` makes training pairs of SQuAD 2, `augmentation.py` adds twins to SQuAD files.
"""
