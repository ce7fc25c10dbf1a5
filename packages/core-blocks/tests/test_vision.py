"""Patches in the published order, and what padding may and may not change in the encoder."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.vision import VisionEncoder, patchify
from torch import Tensor


def test_patches_are_row_major_with_channel_fastest() -> None:
    image = torch.arange(3 * 4 * 6).view(3, 4, 6).float()
    patches = patchify(image, 2)
    assert patches.shape == (6, 12)
    # Second patch of the first row: rows 0-1, columns 2-3; pixel by pixel, three channels each.
    expected = [image[c, y, x].item() for y in (0, 1) for x in (2, 3) for c in range(3)]
    assert patches[1].tolist() == expected
    assert patches[3, :3].tolist() == image[:, 2, 0].tolist()


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 4, 5)])
def test_broken_patches_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"{shape[1]}x{shape[2]} is not a whole number of 2-pixel patches"):
        patchify(torch.zeros(shape), 2)


@pytest.fixture(scope="module")
def encoder() -> VisionEncoder:
    torch.manual_seed(0)
    return VisionEncoder(
        patch_dim=12,
        hidden_size=40,
        num_layers=2,
        num_heads=5,
        head_dim=16,
        inner_size=56,
        num_grid_positions=20,
    ).double()


def grid(rows: int, columns: int, padding: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    pixels = torch.randn(1, rows * columns, 12, generator=generator, dtype=torch.float64)
    row_ids = torch.arange(1, rows + 1).repeat_interleave(columns)[None]
    column_ids = torch.arange(1, columns + 1).repeat(rows)[None]
    pad = torch.nn.functional.pad
    return pad(pixels, (0, 0, 0, padding)), pad(row_ids, (0, padding)), pad(column_ids, (0, padding))


def test_padding_does_not_change_real_patches_and_has_one_value(encoder) -> None:
    with torch.no_grad():
        alone, padded = encoder(*grid(2, 3)), encoder(*grid(2, 3, padding=4))
    torch.testing.assert_close(padded[:, :6], alone, atol=1e-12, rtol=0)
    torch.testing.assert_close(padded[0, 6:], padded[0, 6:7].expand(4, -1), atol=1e-12, rtol=0)
    assert padded.isfinite().all()


def test_batch_of_two_grids_equals_each_alone(encoder) -> None:
    first, second = grid(2, 3, padding=2), grid(4, 2)
    with torch.no_grad():
        both = encoder(*(torch.cat(parts) for parts in zip(first, second, strict=True)))
        torch.testing.assert_close(both[:1], encoder(*first), atol=1e-12, rtol=0)
        torch.testing.assert_close(both[1:], encoder(*second), atol=1e-12, rtol=0)


def test_places_matter(encoder) -> None:
    pixels, rows, columns = grid(2, 3)
    with torch.no_grad():
        assert (encoder(pixels, rows, columns) - encoder(pixels, columns, rows)).abs().max() > 1e-3


def test_training_path_equals_inference(encoder) -> None:
    inputs = grid(2, 3, padding=1)
    with torch.no_grad():
        expected = encoder(*inputs)
    torch.testing.assert_close(encoder(*inputs).detach(), expected, atol=1e-10, rtol=0)
