"""The BERT family of text encoders: BERT, RoBERTa and XLM-R, UniLM v1, 1.2 and v2, MiniLM in all its forms.

    encoder = text_encoder.load("microsoft/MiniLM-L12-H384-uncased")      # or a folder
    output = encoder(tokens_BT, valid_BT)

One network: embeddings, a stack of `PostNorm` blocks, an optional pooler, an optional bias by relative positions. The
heads for tasks stand elsewhere.
"""

from multiway_blocks.text_encoder.checkpoint import load, save
from multiway_blocks.text_encoder.config import PRESETS, TextEncoderConfig
from multiway_blocks.text_encoder.model import EncoderOutput, TextEncoder

__all__ = ["PRESETS", "EncoderOutput", "TextEncoder", "TextEncoderConfig", "load", "save"]
