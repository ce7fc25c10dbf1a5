"""Causal language models, a folder each, on `multiway_blocks.text_decoder`."""
