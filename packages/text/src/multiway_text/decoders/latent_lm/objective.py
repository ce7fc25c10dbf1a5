"""What LatentLM learns: cross-entropy on tokens and diffusion on latents (arXiv 2412.08635, section 2.3).

Shape suffixes: B batch, T tokens, N latents of all rows in order, D latent size, K draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from multiway_blocks.next_token_diffusion import next_token_diffusion_loss
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_text.decoders.latent_lm.model import LatentLM
from multiway_text.decoders.latent_lm.tokenizer import PictureTokenizer

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Documents as tensors: what the model reads and what it is to say."""

    tokens_BT: Tensor
    """int64, the id ``latent`` where a latent stands."""
    valid_BT: Tensor
    """bool, False at padding."""
    latents_ND: Tensor
    """float, normalized."""


class Losses(NamedTuple):
    """Sums and counts."""

    token_total: Tensor
    num_tokens: Tensor
    latent_total: Tensor
    num_latents: int


def hide_prompts(tokens_BT: Tensor, hidden_B: Tensor, model: LatentLM) -> Tensor:
    """Tokens with every text of the rows in ``hidden`` (B,) bool as ``null``: what guidance's second context reads."""
    text_BT = tokens_BT >= model.config.tokens.first_text
    return torch.where(text_BT & hidden_B[:, None], model.config.tokens.null, tokens_BT)


def losses(model: LatentLM, batch: Batch, *, draws: int = 4) -> Losses:
    """One pass of the Transformer, and ``draws`` passes of the head, each latent with its own times and noises.

    Every token but the first of a row is predicted from those before it (``latent`` and ``end`` included, ``null``
    not); a latent's loss is that of `multiway_blocks.next_token_diffusion`.
    """
    if draws < 1:
        raise InputError(f"draws must be at least 1, not {draws}")
    tokens, ids = batch.tokens_BT, model.config.tokens
    hidden_BTE = model.decoder(model.embed(tokens, batch.latents_ND), batch.valid_BT)
    follows_BT = batch.valid_BT[:, 1:] & batch.valid_BT[:, :-1]
    counted_BT = follows_BT & (tokens[:, 1:] != ids.null)
    targets_BT = torch.where(counted_BT, tokens[:, 1:], IGNORED)
    logits = model.logits(hidden_BTE[:, :-1][counted_BT]).float()
    token_total = nn.functional.cross_entropy(logits, targets_BT[counted_BT], reduction="sum")
    latent_N = next_token_diffusion_loss(
        model.diffusion_head, model.schedule, hidden_BTE, tokens == ids.latent, batch.latents_ND, draws=draws
    )
    return Losses(token_total, counted_BT.sum(), latent_N.sum(), len(batch.latents_ND))


def tokenizer_loss(tokenizer: PictureTokenizer, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and squared error, scalars: the mean over pixels, and ``mean_weight`` times the divergence.

    The paper adds a perceptual and an adversarial loss for photographs; neither is here.
    """
    found_BCHW, posterior = tokenizer(pixels_BCHW)
    error = nn.functional.mse_loss(found_BCHW, pixels_BCHW)
    return error + tokenizer.config.mean_weight * tokenizer.penalty(posterior), error
