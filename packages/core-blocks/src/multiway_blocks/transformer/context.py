"""What the parts of all layers are told beside the tokens' vectors.

Shape suffixes: B batch, T new tokens, S all tokens so far, M tokens of another sequence, H heads, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from multiway_blocks.position import Rotary, Rotation

Segment = tuple[int, int, str]
"""Tokens ``start`` to ``stop`` (exclusive) belong to a modality."""


@dataclass(frozen=True, slots=True)
class Context:
    """One object for all layers of a stack, made once a pass.

    Attributes:
        mask: who sees whom: bool (True = visible) or additive float, broadcastable to (B, H, T, S); None: all is seen.
        positions_BT: int64, for rotary positions.
        cache: what earlier tokens left behind, for example `multiway_core.generation.StaticKVCache`.
        valid_BT: bool, False at padding; None: all tokens are real. For parts that a mask does not tell it:
            retention, routing.
        segments: which tokens belong to which modality: one list for all rows, or a list for every row.
        memory_BME: what cross-attention reads.
        memory_mask: bool or additive float, broadcastable to (B, H, T, M).
        losses: takes the auxiliary losses () of layers by their index: the balance of experts.
        causal: without a mask, queries are the last of the keys and see those up to their own place, which fused
            attention does by itself.
    """

    mask: Tensor | None = None
    positions_BT: Tensor | None = None
    cache: Any = None
    valid_BT: Tensor | None = None
    segments: Sequence[Segment] | Sequence[Sequence[Segment]] | None = None
    memory_BME: Tensor | None = None
    memory_mask: Tensor | None = None
    losses: dict[int, Tensor] = field(default_factory=dict)
    causal: bool = False
    _rotations: dict[Rotary, tuple[Rotation, Rotation]] = field(default_factory=dict, init=False, repr=False)

    def rotations(self, rotary: Rotary) -> tuple[Rotation, Rotation]:
        """What queries and keys of all layers that share ``rotary`` are rotated by: computed once a pass.

        Raises ValueError without positions.
        """
        if rotary not in self._rotations:
            if self.positions_BT is None:
                raise ValueError("attention with rotary needs positions")
            self._rotations[rotary] = rotary.rotations(self.positions_BT)
        return self._rotations[rotary]


class Contextual(nn.Module):
    """A part of a block that is called with (x, context, layer): mixers, and what routes tokens.

    All other parts, norms and feed-forward networks that treat every token alone, are called with x.
    """


def apply(part: nn.Module, x_BTE: Tensor, context: Context, layer: int = 0) -> Tensor:
    """Call any part of the layer with the index ``layer``."""
    return part(x_BTE, context, layer) if isinstance(part, Contextual) else part(x_BTE)
