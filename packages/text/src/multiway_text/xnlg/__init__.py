"""XNLG (Chi et al. 2020, arXiv 1909.10481): one encoder and one decoder for many languages.

What is learnt from English titles is written in other languages. Read `objective.py` first.
"""
