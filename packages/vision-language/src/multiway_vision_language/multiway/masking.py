"""Which words and patches are hidden for masked prediction (BERT, section 3.1; BEiT, arXiv 2106.08254, algorithm 1).

Shape suffixes: B batch, T text tokens, N patches.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import torch
from multiway_core.errors import InputError
from torch import Tensor

_SMALLEST_BLOCK = 16
_ASPECT = 0.3
_TRIES = 10


class MaskedWords(NamedTuple):
    """``tokens_BT``: with words replaced; ``hidden_BT``: bool, where a word is to be predicted."""

    tokens_BT: Tensor
    hidden_BT: Tensor


def mask_words(
    tokens_BT: Tensor,
    valid_BT: Tensor,
    share: float,
    mask: int,
    vocab_size: int,
    special: tuple[int, ...],
    generator: torch.Generator,
) -> MaskedWords:
    """Hide ``round(share * words)`` of each text, at least one: 80 % as the mask, 10 % random, 10 % as they are.

    Special tokens and padding are never hidden.
    """
    special_ids = torch.tensor(special)
    can_BT = valid_BT & ~torch.isin(tokens_BT, special_ids)
    count_B = (can_BT.sum(1) * share).round().long().clamp(min=1).minimum(can_BT.sum(1))
    order_BT = torch.rand(tokens_BT.shape, generator=generator).masked_fill(~can_BT, 2.0)
    hidden_BT = order_BT.argsort(1).argsort(1) < count_B[:, None]
    return MaskedWords(_replaced(tokens_BT, hidden_BT, mask, vocab_size, special_ids, generator), hidden_BT)


def mask_caption(
    tokens_BT: Tensor,
    valid_BT: Tensor,
    share: float,
    mask: int,
    vocab_size: int,
    special: tuple[int, ...],
    generator: torch.Generator,
) -> MaskedWords:
    """BEiT-3's captioning: of the n tokens of a text ``floor(n * share + 0.5)``, from 1 to n - 1, never the first."""
    length_B = valid_BT.sum(1)
    count_B = (length_B * share + 0.5).floor().long().clamp(min=1).minimum(length_B - 1)
    can_BT = valid_BT.clone()
    can_BT[:, 0] = False
    order_BT = torch.rand(tokens_BT.shape, generator=generator).masked_fill(~can_BT, 2.0)
    hidden_BT = order_BT.argsort(1).argsort(1) < count_B[:, None]
    return MaskedWords(
        _replaced(tokens_BT, hidden_BT, mask, vocab_size, torch.tensor(special), generator), hidden_BT
    )


def _replaced(
    tokens_BT: Tensor,
    hidden_BT: Tensor,
    mask: int,
    vocab_size: int,
    special: Tensor,
    generator: torch.Generator,
) -> Tensor:
    chance_BT = torch.rand(tokens_BT.shape, generator=generator)
    words = torch.arange(vocab_size)
    words = words[~torch.isin(words, special)]
    random_BT = words[torch.randint(len(words), tokens_BT.shape, generator=generator)]
    found_BT = torch.where(hidden_BT & (chance_BT < 0.8), mask, tokens_BT)
    return torch.where(hidden_BT & (chance_BT >= 0.9), random_BT, found_BT)


def mask_blocks(grid: int, share: float, rng: random.Random) -> Tensor:
    """Exactly ``round(share * grid * grid)`` hidden patches of a picture, in rectangles; (N,) bool.

    Rectangles have at least 16 patches (fewer on small grids) and sides of a ratio from 0.3 to 1 / 0.3.
    """
    wanted = round(share * grid * grid)
    if not 0 < wanted < grid * grid:
        raise InputError(f"a share of {share:g} hides {wanted} of {grid * grid} patches")
    smallest = min(_SMALLEST_BLOCK, max(1, wanted // 4))
    hidden = torch.zeros(grid, grid, dtype=torch.bool)
    while int(hidden.sum()) < wanted:
        before = int(hidden.sum())
        for _ in range(_TRIES):
            area = rng.uniform(smallest, max(smallest, wanted - before))
            ratio = math.exp(rng.uniform(math.log(_ASPECT), -math.log(_ASPECT)))
            height, width = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if not (0 < height <= grid and 0 < width <= grid):
                continue
            top, left = rng.randint(0, grid - height), rng.randint(0, grid - width)
            block = hidden[top : top + height, left : left + width]
            if 0 < int((~block).sum()) <= wanted - before:
                block.fill_(True)
                break
        if int(hidden.sum()) == before:  # no rectangle fits: the rest one by one
            free = (~hidden).flatten().nonzero()[:, 0].tolist()
            hidden.view(-1)[rng.sample(free, wanted - before)] = True
    return hidden.flatten()
