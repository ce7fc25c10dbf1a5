"""The two published layouts of ternary weights: golden values, there and back, damage."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.ternary_formats import (
    pack_i2_s,
    pack_rows,
    scale_of,
    unpack_i2_s,
    unpack_rows,
)
from multiway_core.errors import CheckpointError


def draw(outputs: int, inputs: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-1, 2, (outputs, inputs), generator=generator, dtype=torch.int8)


def test_rows_golden() -> None:
    rows = [[0, 1, 1], [-1, -1, 1], [1, 0, -1], [-1, 1, 1], [0, -1, -1], [1, 1, 0], [-1, 0, 1], [1, -1, -1]]
    ternary = torch.tensor(rows, dtype=torch.int8)
    packed = pack_rows(ternary)
    assert packed.tolist() == [[25, 70, 130], [160, 40, 26]]
    assert torch.equal(unpack_rows(packed), ternary)


def test_i2_s_layout() -> None:
    """Byte j of a block holds weights j, j + 32, j + 64, j + 96, highest bits first; the scale follows the blocks."""
    ternary = torch.zeros(2, 128, dtype=torch.int8)
    ternary[1, 3], ternary[1, 35], ternary[1, 67], ternary[1, 99] = 1, -1, 0, 1
    data = pack_i2_s(ternary, 0.75)
    assert data.numel() == 2 * 32 + 32
    assert int(data[32 + 3]) == 0b10_00_01_10
    assert int(data[0]) == 0b01_01_01_01
    assert data[64:68].view(torch.float32).item() == 0.75
    values, scale = unpack_i2_s(data, 2, 128)
    assert torch.equal(values, ternary)
    assert scale.item() == 0.75


@pytest.mark.parametrize(("outputs", "inputs"), [(4, 1), (12, 7), (8, 128), (20, 384)])
def test_there_and_back(outputs: int, inputs: int) -> None:
    ternary = draw(outputs, inputs)
    assert torch.equal(unpack_rows(pack_rows(ternary)), ternary)
    if inputs % 128 == 0:
        assert torch.equal(unpack_i2_s(pack_i2_s(ternary, 1.5), outputs, inputs)[0], ternary)


def test_scales() -> None:
    assert scale_of(torch.tensor([0.5]), divides=False) == 0.5
    assert scale_of(torch.tensor([4.0], dtype=torch.bfloat16), divides=True) == 0.25


@pytest.mark.parametrize("bad", [[0.0], [-1.0], [float("nan")], [float("inf")], [1.0, 2.0], []])
def test_bad_scales(bad: list[float]) -> None:
    with pytest.raises(CheckpointError, match=r"layer\.scale: expected one number above 0"):
        scale_of(torch.tensor(bad), divides=False, name="layer.scale")


def test_shapes_that_do_not_pack() -> None:
    with pytest.raises(ValueError, match="6 rows"):
        pack_rows(draw(6, 4))
    with pytest.raises(ValueError, match="multiple of 128"):
        pack_i2_s(draw(4, 100), 1.0)


def test_damage() -> None:
    packed = pack_rows(draw(8, 5))
    packed[0, 0] |= 3
    with pytest.raises(CheckpointError, match=r"a\.weight: holds codes"):
        unpack_rows(packed, name="a.weight")
    data = pack_i2_s(draw(4, 128), 1.0)
    with pytest.raises(CheckpointError, match=r"a\.weight: 159 bytes are no I2_S tensor of 4 x 128"):
        unpack_i2_s(data[:-1], 4, 128, name="a.weight")
    data[128:132] = 255
    with pytest.raises(CheckpointError, match=r"its scale is nan"):
        unpack_i2_s(data, 4, 128)
