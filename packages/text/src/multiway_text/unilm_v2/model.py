"""The encoder as UniLMv2 has it: one relative position bias that all layers share."""

from __future__ import annotations

from dataclasses import replace

from multiway_blocks.text_encoder import PRESETS, TextEncoder
from multiway_core.errors import ConfigError
from torch import nn


def with_relative_bias(encoder: TextEncoder) -> TextEncoder:
    """An encoder of equal outputs that has a relative bias, zero at first; the same one where it has a bias.

    The biases of keys, which no softmax can tell from none, are left out. Raises ConfigError for RoBERTa and XLM-R,
    whose layout holds no relative bias.
    """
    config = encoder.config
    if encoder.relative_bias is not None:
        return encoder
    if config.family != "bert":
        raise ConfigError(f"UniLMv2's layout is BERT's with a relative bias; this encoder is {config.family}")
    ours = PRESETS["unilm2-base-uncased"]
    made = TextEncoder(
        replace(
            config,
            family="unilm2",
            key_bias=False,
            num_buckets=ours.num_buckets,
            max_distance=ours.max_distance,
        )
    )
    assert made.relative_bias is not None
    nn.init.zeros_(made.relative_bias.bias.weight)
    known = {
        name: tensor
        for name, tensor in encoder.state_dict().items()
        if not name.endswith("attention.key.bias")
    }
    made.load_state_dict(made.state_dict() | known)
    return made.train(encoder.training)
