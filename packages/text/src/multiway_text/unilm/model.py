"""The encoder as UniLM v1 begins: six segment embeddings, and residual branches scaled by depth."""

from __future__ import annotations

from dataclasses import replace

import torch
from multiway_blocks.text_encoder import TextEncoder
from multiway_core.errors import ConfigError
from torch import nn

NUM_SEGMENTS = 6


def rescale_residuals(encoder: TextEncoder) -> None:
    """Divide the matrices that end the residual branches of layer l, from 1, by sqrt(2 l) (``modeling.py`` of v1)."""
    for number, layer in enumerate(encoder.stack.layers, 1):
        for branch in ("attention.output", "feedforward.down"):
            layer.get_submodule(branch).get_parameter("weight").data /= (2 * number) ** 0.5


def with_segments(encoder: TextEncoder) -> TextEncoder:
    """The encoder with six segment embeddings, in place.

    A BERT-like file's new rows begin as copies of its own: even ones of the first, odd ones of the last.
    Raises ConfigError for an encoder without token types.
    """
    if encoder.config.num_types == NUM_SEGMENTS:
        return encoder
    if encoder.type_embedding is None or encoder.config.num_types > NUM_SEGMENTS:
        raise ConfigError(
            f"UniLM tells its tasks apart by {NUM_SEGMENTS} token types; this encoder has {encoder.config.num_types}"
        )
    known = encoder.type_embedding.weight.detach()
    rows = [min(index % 2, len(known) - 1) if index >= len(known) else index for index in range(NUM_SEGMENTS)]
    encoder.type_embedding = nn.Embedding.from_pretrained(known[torch.tensor(rows)].clone(), freeze=False)
    encoder.config = replace(encoder.config, num_types=NUM_SEGMENTS)
    return encoder
