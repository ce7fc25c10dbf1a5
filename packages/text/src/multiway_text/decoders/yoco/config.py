"""Sizes of YOCO models: the released 3B and the paper's scaling set (arXiv 2405.05254, section 4 and appendix)."""

from __future__ import annotations

from dataclasses import dataclass

from multiway_core.errors import InputError

MOST = 1 << 24  # of anything: beyond it a configuration is damaged


@dataclass(frozen=True)
class YocoConfig:
    """One model. An InputError says which sizes do not go together."""

    hidden_size: int = 3072
    num_layers: int = 26
    """Of both halves together."""
    num_self_heads: int = 24
    """Of the self-decoder."""
    num_heads: int = 24
    """Query heads of the cross-decoder."""
    num_kv_heads: int = 8
    """Heads of the one key-value cache."""
    inner_size: int = 8192
    vocab_size: int = 100_288
    max_positions: int = 4096
    """Longest prompt with its continuation, in tokens."""
    window: int | None = None
    """Tokens that the self-decoder's attention sees, the current one among them; None: gated retention."""
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    tied_embeddings: bool = False

    def __post_init__(self) -> None:
        sizes = ("hidden_size", "num_layers", "num_self_heads", "num_heads", "num_kv_heads", "inner_size")
        for name in (*sizes, "vocab_size", "max_positions"):
            if not 1 <= getattr(self, name) <= MOST:
                raise InputError(f"YOCO {name} must be 1 to {MOST}, not {getattr(self, name)}")
        if self.num_layers % 2:
            raise InputError(f"YOCO needs an even num_layers, half for each decoder, not {self.num_layers}")
        for name in ("num_self_heads", "num_heads"):
            heads = getattr(self, name)
            if self.hidden_size % heads:
                raise InputError(f"YOCO {name} {heads} does not divide hidden_size {self.hidden_size}")
            if self.hidden_size // heads % 2:
                raise InputError(
                    f"YOCO rotary positions need an even width of heads, not {self.hidden_size // heads} "
                    f"({name} {heads}, hidden_size {self.hidden_size})"
                )
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"YOCO num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}"
            )
        if self.window is not None and not 1 <= self.window <= MOST:
            raise InputError(f"YOCO window must be 1 to {MOST} or None, not {self.window}")

    @property
    def head_dim(self) -> int:
        """Width of a head of the cross-decoder and of the cache."""
        return self.hidden_size // self.num_heads


def _scaling(hidden: int, layers: int, heads: int) -> YocoConfig:
    # The table gives the cross-decoder's heads; heads of gated retention are 256 wide. 2048 tokens in training.
    return YocoConfig(
        hidden_size=hidden,
        num_layers=layers,
        num_self_heads=hidden // 256,
        num_heads=heads,
        num_kv_heads=heads,
        inner_size=3 * hidden,
        max_positions=2048,
    )


YOCO_3B = YocoConfig()
YOCO_3B_1M = YocoConfig(max_positions=1 << 20, rope_theta=80_000_000.0)
"""After the length extension to 64K, 256K and 1M tokens."""

PRESETS = {
    "yoco-3b": YOCO_3B,
    "yoco-3b-1m": YOCO_3B_1M,
    "yoco-160m": _scaling(768, 12, 12),
    "yoco-400m": _scaling(1024, 24, 16),
    "yoco-830m": _scaling(1536, 24, 12),
    "yoco-1.4b": _scaling(2048, 24, 16),
    "yoco-2.7b": _scaling(2560, 32, 20),
    "yoco-6.8b": _scaling(4096, 32, 32),
    "yoco-13b": _scaling(5120, 40, 40),
}
"""The paper's names; its tables do not say how many key-value heads the scaling set has: here all."""
