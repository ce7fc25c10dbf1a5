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


def patchify(image_CHW: Tensor, patch_size: int) -> Tensor:
    """Cut non-overlapping patches in row-major order: (rows * columns, patch_size * patch_size * C).

    Each patch is flattened as (y, x, channel), channel fastest. Height and width must be multiples of ``patch_size``.
    """
    channels, height, width = image_CHW.shape
    if height % patch_size or width % patch_size:
        raise ValueError(f"image {height}x{width} is not a whole number of {patch_size}-pixel patches")
    grid = image_CHW.reshape(channels, height // patch_size, patch_size, width // patch_size, patch_size)
    return grid.permute(1, 3, 2, 4, 0).reshape(-1, patch_size * patch_size * channels)


class VisionBlock(nn.Module):
    """Pre-norm block without biases: ``x + attention(norm(x))``, then ``x + feedforward(norm(x))``."""

    def __init__(self, hidden_size: int, num_heads: int, head_dim: int, inner_size: int, eps: float) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(hidden_size, eps)
        self.attention = Attention(hidden_size, num_heads, head_dim=head_dim)
        self.feedforward_norm = RMSNorm(hidden_size, eps)
        self.feedforward = GatedFeedForward(hidden_size, inner_size)

    def forward(self, x_BNE: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, E) -> (B, N, E)."""
        x_BNE = x_BNE + self.attention(self.attention_norm(x_BNE), mask=mask)
        return x_BNE + self.feedforward(self.feedforward_norm(x_BNE))


class VisionEncoder(nn.Module):
    """Patches with their grid places -> one feature vector a patch."""

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
        self.layers = nn.ModuleList(
            VisionBlock(hidden_size, num_heads, head_dim, inner_size, eps) for _ in range(num_layers)
        )
        self.norm = RMSNorm(hidden_size, eps)

    def forward(self, patches_BNP: Tensor, rows_BN: Tensor, columns_BN: Tensor) -> Tensor:
        """Encode patches (B, N, P) float at 1-based ``rows`` and ``columns`` (B, N) int64: (B, N, E).

        Places with row 0 are padding: no patch looks at them, but they have outputs of their own (all padding of one
        image has the same output, since it has the same input and sees the same keys).
        """
        x_BNE = self.patch_projection(patches_BNP) + self.positions(rows_BN, columns_BN)
        valid_BN = rows_BN != 0
        # Without padding there is no mask, which lets attention take its fastest path.
        mask = None if not torch.compiler.is_compiling() and bool(valid_BN.all()) else padding_mask(valid_BN)
        for layer in self.layers:
            x_BNE = layer(x_BNE, mask)
        return self.norm(x_BNE)
