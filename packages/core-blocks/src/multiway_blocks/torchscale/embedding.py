"""Embeddings of tokens, positions and pictures, with TorchScale's names."""

from __future__ import annotations

from typing import Any

import torch
from multiway_core.errors import InputError
from torch import Tensor, nn


class TextEmbedding(nn.Embedding):
    """Tokens, N(0, 1 / width) at the start; the padding token's row is zero."""

    def reset_parameters(self) -> None:
        """Initialise anew."""
        nn.init.normal_(self.weight, std=self.embedding_dim**-0.5)
        self._fill_padding_idx_with_zero()


class PositionalEmbedding(nn.Embedding):
    """Learned positions, which count from 2 as fairseq's do: a table of n rows holds n - 2 positions."""

    def forward(self, x: Tensor, positions: Tensor | None = None, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """Codes (1, T, E) for tokens (B, T) or their embeddings (B, T, E), or for int64 ``positions`` of any shape."""
        if positions is None:
            room = self.num_embeddings - 2
            if x.shape[1] > room:
                raise InputError(f"{x.shape[1]} tokens, and there are positions for {room}")
            positions = torch.arange(2, x.shape[1] + 2, device=x.device)[None]
        return super().forward(positions)


class VisionEmbedding(nn.Module):
    """Pictures as patch embeddings, optionally with a token for masked patches and a class token in front."""

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        contain_mask_token: bool = False,
        prepend_cls_token: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= patch_size <= img_size:
            raise InputError(f"patch_size must be 1 to img_size {img_size}, not {patch_size}")
        self.img_size, self.patch_size = (img_size, img_size), (patch_size, patch_size)
        self.patch_shape = (img_size // patch_size, img_size // patch_size)
        self.num_patches = self.patch_shape[0] * self.patch_shape[1]
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if contain_mask_token else None
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if prepend_cls_token else None

    def num_position_embeddings(self) -> int:
        """Patches, and the class token."""
        return self.num_patches + (self.cls_token is not None)

    def forward(self, x: Tensor, masked_position: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Pictures (B, C, H, W) -> (B, T, E). ``masked_position`` (B, patches) bool: patches that are hidden."""
        channels = self.proj.in_channels
        if x.ndim != 4 or tuple(x.shape[1:]) != (channels, *self.img_size):
            wanted = f"(B, {channels}, {self.img_size[0]}, {self.img_size[1]})"
            raise InputError(f"pictures have the shape {tuple(x.shape)}, the model needs {wanted}")
        patches = self.proj(x).flatten(2).transpose(1, 2)
        if masked_position is not None:
            if self.mask_token is None:
                raise InputError("masked_position needs an embedding with contain_mask_token=True")
            hidden = masked_position[..., None].to(patches.dtype)
            patches = patches * (1 - hidden) + self.mask_token * hidden
        if self.cls_token is not None:
            patches = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        return patches


class VisionLanguageEmbedding(nn.Module):
    """A picture's patches and then text, or either alone."""

    def __init__(self, text_embed: nn.Module, vision_embed: nn.Module) -> None:
        super().__init__()
        self.text_embed, self.vision_embed = text_embed, vision_embed

    def forward(self, textual_tokens: Tensor | None, visual_tokens: Tensor | None, **kwargs: Any) -> Tensor:
        """Tokens (B, T) and pictures (B, C, H, W), of which one may be None -> (B, patches + T, E)."""
        parts = []
        if visual_tokens is not None:
            parts.append(self.vision_embed(visual_tokens))
        if textual_tokens is not None:
            parts.append(self.text_embed(textual_tokens))
        if not parts:
            raise InputError("neither textual_tokens nor visual_tokens given")
        return torch.cat(parts, dim=1)
