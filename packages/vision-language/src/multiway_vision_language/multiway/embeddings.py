"""Pictures as patch embeddings, and tables of positions for other resolutions.

Shape suffixes: B batch, C channels, H height, W width, N patches, T tokens, E hidden size.
"""

from __future__ import annotations

import torch
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_vision_language.multiway.config import MultiwayConfig

OFFSET = 2
"""Positions count from 2, as fairseq's do."""


class ImageEmbedding(nn.Module):
    """Square pictures -> a class token and patches by rows; hidden patches become the mask token."""

    def __init__(self, config: MultiwayConfig, *, mask_token: bool = True) -> None:
        super().__init__()
        self.image_size, width = config.image_size, config.hidden_size
        self.projection = nn.Conv2d(config.num_channels, width, config.patch_size, stride=config.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width)) if mask_token else None

    def forward(self, pixels_BCHW: Tensor, hidden_BN: Tensor | None = None) -> Tensor:
        """(B, C, H, W) float -> (B, 1 + N, E). ``hidden_BN``: bool, patches that are masked.

        Raises InputError: pictures of another size.
        """
        channels, size = self.projection.in_channels, self.image_size
        if pixels_BCHW.ndim != 4 or tuple(pixels_BCHW.shape[1:]) != (channels, size, size):
            raise InputError(
                f"pictures are {tuple(pixels_BCHW.shape)}; this model takes (B, {channels}, {size}, {size})"
            )
        patches_BNE = self.projection(pixels_BCHW).flatten(2).transpose(1, 2)
        if hidden_BN is not None:
            if self.mask_token is None:
                raise InputError("this model has no token for masked patches")
            patches_BNE = torch.where(
                hidden_BN[..., None], self.mask_token.to(patches_BNE.dtype), patches_BNE
            )
        class_B1E = self.class_token.to(patches_BNE.dtype).expand(len(patches_BNE), -1, -1)
        return torch.cat([class_B1E, patches_BNE], dim=1)


def resize_grid(table_NE: Tensor, extra: int, grid: int) -> Tensor:
    """Positions of patches, bicubically interpolated to ``grid`` x ``grid``; the first ``extra`` rows stay.

    (extra + n * n, E) -> (extra + grid * grid, E). Raises InputError: the patches are no square.
    """
    patches_NE = table_NE[extra:]
    side = round(len(patches_NE) ** 0.5)
    if side < 1 or side * side != len(patches_NE):
        raise InputError(
            f"a table of {len(table_NE)} positions holds no square of patches behind {extra} rows"
        )
    if side == grid:
        return table_NE
    square = patches_NE.T.reshape(1, -1, side, side).float()
    resized = nn.functional.interpolate(square, (grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([table_NE[:extra], resized[0].flatten(1).T.to(table_NE.dtype)])
