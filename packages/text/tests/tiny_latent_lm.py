"""A small LatentLM and its tokens, for the tests of it."""

from __future__ import annotations

import torch
from multiway_text.decoders.latent_lm.config import LatentLMConfig
from multiway_text.decoders.latent_lm.model import LatentLM

MODEL = {
    "vocab_size": 20,
    "latent_size": 3,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "head_layers": 2,
}
PICTURES = {
    "image_size": 8, "num_channels": 2, "patch_size": 4, "latent_size": 3, "hidden_size": 16, "num_layers": 1,
    "num_heads": 2, "inner_size": 24,
}  # fmt: skip
BEGIN, END, LATENT, NULL, EOS = range(5)


def perturbed_model() -> LatentLM:
    """Random weights, every tensor perturbed (the head begins at zero)."""
    torch.manual_seed(0)
    model = LatentLM(LatentLMConfig(**MODEL)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.measure_latents(2 + 3 * torch.randn(100, 3))
    return model
