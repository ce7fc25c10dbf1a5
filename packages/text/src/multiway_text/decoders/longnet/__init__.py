"""LongNet (arXiv 2307.02486): a language model with dilated attention, whose cost grows linearly with length."""
