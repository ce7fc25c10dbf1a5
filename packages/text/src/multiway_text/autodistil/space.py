"""Search spaces and their members (Xu et al. 2022, arXiv 2201.12507, table 1), and what a member costs."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from itertools import product

from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core import checkpoint
from multiway_core.errors import InputError


@dataclass(frozen=True, order=True)
class Subnet:
    """A member: layers, attention heads, width, and the feed-forward network's width as a multiple of it."""

    layers: int
    heads: int
    hidden_size: int
    ratio: float

    def __str__(self) -> str:
        return f"{self.layers}x{self.hidden_size}-a{self.heads}-r{self.ratio:g}"


@dataclass(frozen=True)
class Space:
    """All combinations of four lists. ``head_size``: width of a head, the same for all; 0 is the teacher's.

    Raises InputError for an empty list or a size below 1.
    """

    layers: tuple[int, ...]
    heads: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    ratios: tuple[float, ...]
    head_size: int = 0

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "hidden_sizes", "ratios"):
            sizes = getattr(self, name)
            if not sizes or min(sizes) <= 0:
                raise InputError(f"search space: {name} must be sizes above 0, not {sizes}")

    def subnets(self) -> list[Subnet]:
        """Every member, in order."""
        return [Subnet(*sizes) for sizes in product(self.layers, self.heads, self.hidden_sizes, self.ratios)]

    @property
    def largest(self) -> Subnet:
        """What the super-network itself is."""
        return Subnet(max(self.layers), max(self.heads), max(self.hidden_sizes), max(self.ratios))

    @property
    def smallest(self) -> Subnet:
        """The member that all others contain."""
        return Subnet(min(self.layers), min(self.heads), min(self.hidden_sizes), min(self.ratios))


_ALL = (2.5, 3.0, 3.5, 4.0)
SPACES = {
    "base": Space((9, 10, 11, 12), (9, 10, 11, 12), (544, 576, 608, 640), _ALL, 64),
    "small": Space((9, 10, 11, 12), (7, 8, 9, 10), (256, 288, 320, 352), _ALL, 64),
    "tiny": Space((4, 5, 6, 7), (7, 8, 9, 10), (128, 160, 192, 224), (2.0, 2.5, 3.0, 3.5), 64),
    # For a teacher of MiniLM's size, six layers of 384 with heads of 32.
    "mini": Space((3, 4), (6, 9), (144, 192), (2.0, 3.0)),
    "micro": Space((2, 3), (3, 6), (96, 144), (2.0, 3.0)),
    "nano": Space((1, 2), (3, 4), (48, 96), (2.0, 3.0)),
}
"""The paper's three sub-spaces of 256 members for a teacher of BERT-base's size, and three small ones."""


def shape(subnet: Subnet, like: TextEncoderConfig, head_size: int) -> TextEncoderConfig:
    """The member's config: the vocabulary, positions and conventions are those of ``like``."""
    return replace(
        like,
        num_layers=subnet.layers,
        hidden_size=subnet.hidden_size,
        num_heads=subnet.heads,
        head_size=head_size,
        inner_size=int(subnet.hidden_size * subnet.ratio),
        pooler=False,
        dropout=0.0,
        attention_dropout=0.0,
    )


@functools.cache
def skeleton(config: TextEncoderConfig) -> TextEncoder:
    """An encoder without weights."""
    with checkpoint.on_meta():
        return TextEncoder(config)


def parameters(config: TextEncoderConfig) -> int:
    """Numbers in all tensors of the encoder."""
    return sum(parameter.numel() for parameter in skeleton(config).parameters())


def flops(config: TextEncoderConfig, length: int) -> int:
    """Multiplications and additions for a text of ``length`` tokens: products of matrices, and attention."""
    attention = config.num_heads * config.attention_head_size
    layer = 4 * config.hidden_size * attention + 2 * config.hidden_size * config.inner_size
    return config.num_layers * (2 * length * layer + 4 * length**2 * attention)


def published_parameters(subnet: Subnet, vocab_size: int = 30_522, positions: int = 512) -> float:
    """The count of the authors' tool, which takes the projections as H x (H A / 12) and adds a pooler."""
    h, a, r = subnet.hidden_size, subnet.heads, subnet.ratio
    layer = h**2 + 3 * h**2 * a / 12 + 6 * h + 2 * h**2 * r + h * r + 3 * h
    return h * (vocab_size + positions + 4) + subnet.layers * layer + h**2 + 2 * h
