"""Causal convolutional autoencoder with a variational bottleneck of fixed variance (sigma-VAE).

LatentLM (arXiv 2412.08635, section 2.2) does not learn the variance of its latents: it draws one noise level for each
example, so that the variance cannot collapse and a decoder learns to bear the errors of an autoregressive sampler.

Shape suffixes: B batch, C channels, T time steps of the signal, F frames, D latent size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from multiway_blocks.causal_conv import CausalConv1d, CausalConvBlock, CausalConvTranspose1d, StreamState


class CausalEncoder(nn.Module):
    """Signal -> frames: a stem, then stages of blocks, each but the first behind a strided convolution.

    Channels double from stage to stage, or are what ``widths`` says. ``ratios`` are the strides in order, ``depths``
    the blocks of each stage (one more than ``ratios``).
    """

    def __init__(
        self,
        *,
        latent_size: int,
        num_filters: int,
        ratios: Sequence[int],
        depths: Sequence[int],
        widths: Sequence[int] | None = None,
        in_channels: int = 1,
        kernel_size: int = 7,
        expansion: int = 4,
        eps: float = 1e-5,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        widths = _widths(num_filters, ratios, depths) if widths is None else widths
        self.hop = math.prod(ratios)
        self.stem = CausalConv1d(in_channels, widths[0], kernel_size)
        self.downsample = nn.ModuleList(
            CausalConv1d(widths[i], widths[i + 1], 2 * ratio, stride=ratio) for i, ratio in enumerate(ratios)
        )
        self.stages = _stages(
            widths, depths, kernel_size=kernel_size, expansion=expansion, eps=eps, layer_scale=layer_scale
        )
        self.head = CausalConv1d(widths[-1], latent_size, kernel_size)

    def forward(self, x_BCT: Tensor, state: StreamState | None = None) -> Tensor:
        """(B, C, T) -> (B, T // hop, D). With ``state``, samples of a partial frame wait for the next piece."""
        x_BCT = self.stem(x_BCT, state)
        for index, blocks in enumerate(self.stages):
            if index:
                x_BCT = self.downsample[index - 1](x_BCT, state)
            for block in cast(nn.ModuleList, blocks):
                x_BCT = block(x_BCT, state)
        return self.head(x_BCT, state).transpose(1, 2)


class CausalDecoder(nn.Module):
    """Frames -> signal: the mirror of :class:`CausalEncoder`. ``ratios``, ``depths`` and ``widths`` in its order."""

    def __init__(
        self,
        *,
        latent_size: int,
        num_filters: int,
        ratios: Sequence[int],
        depths: Sequence[int],
        widths: Sequence[int] | None = None,
        out_channels: int = 1,
        kernel_size: int = 7,
        expansion: int = 4,
        eps: float = 1e-5,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        widths = _widths(num_filters, ratios, depths)[::-1] if widths is None else widths
        self.hop = math.prod(ratios)
        self.stem = CausalConv1d(latent_size, widths[0], kernel_size)
        self.upsample = nn.ModuleList(
            CausalConvTranspose1d(widths[i], widths[i + 1], 2 * ratio, stride=ratio)
            for i, ratio in enumerate(ratios)
        )
        self.stages = _stages(
            widths, depths, kernel_size=kernel_size, expansion=expansion, eps=eps, layer_scale=layer_scale
        )
        self.head = CausalConv1d(widths[-1], out_channels, kernel_size)

    def forward(self, latents_BFD: Tensor, state: StreamState | None = None) -> Tensor:
        """(B, F, D) -> (B, C, F * hop)."""
        x_BCT = self.stem(latents_BFD.transpose(1, 2), state)
        for index, blocks in enumerate(self.stages):
            if index:
                x_BCT = self.upsample[index - 1](x_BCT, state)
            for block in cast(nn.ModuleList, blocks):
                x_BCT = block(x_BCT, state)
        return self.head(x_BCT, state)


def sample_latents(mean_BFD: Tensor, noise_std: float, generator: torch.Generator | None = None) -> Tensor:
    """``mean + s * e``: one noise level ``s ~ N(0, noise_std^2)`` an example, ``e ~ N(0, 1)`` an element.

    LatentLM, equation 4. The shape and dtype of ``mean``.
    """
    device, dtype = mean_BFD.device, mean_BFD.dtype
    level_B = noise_std * torch.randn(len(mean_BFD), device=device, dtype=dtype, generator=generator)
    noise_BFD = torch.randn(mean_BFD.shape, device=device, dtype=dtype, generator=generator)
    return mean_BFD + level_B[:, None, None] * noise_BFD


def mean_penalty(mean_BFD: Tensor) -> Tensor:
    """The part of the KL divergence to N(0, 1) that a fixed variance leaves: the mean square of the means, a scalar."""
    return mean_BFD.square().mean()


def _widths(num_filters: int, ratios: Sequence[int], depths: Sequence[int]) -> list[int]:
    if len(depths) != len(ratios) + 1:
        raise ValueError(f"{len(ratios)} ratios need {len(ratios) + 1} depths, got {len(depths)}")
    return [num_filters * 2**i for i in range(len(depths))]


def _stages(
    widths: Sequence[int],
    depths: Sequence[int],
    *,
    kernel_size: int,
    expansion: int,
    eps: float,
    layer_scale: float,
) -> nn.ModuleList:
    return nn.ModuleList(
        nn.ModuleList(
            CausalConvBlock(
                width, kernel_size=kernel_size, expansion=expansion, eps=eps, layer_scale=layer_scale
            )
            for _ in range(depth)
        )
        for width, depth in zip(widths, depths, strict=True)
    )
