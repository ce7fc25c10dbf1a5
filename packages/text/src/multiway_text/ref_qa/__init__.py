"""RefQA: questions and answers harvested from plain text, on which a reader is trained without labelled questions.

``harvest`` is the entrance, ``refinement`` trains over turns. Li et al. 2020, arXiv 2005.02925.
"""
