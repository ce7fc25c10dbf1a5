"""Position codes against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from multiway_blocks.position import (
    GridPositions,
    LearnedPositions,
    RelativeBias,
    Rotary,
    SinusoidalPositions,
    XPos,
    sinusoidal_table,
)


def test_sinusoidal_rows_follow_the_formula() -> None:
    table = sinusoidal_table(300, 12, zero_row=1)
    for row in (0, 2, 7, 299):
        angles = [row * 10000 ** (-j / 5) for j in range(6)]
        expected = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)])
        torch.testing.assert_close(table[row], expected, atol=2e-5, rtol=0)
    assert not table[1].any()
    assert sinusoidal_table(4, 13).shape == (4, 13)
    assert not sinusoidal_table(4, 13)[:, 12].any()


def test_sinusoidal_table_grows_and_keeps_its_rows() -> None:
    positions = SinusoidalPositions(8, 16, zero_row=1)
    before = positions(torch.arange(8))
    far = positions(torch.tensor([[20, 3]]))
    assert positions.table.shape[0] >= 21
    torch.testing.assert_close(far[0, 0], sinusoidal_table(21, 16)[20], atol=0, rtol=0)
    torch.testing.assert_close(positions(torch.arange(8)), before, atol=0, rtol=0)
    assert positions(torch.empty(2, 0, dtype=torch.long)).shape == (2, 0, 16)


def test_sinusoidal_table_keeps_its_dtype_when_it_grows() -> None:
    positions = SinusoidalPositions(8, 16).double()
    assert positions(torch.tensor([100])).dtype == torch.float64


def test_computed_tables_are_real_on_the_meta_device_and_not_in_checkpoints() -> None:
    with torch.device("meta"):
        positions, rotary = SinusoidalPositions(8, 16), Rotary(8)
    assert positions.table.device.type == rotary.inverse_frequency.device.type == "cpu"
    assert not positions.state_dict()
    assert not rotary.state_dict()


def test_learned_positions_end() -> None:
    table = LearnedPositions(4, 8)
    assert torch.equal(table(torch.tensor([3]))[0], table.weight[3])
    with pytest.raises(IndexError):
        table(torch.tensor([4]))


def test_grid_is_the_sum_of_row_and_column() -> None:
    grid = GridPositions(5, 6, 8)
    rows, columns = torch.tensor([[1, 4, 0]]), torch.tensor([[5, 2, 0]])
    expected = grid.row.weight[rows] + grid.column.weight[columns]
    assert torch.equal(grid(rows, columns), expected)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_follows_the_formula(interleaved: bool) -> None:
    """Pair ``i`` is a complex number that is multiplied by ``exp(1j * position * theta^(-2 i / D))``."""
    torch.manual_seed(0)
    rotary = Rotary(10, theta=100.0, interleaved=interleaved)
    x = torch.randn(2, 3, 4, 10, dtype=torch.float64)
    positions = torch.tensor([[0, 1, 2, 3], [7, 7, 100, 5]])
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :5], x[..., 5:])
    frequency = 100.0 ** (-2 * torch.arange(5, dtype=torch.float64) / 10)
    angle = positions[:, None, :, None].double() * frequency
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angle), angle)
    out = rotary(x, positions)
    assert out.dtype == torch.float64
    ours = (out[..., 0::2], out[..., 1::2]) if interleaved else (out[..., :5], out[..., 5:])
    torch.testing.assert_close(ours[0], turned.real, atol=2e-5, rtol=0)
    torch.testing.assert_close(ours[1], turned.imag, atol=2e-5, rtol=0)


def test_halves_and_pairs_are_one_rotation_in_another_order() -> None:
    x = torch.randn(1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(5)[None]
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])  # pairs -> halves
    pairs = Rotary(8, interleaved=True)(x, positions)
    halves = Rotary(8)(x[..., order], positions)
    torch.testing.assert_close(halves, pairs[..., order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_scores_depend_on_distance_only(interleaved: bool) -> None:
    torch.manual_seed(0)
    rotary = Rotary(16, interleaved=interleaved).double()
    query, key = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)

    def score(at_query: int, at_key: int) -> float:
        turned_query = rotary(query, torch.tensor([[at_query]]))
        return float((turned_query * rotary(key, torch.tensor([[at_key]]))).sum())

    assert score(3, 1) == pytest.approx(score(52, 50), abs=1e-9)
    assert score(3, 1) != pytest.approx(score(3, 2), abs=1e-3)
    assert torch.equal(rotary(query, torch.zeros(1, 1, dtype=torch.long)), query)


def test_rotary_keeps_half_precision_inputs_exact_in_float32() -> None:
    x = torch.randn(1, 1, 3, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    positions = torch.tensor([[1000, 2000, 3000]])
    out = Rotary(8)(x, positions)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, Rotary(8)(x.float(), positions).bfloat16())


def test_errors_name_the_sizes() -> None:
    with pytest.raises(ValueError, match="even head_dim, got 7"):
        Rotary(7)
    with pytest.raises(ValueError, match="hidden_size of at least 4, got 3"):
        sinusoidal_table(5, 3)


def test_xpos_products_equal_the_published_numbers() -> None:
    # Queries and keys filled by formulas, scale base 512; products of query 5 with keys 0 to 5.
    index = torch.arange(48, dtype=torch.float32).view(1, 1, 6, 8)
    query, key = torch.sin(0.7 * index + 0.1), torch.cos(0.3 * index - 0.2)
    expected = torch.tensor([-2.606922, 1.263435, 0.393585, -1.162926, 1.782605, -1.861698])
    positions = torch.arange(6)[None]
    for centre, shift in ((0, 0), (3, 0), (0, 1000), (-40, 7)):
        xpos = XPos(8, centre=centre)
        turned_query, turned_key = xpos(query, positions + shift), xpos.keys(key, positions + shift)
        products = turned_query[0, 0, 5] @ turned_key[0, 0].T
        torch.testing.assert_close(products, expected, atol=2e-4 if shift == 1000 else 3e-6, rtol=0)


def test_xpos_weakens_far_keys() -> None:
    xpos = XPos(16)
    ones = torch.ones(1, 1, 1, 16)

    def length_of_product(position: int) -> float:
        query = xpos(ones, torch.tensor([[position]]))
        return float(query.norm())  # the key at the centre keeps its length

    assert length_of_product(0) == pytest.approx(4.0)
    assert length_of_product(2000) < length_of_product(500) < length_of_product(10) < 4.0
    far = torch.tensor([[30_000]])
    assert (xpos(ones, far) * xpos.keys(ones, far)).isfinite().all()


def test_relative_bias_against_a_loop() -> None:
    """Buckets of T5 written out for every pair, and queries that stand behind cached keys."""
    torch.manual_seed(0)
    bias = RelativeBias(3, num_buckets=16, max_distance=20)

    def bucket(query: int, key: int) -> int:
        upper, far = (8 if key > query else 0), abs(key - query)
        if far < 4:
            return upper + far
        return upper + min(7, 4 + int(math.log(far / 4) / math.log(20 / 4) * 4))

    whole = bias(40, 40)
    assert whole.shape == (1, 3, 40, 40)
    for query in range(40):
        for key in range(40):
            assert torch.equal(whole[0, :, query, key], bias.bias.weight[bucket(query, key)])
    assert torch.equal(bias(2, 40, offset=38), whole[:, :, 38:])


@pytest.mark.parametrize(
    ("buckets", "distance", "message"), [(7, 20, "num_buckets"), (16, 4, "max_distance")]
)
def test_relative_bias_impossible(buckets: int, distance: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RelativeBias(3, num_buckets=buckets, max_distance=distance)
