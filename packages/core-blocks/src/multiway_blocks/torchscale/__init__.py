"""TorchScale's models on our blocks: the names, arguments and results of `torchscale` 0.3.0."""

from multiway_blocks.torchscale.beit3 import BEiT3
from multiway_blocks.torchscale.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig, RetNetConfig
from multiway_blocks.torchscale.decoder import Decoder, RetNetDecoder
from multiway_blocks.torchscale.embedding import (
    PositionalEmbedding,
    TextEmbedding,
    VisionEmbedding,
    VisionLanguageEmbedding,
)
from multiway_blocks.torchscale.encoder import Encoder
from multiway_blocks.torchscale.encoder_decoder import EncoderDecoder

__all__ = [
    "BEiT3",
    "Decoder",
    "DecoderConfig",
    "Encoder",
    "EncoderConfig",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "PositionalEmbedding",
    "RetNetConfig",
    "RetNetDecoder",
    "TextEmbedding",
    "VisionEmbedding",
    "VisionLanguageEmbedding",
]
