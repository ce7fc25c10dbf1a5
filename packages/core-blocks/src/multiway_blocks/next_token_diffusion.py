"""What a model of continuous latents learns: to denoise each latent from the hidden state before it.

The objective of LatentLM (arXiv 2412.08635, section 2.3), of pictures and of speech (VibeVoice, arXiv 2508.19205)
alike: the latent at position t of a causal language model is predicted by a small diffusion head whose condition is
the hidden state at t - 1.

Shape suffixes: B batch, T positions, N latents of all rows in order, D latent size, H hidden size, K draws * N.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multiway_blocks.diffusion import CosineSchedule, DiffusionHead


def next_token_diffusion_loss(
    head: DiffusionHead,
    schedule: CosineSchedule,
    hidden_BTH: Tensor,
    is_latent_BT: Tensor,
    latents_ND: Tensor,
    *,
    draws: int = 4,
) -> Tensor:
    """Loss (N,) float32 of each latent: squared error of its velocity, a mean over its D numbers and over the draws.

    A draw is a time, uniform over the schedule's steps, and a noise of its own. The Transformer runs once for all of
    them: only the head is cheap enough to see each latent several times. Times and noise come from torch's global
    generator.

    Args:
        hidden_BTH: last hidden states of the language model that has read the latents.
        is_latent_BT: bool, where the latents stand; never at a row's first position, which nothing precedes.
        latents_ND: the clean latents there, normalized, rows in order.
        draws: noises for each latent.

    Raises:
        ValueError: fewer than one draw; a latent that nothing precedes; places and latents that are not as many.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    before_NH = hidden_BTH[:, :-1][is_latent_BT[:, 1:]]
    if len(before_NH) != len(latents_ND):
        raise ValueError(
            f"{len(before_NH)} places for latents behind a row's first position and {len(latents_ND)} latents"
        )
    latents_KD = latents_ND.repeat(draws, 1)
    times_K = torch.randint(schedule.num_steps, (len(latents_KD),), device=latents_KD.device)
    noise_KD = torch.randn_like(latents_KD)
    noisy_KD = schedule.add_noise(latents_KD, noise_KD, times_K)
    target_KD = schedule.velocity(latents_KD, noise_KD, times_K)
    condition_KH = head.condition(before_NH).repeat(draws, 1) + head.embed_times(times_K)
    error_KD = head.denoise(noisy_KD, condition_KH).float() - target_KD
    return error_KD.square().mean(dim=-1).unflatten(0, (draws, len(latents_ND))).mean(dim=0)
