"""Sizes of MH-MoE language models and the setups of the second paper (arXiv 2411.16205, section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from multiway_core.errors import InputError

from multiway_text.decoders.mh_moe.parity import MixtureSizes

MOST = 1 << 24  # of anything: beyond it a configuration is damaged


@dataclass(frozen=True)
class MHMoEConfig:
    """One model. Raises InputError for sizes that do not go together."""

    vocab_size: int = 50_257
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    """Of the attention."""
    inner_size: int = 2048
    """Of the dense feed-forward networks."""
    mixture_every: int = 2
    """Layers 2, 4, ... have a mixture in their place; 0: none has."""
    split_heads: int = 1
    """Sub-tokens of a token; 1 is an ordinary mixture, without the two maps around it."""
    num_experts: int = 8
    experts_per_token: int = 1
    """Of a sub-token, where tokens are split."""
    expert_size: int = 2048
    """Inner width of an expert."""
    gated: bool = True
    """SwiGLU without biases, or else GELU with biases, in experts and dense networks."""
    gate: Literal["linear", "x_moe"] = "linear"
    gate_size: int = 16
    """X-MoE's reduced width of a whole token; a sub-token has its share."""
    capacity_factor: float | None = None
    """Of a fair share, what an expert takes at most; None drops nothing. With it, batch mates matter."""
    balance_weight: float = 0.01
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    tied_embeddings: bool = True

    def __post_init__(self) -> None:
        names = ("vocab_size", "hidden_size", "num_layers", "num_heads", "inner_size", "split_heads")
        for name in (*names, "num_experts", "experts_per_token", "expert_size", "gate_size"):
            if not 1 <= getattr(self, name) <= MOST:
                raise InputError(f"MH-MoE: {name} must be 1 to {MOST}, not {getattr(self, name)}")
        if not 0 <= self.mixture_every <= MOST:
            raise InputError(
                f"MH-MoE: mixture_every must be 0 (no mixture) or more, not {self.mixture_every}"
            )
        for name in ("num_heads", "split_heads"):
            if self.hidden_size % getattr(self, name):
                raise InputError(
                    f"MH-MoE: {name} {getattr(self, name)} does not divide hidden_size {self.hidden_size}"
                )
        if self.head_dim % 2:
            raise InputError(f"MH-MoE: rotary positions need an even head width, not {self.head_dim}")
        if self.experts_per_token > self.num_experts:
            raise InputError(
                f"MH-MoE: num_experts {self.num_experts} is below experts_per_token {self.experts_per_token}"
            )
        factor = self.capacity_factor
        if factor is not None and not (math.isfinite(factor) and factor > 0):
            raise InputError(
                f"MH-MoE: capacity_factor must be above 0, or None to drop nothing, not {factor}"
            )
        if not (math.isfinite(self.balance_weight) and self.balance_weight >= 0):
            raise InputError(f"MH-MoE: balance_weight must be at least 0, not {self.balance_weight}")

    def is_mixture(self, layer: int) -> bool:
        """Whether the layer of this index has a mixture."""
        return self.mixture_every > 0 and (layer + 1) % self.mixture_every == 0

    @property
    def mixture(self) -> MixtureSizes:
        """Sizes of a mixture layer, for the formulas of parity."""
        return MixtureSizes(
            self.hidden_size,
            self.expert_size,
            self.num_experts,
            self.experts_per_token,
            self.split_heads,
            self.gated,
        )

    # What the frame of causal models asks for.
    @property
    def num_kv_heads(self) -> int:
        return self.num_heads

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads


PRESETS = {
    "dense": MHMoEConfig(mixture_every=0),
    "smoe": MHMoEConfig(),
    "fine": MHMoEConfig(num_experts=16, experts_per_token=2, expert_size=1024),
    "mh2": MHMoEConfig(split_heads=2, num_experts=40, experts_per_token=2, expert_size=768),
    "mh3": MHMoEConfig(split_heads=3, num_experts=96, experts_per_token=3, expert_size=512),
}
"""The second paper's five systems: 12 layers of 768, a mixture in every second one, equal operations."""
