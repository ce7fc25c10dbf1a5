"""Sizes of Magneto language models."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 1 << 24  # of anything: beyond it a configuration is damaged


@dataclass(frozen=True)
class MagnetoConfig:
    """One model. A ValueError says which sizes do not go together."""

    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    inner_size: int = 3072
    vocab_size: int = 100_288
    trained_length: int = 2048
    """Tokens of a training sequence, which says how long blocks are beyond it (:meth:`block`)."""
    scale_base: int = 512
    """Of xPos: after so many positions a key has lost what its frequency may lose."""
    norm_eps: float = 1e-5
    tied_embeddings: bool = False

    def __post_init__(self) -> None:
        names = (
            "hidden_size",
            "num_layers",
            "num_heads",
            "inner_size",
            "vocab_size",
            "trained_length",
            "scale_base",
        )
        for name in names:
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name} must be 1 to {MOST}, not {getattr(self, name)}")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide hidden_size {self.hidden_size}")
        if self.head_dim % 2:
            raise ValueError(f"xPos needs an even width of heads, not {self.head_dim}")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps must be above 0, not {self.norm_eps}")

    @property
    def num_kv_heads(self) -> int:
        """All heads have keys of their own."""
        return self.num_heads

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_heads

    @property
    def block(self) -> int:
        """Half of the trained length: with blocks of that size a token sees at most as far as it did in training."""
        return max(1, self.trained_length // 2)


BASE = MagnetoConfig()
"""The size of LongNet's comparison (arXiv 2307.02486, section 4.1), whose backbone is Magneto with xPos."""

PRESETS = {"magneto-base": BASE}
