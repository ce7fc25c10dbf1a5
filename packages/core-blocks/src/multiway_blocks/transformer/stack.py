"""Blocks, one behind the other.

Shape suffixes: B batch, T tokens, E hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from multiway_blocks.transformer.context import Context, apply


class Stack(nn.Module):
    """Layers and the norm behind the last one; embeddings and outputs belong to the caller.

    Layers are called with (x, context, index). With ``checkpoint_activations`` their inner results are computed again
    in the backward pass instead of kept.
    """

    def __init__(
        self,
        layers: Iterable[nn.Module] = (),
        norm: nn.Module | None = None,
        *,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm: nn.Module = nn.Identity() if norm is None else norm
        self.checkpoint_activations = checkpoint_activations

    def forward(self, x_BTE: Tensor, context: Context, hidden_states: list[Tensor] | None = None) -> Tensor:
        """(B, T, E) -> (B, T, E) behind the last norm.

        ``hidden_states``, if given, takes what enters the first layer and what leaves every layer, before the norm.
        """
        if hidden_states is not None:
            hidden_states.append(x_BTE)
        for index, layer in enumerate(self.layers):
            if self.checkpoint_activations and self.training and torch.is_grad_enabled():
                x_BTE = checkpoint(layer, x_BTE, context, index, use_reentrant=False)
            else:
                x_BTE = layer(x_BTE, context, index)
            if hidden_states is not None:
                hidden_states.append(x_BTE)
        return apply(self.norm, x_BTE, context, len(self.layers))

    def new_cache(self, batch_size: int, max_length: int, like: Tensor | None = None) -> StaticKVCache:
        """An empty cache for ``max_length`` tokens a row, with the dtype and device of ``like`` or of the weights."""
        attention: Any = self.layers[0].attention
        weight = next(self.parameters()) if like is None else like
        return StaticKVCache(
            len(self.layers),
            batch_size,
            attention.num_kv_heads,
            attention.head_dim,
            max_length,
            dtype=weight.dtype,
            device=weight.device,
        )
