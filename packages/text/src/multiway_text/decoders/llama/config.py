"""Sizes of LLaMA-like decoders, and one published preset."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 1 << 24  # of anything: beyond it a configuration is damaged


@dataclass(frozen=True)
class LlamaConfig:
    """One model. A ValueError says which sizes do not go together."""

    hidden_size: int = 576
    num_layers: int = 30
    num_heads: int = 9
    num_kv_heads: int = 3
    head_dim: int = 64
    inner_size: int = 1536
    vocab_size: int = 49_152
    max_positions: int = 8192
    """Trained length in tokens; rotary positions go on past it."""
    norm_eps: float = 1e-5
    rope_theta: float = 100_000.0
    tied_embeddings: bool = True

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "inner_size", "vocab_size"):
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name} must be 1 to {MOST}, not {getattr(self, name)}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}")
        if not 2 <= self.head_dim <= MOST or self.head_dim % 2:
            raise ValueError(f"rotary positions need an even head_dim, not {self.head_dim}")


SMOLLM2_135M = LlamaConfig()
"""``HuggingFaceTB/SmolLM2-135M`` and ``-Instruct``."""

PRESETS = {"smollm2-135m": SMOLLM2_135M}
