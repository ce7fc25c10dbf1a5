"""Sizes of RetNet language models and the published table (TorchScale's RetNet configurations)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MOST = 1 << 24  # of anything: beyond it a configuration is damaged


@dataclass(frozen=True)
class RetNetConfig:
    """One model. A ValueError says which sizes do not go together."""

    hidden_size: int = 512
    num_layers: int = 6
    num_heads: int = 2
    value_size: int = 864
    """Width of all values together."""
    inner_size: int = 864
    vocab_size: int = 50_304
    norm_eps: float = 1e-6
    chunk: int = 128
    """Tokens that are computed in the parallel form; longer sequences go chunk by chunk."""
    activation: Literal["gelu", "swish"] = "gelu"
    tied_embeddings: bool = False

    def __post_init__(self) -> None:
        names = ("hidden_size", "num_layers", "num_heads", "value_size", "inner_size", "vocab_size", "chunk")
        for name in names:
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name} must be 1 to {MOST}, not {getattr(self, name)}")
        for name in ("hidden_size", "value_size"):
            if getattr(self, name) % self.num_heads:
                raise ValueError(f"num_heads {self.num_heads} does not divide {name} {getattr(self, name)}")
        if self.head_dim % 2:
            raise ValueError(f"rotary positions need an even width of heads, not {self.head_dim}")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps must be above 0, not {self.norm_eps}")

    @property
    def num_kv_heads(self) -> int:
        """All heads have keys of their own."""
        return self.num_heads

    @property
    def head_dim(self) -> int:
        """Width of a head's queries and keys."""
        return self.hidden_size // self.num_heads

    @property
    def state_size(self) -> int:
        """Numbers that a row keeps of its past, whatever its length."""
        return self.num_layers * self.hidden_size * self.value_size // self.num_heads


def _size(hidden: int, value: int, layers: int, heads: int) -> RetNetConfig:
    return RetNetConfig(
        hidden_size=hidden, num_layers=layers, num_heads=heads, value_size=value, inner_size=value
    )


PRESETS = {
    "retnet-base": _size(512, 864, 6, 2),
    "retnet-medium": _size(1024, 1728, 16, 4),
    "retnet-xl": _size(2048, 3456, 24, 8),
    "retnet-3b": _size(2560, 4280, 32, 10),
    "retnet-7b": _size(4096, 6912, 32, 16),
    "retnet-13b": _size(5120, 8560, 40, 20),
    "retnet-65b": _size(8192, 13824, 64, 32),
}
