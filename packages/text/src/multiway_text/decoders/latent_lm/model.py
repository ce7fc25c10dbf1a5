"""LatentLM (arXiv 2412.08635, section 2, figure 2): text tokens and latents in one causal Transformer.

    tokens -> Embedding ┐                                        ┌ Linear -> next token
                        ├ causal Transformer -> norm -> hidden ──┤
    latents -> Linear ──┘                                        └ DiffusionHead -> velocity of the next latent

A row of tokens holds the id ``latent`` where a latent stands, between ``begin`` (<BOD>) and ``end`` (<EOD>).

Shape suffixes: B batch, T tokens, E hidden size, V vocabulary, N latents of all rows in order, D latent size.
"""

from __future__ import annotations

from functools import partial

import torch
from multiway_blocks.attention import Attention
from multiway_blocks.causal import CausalStack
from multiway_blocks.diffusion import CosineSchedule, DiffusionHead
from multiway_blocks.feedforward import GatedFeedForward
from multiway_blocks.linear import Linear
from multiway_blocks.retention import RetentionRotary
from multiway_blocks.text_decoder import CausalLM
from multiway_blocks.transformer import PreNorm
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_text.decoders.latent_lm.config import LatentLMConfig


class Norm(nn.Module):
    """RMSNorm without a scale."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) -> (..., E)."""
        return nn.functional.rms_norm(x, x.shape[-1:], eps=self.eps)


def _layer(config: LatentLMConfig, rotary: RetentionRotary) -> PreNorm:
    return PreNorm(
        Attention(config.hidden_size, config.num_heads, rotary=rotary),
        GatedFeedForward(config.hidden_size, config.inner_size, activation=nn.functional.silu),
        (Norm(config.norm_eps), Norm(config.norm_eps)),
    )


class LatentLM(CausalLM):
    """The whole network but for the tokenizer. Latents are *raw* there and *normalized* here."""

    latent_scale: Tensor
    latent_bias: Tensor

    def __init__(self, config: LatentLMConfig) -> None:
        # The released code's rotary frequencies end at 1 / theta exactly, as RetNet's do.
        rotary = RetentionRotary(config.head_dim, theta=config.rope_theta)
        layers = (_layer(config, rotary) for _ in range(config.num_layers))
        new_decoder = partial(CausalStack, layers, Norm(config.norm_eps))
        super().__init__(config.vocab_size, config.hidden_size, new_decoder, tied=config.tied_embeddings)
        self.config = config
        self.latent_input = Linear(config.latent_size, config.hidden_size, bias=False)
        self.diffusion_head = DiffusionHead(
            config.latent_size, config.hidden_size, config.head_layers, config.inner_size, eps=config.norm_eps
        )
        self.schedule = CosineSchedule(config.num_training_steps)
        nn.init.normal_(self.embedding.weight, std=0.02)
        # Statistics of the latents of the first training batch, kept in the checkpoint.
        self.register_buffer("latent_scale", torch.tensor(1.0))
        self.register_buffer("latent_bias", torch.tensor(0.0))

    def measure_latents(self, latents: Tensor) -> None:
        """Take scale and bias from raw latents of any shape. Raises InputError where they do not vary."""
        deviation = latents.float().std()
        if not bool(torch.isfinite(deviation)) or deviation <= 0:
            raise InputError(
                f"latents with a standard deviation of {deviation.item():g} cannot be normalized"
            )
        self.latent_scale.copy_(1 / deviation)
        self.latent_bias.copy_(-latents.float().mean())

    def normalize(self, latents: Tensor) -> Tensor:
        """Raw latents -> about zero mean and unit variance; the same shape."""
        return (latents + self.latent_bias) * self.latent_scale

    def denormalize(self, latents: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`."""
        return latents / self.latent_scale - self.latent_bias

    def embed(self, tokens_BT: Tensor, latents_ND: Tensor | None = None) -> Tensor:
        """Inputs (B, T, E): latents (normalized), row by row, in the places of the token ``latent``.

        Raises InputError if the numbers differ.
        """
        places_BT = tokens_BT == self.config.tokens.latent
        places, given = int(places_BT.sum()), 0 if latents_ND is None else len(latents_ND)
        if places != given:
            raise InputError(f"{places} places for latents in the tokens and {given} latents")
        x_BTE = self.embedding(tokens_BT)
        if latents_ND is None or not given:
            return x_BTE
        if latents_ND.shape[1:] != (self.config.latent_size,):
            raise InputError(
                f"latents of shape {list(latents_ND.shape[1:])}; this model takes {[self.config.latent_size]}"
            )
        return x_BTE.masked_scatter(places_BT[..., None], self.latent_input(latents_ND).to(x_BTE.dtype))

    def prefill(
        self,
        tokens_BT: Tensor,
        cache: StaticKVCache,
        valid_BT: Tensor | None = None,
        latents_ND: Tensor | None = None,
    ) -> Tensor:
        """Read prompts as :meth:`CausalLM.prefill`, with pictures in them; for text behind pictures."""
        hidden_BTE = self.decoder(self.embed(tokens_BT, latents_ND), valid_BT, cache)
        return self.logits(hidden_BTE[:, -1]).float()
