"""The sigma-VAE of pictures (arXiv 2412.08635, section 2.2): patches -> latents of a fixed variance -> pixels.

    encoder (vision transformer, its class token dropped) -> Linear -> mean
    mean + level * noise, one level ~ N(0, C_sigma^2) a picture     (multiway_blocks.vae.sample_latents)
    Linear -> transformer over the grid -> Linear, tanh, Linear -> pixels of each patch

Shape suffixes: B pictures, C channels, H height, W width, N latents of a picture (by rows), D latent size, E hidden
size, P numbers in a patch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from multiway_blocks.attention import NO_CONTEXT
from multiway_blocks.position import LearnedPositions
from multiway_blocks.vae import mean_penalty, sample_latents
from multiway_blocks.vision_transformer import VisionTransformer, vision_transformer_layer
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_text.decoders.latent_lm.config import TokenizerConfig

_LOG_VARIANCE = (-30.0, 20.0)


class Posterior(NamedTuple):
    """What the encoder says of pictures."""

    mean_BND: Tensor
    log_variance_BND: Tensor | None
    """None for a sigma-VAE."""


class PictureTokenizer(nn.Module):
    """Pictures in [-1, 1] <-> latents."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        sizes = {"hidden_size": config.hidden_size, "num_heads": config.num_heads}
        gelu = nn.functional.gelu
        self.encoder = VisionTransformer(
            image_size=config.image_size,
            patch_size=config.patch_size,
            num_layers=config.num_layers,
            inner_size=config.inner_size,
            num_channels=config.num_channels,
            activation=gelu,
            **sizes,
        )
        learned = config.variance == "learned"
        self.to_latent = nn.Linear(config.hidden_size, config.latent_size * (2 if learned else 1))
        self.from_latent = nn.Linear(config.latent_size, config.hidden_size)
        self.positions = LearnedPositions(config.num_latents, config.hidden_size)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.layers = nn.ModuleList(
            vision_transformer_layer(inner_size=config.inner_size, activation=gelu, eps=1e-5, **sizes)
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size)
        self.pixels_in = nn.Linear(config.hidden_size, config.hidden_size)
        self.pixels_out = nn.Linear(config.hidden_size, config.num_channels * config.patch_size**2)

    def encode(self, pixels_BCHW: Tensor) -> Posterior:
        """Pictures, float in [-1, 1] -> what to sample latents from. Raises InputError for another shape."""
        size, channels = self.config.image_size, self.config.num_channels
        if pixels_BCHW.ndim != 4 or tuple(pixels_BCHW.shape[1:]) != (channels, size, size):
            raise InputError(
                f"pictures of shape {list(pixels_BCHW.shape[1:])}; this tokenizer takes {[channels, size, size]}"
            )
        found = self.to_latent(self.encoder(pixels_BCHW)[:, 1:])
        if self.config.variance == "fixed":
            return Posterior(found, None)
        mean_BND, log_variance_BND = found.chunk(2, dim=-1)
        return Posterior(mean_BND, log_variance_BND.clamp(*_LOG_VARIANCE))

    def sample(self, posterior: Posterior, generator: torch.Generator | None = None) -> Tensor:
        """Latents (B, N, D): the mean with noise of one level a picture (fixed), or of the learned variance."""
        mean_BND, log_variance_BND = posterior
        if log_variance_BND is None:
            return sample_latents(mean_BND, self.config.noise_std, generator)
        noise = torch.randn(mean_BND.shape, device=mean_BND.device, dtype=mean_BND.dtype, generator=generator)
        return mean_BND + (0.5 * log_variance_BND).exp() * noise

    def decode(self, latents_BND: Tensor) -> Tensor:
        """Latents -> pictures (B, C, H, W), about in [-1, 1] (not cut there)."""
        x_BNE = self.from_latent(latents_BND) + self.positions.weight
        for layer in self.layers:
            x_BNE = layer(x_BNE, NO_CONTEXT)
        patches_BNP = self.pixels_out(self.pixels_in(self.norm(x_BNE)).tanh())
        side, patch = self.config.image_size // self.config.patch_size, self.config.patch_size
        grid = patches_BNP.view(len(latents_BND), side, side, self.config.num_channels, patch, patch)
        return grid.permute(0, 3, 1, 4, 2, 5).reshape(
            len(latents_BND), self.config.num_channels, side * patch, -1
        )

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, Posterior]:
        """Pictures as they come back through noisy latents, and the posterior."""
        posterior = self.encode(pixels_BCHW)
        return self.decode(self.sample(posterior)), posterior

    def penalty(self, posterior: Posterior) -> Tensor:
        """The divergence from N(0, 1) that the variance leaves: a scalar, a mean over elements."""
        mean_BND, log_variance_BND = posterior
        if log_variance_BND is None:
            return mean_penalty(mean_BND)
        return 0.5 * (mean_BND.square() + log_variance_BND.exp() - 1 - log_variance_BND).mean()
