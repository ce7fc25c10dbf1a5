"""LongViT (Wang et al. 2023, arXiv 2312.03558): a vision Transformer with dilated attention, for gigapixel pictures."""
