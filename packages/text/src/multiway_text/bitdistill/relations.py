"""Queries, keys and values of one layer while a model runs: what the relation loss compares.

Shape suffixes: B rows, T tokens, H heads, K key-value heads, D head dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from multiway_text.decoders.bitnet.model import BitNet
from multiway_text.decoders.llama.model import Llama


class States:
    """What a layer's attention compared in its last forward pass: rotated queries and keys, and values."""

    def __init__(self, attention: Any) -> None:
        self._attention = attention
        self._seen: dict[str, Tensor] = {}

    def all(self) -> tuple[Tensor, Tensor, Tensor]:
        """(queries (B, H, T, D), keys (B, K, T, D), values (B, K, T, D))."""
        parts = [self._seen[name] for name in ("query", "key", "value")]
        query, key, value = (
            part.unflatten(-1, (-1, self._attention.head_dim)).transpose(1, 2) for part in parts
        )
        positions_BT = torch.arange(query.shape[2], device=query.device).expand(len(query), -1)
        rotary = self._attention.rotary
        return rotary(query, positions_BT), rotary(key, positions_BT), value


@contextmanager
def watch(model: Llama | BitNet, layer: int) -> Iterator[States]:
    """Inside the block, a forward pass without a cache leaves the states of ``layer`` (-1 is the last) behind."""
    block: Any = model.decoder.layers[layer]
    attention = block.attention
    states = States(attention)

    def note(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(lambda _, __, output: states._seen.__setitem__(name, output))

    def note_all(module: nn.Module, inputs: object, output: Tensor) -> None:
        states._seen.update(
            zip(("query", "key", "value"), output.split(attention.sizes, dim=-1), strict=True)
        )

    if isinstance(model, BitNet):
        hooks = [attention.qkv.register_forward_hook(note_all)]
    else:
        hooks = [note(name, getattr(attention, name)) for name in ("query", "key", "value")]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()
