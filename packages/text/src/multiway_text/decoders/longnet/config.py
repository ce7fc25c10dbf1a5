"""Sizes of LongNet language models (arXiv 2307.02486, sections 4.1 and 4.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from multiway_core.errors import InputError

MOST = 1 << 30  # of anything: beyond it a configuration is damaged
XPOS_REACH = 1 << 16
"""Positions over which powers of xPos stay within float32, counted from their middle."""


@dataclass(frozen=True)
class LongNetConfig:
    """One model. An InputError says which sizes do not go together."""

    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    inner_size: int = 3072
    vocab_size: int = 100_277
    max_positions: int = 32_768
    """Longest prompt with its continuation, in tokens."""
    segment_lengths: tuple[int, ...] = (2048, 4096, 8192, 16_384, 32_768)
    dilations: tuple[int, ...] = (1, 2, 4, 6, 12)
    head_offset: Literal["block", "mod"] = "block"
    """Which tokens a head keeps: by blocks of heads as the released code, or ``h mod r`` as the paper."""
    grad_through_mix: bool = False
    mask_padding: bool = True
    position: Literal["xpos", "rotary"] = "xpos"
    xpos_scale_base: int = 512
    norm_eps: float = 1e-5
    tied_embeddings: bool = False

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "num_heads", "inner_size", "vocab_size", "max_positions"):
            if not 1 <= getattr(self, name) <= MOST:
                raise InputError(f"LongNet {name} must be 1 to {MOST}, not {getattr(self, name)}")
        if self.hidden_size % self.num_heads:
            raise InputError(
                f"LongNet num_heads {self.num_heads} does not divide hidden_size {self.hidden_size}"
            )
        if self.head_dim % 2:
            raise InputError(f"LongNet {self.position} needs an even width of heads, not {self.head_dim}")
        lengths, dilations = self.segment_lengths, self.dilations
        if not lengths or len(lengths) != len(dilations):
            raise InputError(
                f"LongNet needs one dilation a segment length, not {len(dilations)} dilations for "
                f"{len(lengths)} lengths"
            )
        if any(not 1 <= length <= MOST for length in lengths) or any(b <= a for a, b in pairwise(lengths)):
            raise InputError(f"LongNet segment_lengths must be at least 1 and increase, got {list(lengths)}")
        if dilations[0] != 1 or any(b < a for a, b in pairwise(dilations)):
            raise InputError(f"LongNet dilations must begin with 1 and not decrease, got {list(dilations)}")
        for length, dilation in zip(lengths, dilations, strict=True):
            if dilation > length:
                raise InputError(f"LongNet dilation {dilation} is larger than its segment length {length}")
        if self.position == "xpos" and self.reach > XPOS_REACH:
            raise InputError(
                f"LongNet xPos holds for segments of up to {XPOS_REACH} tokens, and these reach over {self.reach}; "
                'use position "rotary"'
            )

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_heads

    @property
    def branches(self) -> tuple[tuple[int, int], ...]:
        """(segment length, dilation) each."""
        return tuple(zip(self.segment_lengths, self.dilations, strict=True))

    @property
    def reach(self) -> int:
        """Tokens in whose multiples no attention crosses a boundary, or the context if it is shorter."""
        return min(math.lcm(*self.segment_lengths), self.max_positions)


LONGNET_125M = LongNetConfig()
"""The paper's model of table 2, for 32K tokens; shorter ones have fewer segment lengths."""

PRESETS = {
    "longnet-125m": LONGNET_125M,
    "longnet-350m": LongNetConfig(hidden_size=1024, num_layers=24, num_heads=16, inner_size=4096),
    "longnet-760m": LongNetConfig(hidden_size=1536, num_layers=24, num_heads=16, inner_size=6144),
    "longnet-2.7b": LongNetConfig(hidden_size=2560, num_layers=32, num_heads=32, inner_size=10_240),
}
