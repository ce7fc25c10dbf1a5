"""Sizes of BitNet b1.58 models and the published preset (arXiv 2504.12285, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MOST = 1 << 24  # of anything: beyond it a configuration is damaged


@dataclass(frozen=True)
class BitNetConfig:
    """One model. A ValueError says which sizes do not go together."""

    hidden_size: int = 2560
    num_layers: int = 30
    num_heads: int = 20
    num_kv_heads: int = 5
    inner_size: int = 6912
    vocab_size: int = 128_256
    max_positions: int = 4096
    """Trained length in tokens; rotary positions go on past it."""
    norm_eps: float = 1e-5
    rope_theta: float = 500_000.0
    activation: Literal["relu2", "silu"] = "relu2"
    """Of the gate: squared ReLU, or SiLU in the models of the first paper."""
    tied_embeddings: bool = True

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "inner_size", "vocab_size"):
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name} must be 1 to {MOST}, not {getattr(self, name)}")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide hidden_size {self.hidden_size}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}")
        if self.head_dim % 2:
            raise ValueError(f"rotary positions need an even width of heads, not {self.head_dim}")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_heads


BITNET_2B_4T = BitNetConfig()
"""``microsoft/bitnet-b1.58-2B-4T``: 2.4 billion parameters, 2.1 of them ternary."""

PRESETS = {"bitnet-b1.58-2b-4t": BITNET_2B_4T}
