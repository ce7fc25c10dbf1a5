"""The tables of DeepNet (figure 2) and Magneto (figure 2)."""

from __future__ import annotations

import pytest
from multiway_blocks.residual_scaling import (
    deep_norm_decoder,
    deep_norm_encoder,
    sub_norm_decoder,
    sub_norm_encoder,
)


@pytest.mark.parametrize(
    ("layers", "alpha", "divisor", "gamma"),
    [
        (6, 1.86121, 2.63215, 1.57636),
        (12, 2.21336, 3.13017, 1.78271),
        (24, 2.63215, 3.72242, 1.96754),
    ],
)
def test_one_half_alone(layers: int, alpha: float, divisor: float, gamma: float) -> None:
    assert deep_norm_encoder(layers) == pytest.approx((alpha, divisor), abs=1e-5)
    assert deep_norm_decoder(layers) == pytest.approx((alpha, divisor), abs=1e-5)
    assert sub_norm_encoder(layers) == pytest.approx(gamma, abs=1e-5)
    assert sub_norm_decoder(layers) == pytest.approx(gamma, abs=1e-5)


def test_encoder_and_decoder() -> None:
    assert deep_norm_encoder(12, 12) == pytest.approx((1.76088, 1.89037), abs=1e-5)
    assert deep_norm_decoder(12, cross_attention=True) == pytest.approx((2.44949, 3.46410), abs=1e-5)
    assert sub_norm_encoder(12, 12) == pytest.approx(1.94839, abs=1e-5)
    assert sub_norm_decoder(12, cross_attention=True) == pytest.approx(1.89302, abs=1e-5)
