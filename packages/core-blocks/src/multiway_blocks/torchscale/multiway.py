"""Multiway: two copies of a module, the first for tokens up to a place, the second for those behind it (BEiT-3)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.transformer import Context, ModalityExperts, Segment


class MultiwayNetwork(ModalityExperts):
    """``A`` is the module that is given, ``B`` a copy that is initialised anew; without segments all tokens take A."""

    def __init__(self, module: nn.Module, second: nn.Module | None = None) -> None:
        nn.Module.__init__(self)  # the experts are children of their own, not of a ModuleDict
        self.A = module
        self.B = _anew(copy.deepcopy(module)) if second is None else second

    @property
    def experts(self) -> dict[str, nn.Module]:  # type: ignore[override]
        return {"A": self.A, "B": self.B}

    def forward(self, x_BTE: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, F)."""
        return self.A(x_BTE) if context.segments is None else super().forward(x_BTE, context)


class MultiwayEmbedding(MultiwayNetwork):
    """Two positional embeddings; each counts its own tokens from the start, unless ``positions`` are given."""

    split_position = -1

    def forward(self, x_BTE: Tensor, positions: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Embeddings (B, T, E), of which only the number counts -> codes (1, T, E)."""
        parts = [
            self.experts[expert](x_BTE[:, start:stop], positions=positions)
            for start, stop, expert in split_at(self.split_position, x_BTE.shape[1])
            if stop > start
        ]
        return torch.cat(parts, dim=1)


def split_at(position: int, tokens: int) -> list[Segment]:
    """Who takes which tokens: -1 leads all through A, 0 all through B, otherwise that many through A."""
    first = tokens if position == -1 else position
    if not 0 <= first <= tokens:
        raise InputError(f"multiway_split_position must be -1 to {tokens}, the number of tokens, not {first}")
    return [(0, first, "A"), (first, tokens, "B")]


def wrap(args: Any, module: nn.Module) -> nn.Module:
    """The module, or two of it if ``args.multiway``."""
    return MultiwayNetwork(module) if args.multiway else module


def _anew(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if part is not module or not list(module.children()):
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
    return module
