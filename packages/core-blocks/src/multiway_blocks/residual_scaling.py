"""How deep networks stay trainable: weights of the residual path and of the initialisation, by depth.

DeepNorm (Wang et al. 2022, "DeepNet: Scaling Transformers to 1,000 Layers", arXiv 2203.00555, figure 2) is post-norm,
``LN(alpha x + f(x))``, with the weights of f divided at the start. Sub-LN (Wang et al. 2022, "Foundation Transformers",
Magneto, arXiv 2210.06423, figure 2) is pre-norm with a second norm inside f and weights multiplied at the start. Both
touch values, attention outputs and feed-forward networks, and leave queries and keys alone.

N are the layers of an encoder, M those of a decoder; a network without the other half has 0 of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class DeepNorm(NamedTuple):
    """The two numbers of one half of a network."""

    alpha: float
    """Weight of the residual path."""
    divisor: float
    """Of the initial weights; 1 / beta in the paper."""


def deep_norm_encoder(layers: int, decoder_layers: int = 0) -> DeepNorm:
    """Of an encoder with N = ``layers``; with M = ``decoder_layers`` above 0, of one that a decoder reads."""
    if decoder_layers:
        depth = (layers**4 * decoder_layers) ** (1 / 16)
        return DeepNorm(
            0.81 * depth, depth / 1.15
        )  # beta = 0.87 / depth; 1.15 is how the code rounds 1 / 0.87
    return DeepNorm((2 * layers) ** 0.25, (8 * layers) ** 0.25)


def deep_norm_decoder(layers: int, *, cross_attention: bool = False) -> DeepNorm:
    """Of a decoder with M = ``layers``, with cross-attention or without."""
    if cross_attention:
        return DeepNorm((3 * layers) ** 0.25, (12 * layers) ** 0.25)
    return DeepNorm((2 * layers) ** 0.25, (8 * layers) ** 0.25)


def sub_norm_encoder(layers: int, decoder_layers: int = 0) -> float:
    """Magneto's factor of the initial weights of an encoder with N = ``layers`` (and M = ``decoder_layers``)."""
    if decoder_layers:
        return math.sqrt(math.log(3 * decoder_layers) * math.log(2 * layers) / 3)
    return math.sqrt(math.log(2 * layers))


def sub_norm_decoder(layers: int, *, cross_attention: bool = False) -> float:
    """Magneto's factor of the initial weights of a decoder; cross-attention itself is not scaled."""
    return math.sqrt(math.log((3 if cross_attention else 2) * layers))
