"""Who sees whom and at which position: padded rows, and tokens behind a cache."""

from __future__ import annotations

import torch
from multiway_blocks.causal import causal_visibility, token_positions
from multiway_core.generation import StaticKVCache


def test_padding_on_the_left() -> None:
    valid = torch.tensor([[True, True, True], [False, True, True]])
    mask = causal_visibility(valid)
    assert mask is not None
    assert mask[:, 0].int().tolist() == [
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 1, 1]],
    ]
    assert token_positions(valid).tolist() == [[0, 1, 2], [0, 0, 1]]


def test_behind_a_cache() -> None:
    cache = StaticKVCache(1, 2, 1, 4, 8)
    first = torch.tensor([[True, True], [False, True]])
    cache.update(0, torch.zeros(2, 1, 2, 4), torch.zeros(2, 1, 2, 4))
    cache.advance(first)
    new = torch.ones(2, 2, dtype=torch.bool)
    mask = causal_visibility(new, cache)
    assert mask is not None
    assert mask[:, 0].int().tolist() == [[[1, 1, 1, 0], [1, 1, 1, 1]], [[0, 1, 1, 0], [0, 1, 1, 1]]]
    assert token_positions(new, cache).tolist() == [[2, 3], [1, 2]]
    one = torch.ones(2, 1, dtype=torch.bool)
    assert causal_visibility(one, cache) is not None  # a padded slot before it
    cache.select(torch.tensor([0]))
    assert causal_visibility(one[:1], cache) is None


def test_blocks() -> None:
    """A query sees its own block and the one before, counted in real tokens of its row, with a cache or without."""
    valid = torch.tensor([[True] * 9, [False] * 2 + [True] * 7])
    mask = causal_visibility(valid, block=3)
    assert mask is not None
    for row, padding in enumerate((0, 2)):
        for query in range(padding, 9):
            place = query - padding
            seen = [k for k in range(padding, query + 1) if place // 3 - (k - padding) // 3 <= 1]
            assert mask[row, 0, query].nonzero()[:, 0].tolist() == seen
    cache = StaticKVCache(1, 2, 1, 2, 9)
    cache.update(0, torch.zeros(2, 1, 8, 2), torch.zeros(2, 1, 8, 2))
    cache.advance(valid[:, :8])
    step = causal_visibility(valid[:, 8:], cache, block=3)
    assert step is not None
    assert torch.equal(step[:, :, 0], mask[:, :, 8])
