"""Stochastic depth."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.drop_path import DropPath


def test_rows_are_kept_whole_or_dropped_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    layer = DropPath(0.25)
    x = torch.ones(4000, 2, 3)
    y = layer(x)
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (y.amax(dim=(1, 2)) == y.amin(dim=(1, 2))).all()
    assert y.mean().item() == pytest.approx(1.0, abs=0.03)
    assert layer.eval()(x) is x
    assert DropPath(0.0)(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_impossible_rates(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be"):
        DropPath(rate)
