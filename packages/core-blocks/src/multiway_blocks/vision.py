"""Pix2Struct-style vision encoder: patches of a variable grid, learned row and column codes, pre-norm blocks.

Shape suffixes: B batch, N patches, P numbers in a patch (height * width * channels), E hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_blocks.attention import Attention, padding_mask
from multiway_blocks.feedforward import GatedFeedForward
from multiway_blocks.norm import RMSNorm
from multiway_blocks.position import GridPositions
from multiway_blocks.transformer import Context, PreNorm, Stack


def patchify(image_CHW: Tensor, patch_size: int) -> Tensor:
    """Cut non-overlapping patches in row-major order: (rows * columns, patch_size * patch_size * C).

    Each patch is flattened as (y, x, channel), channel fastest. Height and width must be multiples of ``patch_size``.
    """
    channels, height, width = image_CHW.shape
    if height % patch_size or width % patch_size:
        raise ValueError(f"image {height}x{width} is not a whole number of {patch_size}-pixel patches")
    grid = image_CHW.reshape(channels, height // patch_size, patch_size, width // patch_size, patch_size)
    return grid.permute(1, 3, 2, 4, 0).reshape(-1, patch_size * patch_size * channels)


class VisionEncoder(Stack):
    """Patches with their grid places -> one feature vector a patch. Blocks are pre-norm, without biases."""

    def __init__(
        self,
        *,
        patch_dim: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        head_dim: int,
        inner_size: int,
        num_grid_positions: int,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.patch_projection = nn.Linear(patch_dim, hidden_size)
        self.positions = GridPositions(num_grid_positions, num_grid_positions, hidden_size)
        self.layers.extend(
            PreNorm(
                Attention(hidden_size, num_heads, head_dim=head_dim),
                GatedFeedForward(hidden_size, inner_size),
                (RMSNorm(hidden_size, eps), RMSNorm(hidden_size, eps)),
            )
            for _ in range(num_layers)
        )
        self.norm = RMSNorm(hidden_size, eps)

    def forward(  # type: ignore[override]
        self, patches_BNP: Tensor, rows_BN: Tensor, columns_BN: Tensor
    ) -> Tensor:
        """Encode patches (B, N, P) float at 1-based ``rows`` and ``columns`` (B, N) int64: (B, N, E).

        Places with row 0 are padding: no patch looks at them, but they have outputs of their own (all padding of one
        image has the same output, since it has the same input and sees the same keys).
        """
        x_BNE = self.patch_projection(patches_BNP) + self.positions(rows_BN, columns_BN)
        valid_BN = rows_BN != 0
        # Without padding there is no mask, which lets attention take its fastest path.
        mask = None if not torch.compiler.is_compiling() and bool(valid_BN.all()) else padding_mask(valid_BN)
        return super().forward(x_BNE, Context(mask))
