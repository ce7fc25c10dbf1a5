"""The resampler against its formula, and rows counted with multiplicity against rows written out."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.resampler import Resampler


@pytest.fixture
def resampler() -> Resampler:
    torch.manual_seed(0)
    return Resampler(10, 24, num_queries=6, num_heads=3).double()


def features(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_follows_the_formula(resampler) -> None:
    f = features(2, 5, 10)
    attention = resampler.attention
    unit = f / f.square().sum(-1, keepdim=True).sqrt()
    keys = resampler.projection(unit)
    for row in range(2):
        both = torch.cat([keys[row], resampler.latents])
        queries, key, value = (
            layer(x).view(-1, 3, 8).transpose(0, 1)
            for layer, x in (
                (attention.query, resampler.latents),
                (attention.key, both),
                (attention.value, both),
            )
        )
        mixed = (queries @ key.transpose(1, 2) / 8**0.5).softmax(-1) @ value
        expected = attention.output(mixed.transpose(0, 1).flatten(1))
        torch.testing.assert_close(resampler(f)[row], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("trained", [False, True])
def test_multiplicity_equals_repeated_rows(resampler, trained: bool) -> None:
    resampler.requires_grad_(trained)
    f = features(1, 4, 10)
    counts = torch.tensor([[1.0, 3.0, 0.0, 68.0]])
    repeated = f[0].repeat_interleave(counts[0].long(), dim=0)[None]
    torch.testing.assert_close(resampler(f, counts), resampler(repeated), atol=1e-12, rtol=0)


def test_gradients_with_multiplicity_equal_those_of_repeated_rows(resampler) -> None:
    f = features(1, 3, 10)
    counts = torch.tensor([[1.0, 5.0, 2.0]])
    repeated = f[0].repeat_interleave(counts[0].long(), dim=0)[None]
    parameters = list(resampler.parameters())
    ours = torch.autograd.grad(resampler(f, counts).square().sum(), parameters)
    theirs = torch.autograd.grad(resampler(repeated).square().sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_multiplicity_of_one_changes_nothing(resampler) -> None:
    f = features(2, 4, 10)
    torch.testing.assert_close(resampler(f, torch.ones(2, 4)), resampler(f), atol=1e-12, rtol=0)


def test_large_counts_in_bfloat16_are_rounded_once(resampler) -> None:
    """The count enters as its logarithm; rounding the count itself first would add an error."""
    f = features(1, 2, 10)
    low = resampler.bfloat16()
    counts = torch.tensor([[1.0, 3333.0]])
    with torch.no_grad():
        out = low(f.bfloat16(), counts)
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()
