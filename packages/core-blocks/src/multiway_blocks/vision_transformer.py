"""CLIP-style vision transformer: square patches, a class token, learned positions, pre-norm blocks with biases.

Shape suffixes: B batch, C channels, H height, W width, N tokens (the class token first, then patches by rows), E hidden
size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_blocks.attention import Attention
from multiway_blocks.feedforward import Activation, FeedForward, quick_gelu
from multiway_blocks.position import LearnedPositions
from multiway_blocks.transformer import Context, PreNorm, Stack


def vision_transformer_layer(
    hidden_size: int, num_heads: int, inner_size: int, *, activation: Activation, eps: float
) -> PreNorm:
    """A pre-norm block with LayerNorms and biases."""
    return PreNorm(
        Attention(hidden_size, num_heads, bias=True),
        FeedForward(hidden_size, inner_size, activation=activation),
        (nn.LayerNorm(hidden_size, eps=eps), nn.LayerNorm(hidden_size, eps=eps)),
    )


class VisionTransformer(Stack):
    """Pictures of one size -> a feature vector for the class token and for every patch (Radford et al. 2021, CLIP).

    A norm stands before the first block and another behind the last one; the latter is applied to all tokens, where
    CLIP itself applies it to the class token only.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        inner_size: int,
        num_channels: int = 3,
        activation: Activation = quick_gelu,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        num_patches = (image_size // patch_size) ** 2
        self.patch_embedding = nn.Conv2d(
            num_channels, hidden_size, kernel_size=patch_size, stride=patch_size, bias=False
        )
        self.class_embedding = nn.Parameter(torch.randn(hidden_size))
        self.positions = LearnedPositions(num_patches + 1, hidden_size)
        self.input_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.layers.extend(
            vision_transformer_layer(hidden_size, num_heads, inner_size, activation=activation, eps=eps)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size, eps=eps)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:  # type: ignore[override]
        """Normalised pixels, float (B, C, image_size, image_size) -> (B, 1 + patches, E).

        Raises ``ValueError`` for pictures of another size.
        """
        size = self.image_size
        if tuple(pixels_BCHW.shape[2:]) != (size, size):
            height, width = pixels_BCHW.shape[2:]
            raise ValueError(f"pictures of {height}x{width} pixels; this tower takes {size}x{size}")
        patches_BNE = self.patch_embedding(pixels_BCHW).flatten(2).transpose(1, 2)
        class_B1E = self.class_embedding.to(patches_BNE.dtype).expand(len(patches_BNE), 1, -1)
        x_BNE = torch.cat([class_B1E, patches_BNE], dim=1) + self.positions.weight
        x_BNE = self.input_norm(x_BNE)
        return super().forward(x_BNE, Context())
