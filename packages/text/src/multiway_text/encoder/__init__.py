"""Text encoders at work: heads and their published layouts, sentence vectors, fine-tuning.

The network is `multiway_blocks.text_encoder`. Read `pipeline.py` first.
"""
