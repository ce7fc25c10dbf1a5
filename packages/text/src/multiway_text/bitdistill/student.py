"""The student: the teacher's layers, or some of them, as BitNet's (BitDistill, arXiv 2510.13998, section 3.1).

The maps become ternary, and a norm (sub-LN) stands before the output map of the attention and before the down map of
the feed-forward network. A fresh norm would change what the layer computes; here its weight is the size that the
vectors have in the teacher, so that the layer begins close to the teacher's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from multiway_blocks.bitlinear import BitLinear
from torch import Tensor, nn

from multiway_text.decoders.bitnet.config import BitNetConfig
from multiway_text.decoders.bitnet.model import BitNet
from multiway_text.decoders.llama.model import Llama


@torch.no_grad()
def from_teacher(teacher: Llama, layers: Sequence[int], kept_V: Tensor, tokens_BT: Tensor) -> BitNet:
    """A student with master weights, of the teacher's ``layers`` and of its tokens ``kept`` (int64, old ids).

    ``tokens`` (B, T), in the teacher's ids, are read once to learn the sizes of what the new norms see.
    """
    sizes = teacher.config
    config = BitNetConfig(
        hidden_size=sizes.hidden_size,
        num_layers=len(layers),
        num_heads=sizes.num_heads,
        num_kv_heads=sizes.num_kv_heads,
        inner_size=sizes.inner_size,
        vocab_size=len(kept_V),
        max_positions=sizes.max_positions,
        norm_eps=sizes.norm_eps,
        rope_theta=sizes.rope_theta,
        activation="silu",
        tied_embeddings=True,
    )
    student = BitNet(config, packed=False)
    student.get_parameter("embedding.weight").copy_(teacher.get_parameter("embedding.weight")[kept_V])
    student.get_parameter("decoder.norm.weight").copy_(teacher.get_parameter("decoder.norm.weight"))
    seen = _rms_before_last_maps(teacher, tokens_BT)
    own: Any
    for own, number in zip(student.decoder.layers, layers, strict=True):
        theirs: Any = teacher.decoder.layers[number]
        attention, feedforward = theirs.attention, theirs.feedforward
        own.attention_norm.weight.copy_(theirs.attention_norm.weight)
        own.feedforward_norm.weight.copy_(theirs.feedforward_norm.weight)
        own.attention.qkv.weight.copy_(
            torch.cat([attention.query.weight, attention.key.weight, attention.value.weight])
        )
        own.attention.output.weight.copy_(attention.output.weight)
        own.feedforward.gate_up.weight.copy_(torch.cat([feedforward.gate.weight, feedforward.up.weight]))
        own.feedforward.down.weight.copy_(feedforward.down.weight)
        own.attention.norm.weight.fill_(seen[attention.output])
        own.feedforward.norm.weight.fill_(seen[feedforward.down])
    return student


def _rms_before_last_maps(teacher: Llama, tokens_BT: Tensor) -> dict[nn.Module, float]:
    """The median root mean square of the rows that every output and down map of the teacher reads."""
    seen: dict[nn.Module, float] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[module] = float(inputs[0].float().square().mean(-1).sqrt().median())

    layers: Any = teacher.decoder.layers
    maps = [module for layer in layers for module in (layer.attention.output, layer.feedforward.down)]
    hooks = [module.register_forward_pre_hook(note) for module in maps]
    try:
        teacher(tokens_BT)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def set_strength(student: BitNet, strength: float) -> None:
    """How far all weights are on their way from master to ternary (:class:`multiway_blocks.bitlinear.BitLinear`)."""
    for module in student.modules():
        if isinstance(module, BitLinear):
            module.strength = strength
