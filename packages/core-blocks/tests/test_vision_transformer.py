"""The CLIP-style encoder: its order of tokens and its parts, and one block by its formula."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.feedforward import quick_gelu
from multiway_blocks.transformer import Context
from multiway_blocks.vision_transformer import VisionTransformer


@pytest.fixture(scope="module")
def tower() -> VisionTransformer:
    torch.manual_seed(0)
    tower = VisionTransformer(
        image_size=13, patch_size=4, hidden_size=24, num_layers=2, num_heads=3, inner_size=40
    )
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return tower.double().eval()


def pixels(rows: int) -> torch.Tensor:
    return torch.randn(rows, 3, 13, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@torch.no_grad()
def test_tokens_by_definition(tower) -> None:
    """The class token, then patches by rows, flattened and multiplied; what no patch covers is unseen."""
    picture = pixels(1)
    weight = tower.patch_embedding.weight.flatten(1)
    tokens = [tower.class_embedding]
    for row in range(3):
        for column in range(3):
            patch = picture[0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            tokens.append(weight @ patch.flatten())
    x = tower.input_norm(torch.stack(tokens) + tower.positions.weight)[None]
    for layer in tower.layers:
        x = layer(x, Context())
    torch.testing.assert_close(tower(picture), tower.norm(x), atol=1e-12, rtol=0)
    changed = picture.clone()
    changed[:, :, 12] += 1
    assert torch.equal(tower(changed), tower(picture))


@torch.no_grad()
def test_block_by_its_formula(tower) -> None:
    layer = tower.layers[0]
    x = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    middle = x + layer.attention(layer.attention_norm(x))
    inner = layer.feedforward.up(layer.feedforward_norm(middle))
    expected = middle + layer.feedforward.down(inner * torch.sigmoid(1.702 * inner))
    torch.testing.assert_close(layer(x, Context()), expected, atol=1e-12, rtol=0)


def test_quick_gelu_is_near_gelu() -> None:
    x = torch.linspace(-4, 4, 101)
    difference = (quick_gelu(x) - torch.nn.functional.gelu(x)).abs().max()
    assert 1e-3 < difference < 0.03


@torch.no_grad()
def test_rows_do_not_mix(tower) -> None:
    both = tower(pixels(2))
    torch.testing.assert_close(both[1:], tower(pixels(2)[1:]), atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [(13, 12), (14, 14)])
def test_other_sizes_are_refused(tower, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{shape[0]}x{shape[1]} pixels; this tower takes 13x13"):
        tower(torch.zeros(1, 3, *shape))
