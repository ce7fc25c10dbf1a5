"""MH-MoE (arXiv 2404.15045, section 3, figure 3): a causal decoder with mixtures of experts over sub-tokens.

    x + attention(norm(x));  x + merge(concat of routed experts of each sub-token of split(norm(x)))

Splitting and merging are views between two linear maps; each sub-token is routed by itself
(:class:`multiway_blocks.moe.MultiHeadMixture`). The other layers have an ordinary feed-forward network.

Shape suffixes: B batch, T new tokens, E hidden size.
"""

from __future__ import annotations

from functools import partial

import torch
from multiway_blocks.attention import Attention
from multiway_blocks.causal import CausalStack
from multiway_blocks.feedforward import FeedForward, GatedFeedForward
from multiway_blocks.moe import Experts, Gate, MixtureOfExperts, MultiHeadMixture, XMoEGate
from multiway_blocks.norm import RMSNorm
from multiway_blocks.position import Rotary
from multiway_blocks.text_decoder import CausalLM
from multiway_blocks.transformer import PreNorm
from torch import Tensor, nn

from multiway_text.decoders.mh_moe.config import MHMoEConfig

Mixture = MixtureOfExperts | MultiHeadMixture


def new_mixture(config: MHMoEConfig) -> Mixture:
    """The mixture of a layer; with one sub-token an ordinary one."""
    width = config.hidden_size // config.split_heads
    gate: nn.Module
    if config.gate == "x_moe":
        reduced = max(1, config.gate_size // config.split_heads)
        gate = XMoEGate(width, config.num_experts, reduced_size=reduced)
    else:
        gate = Gate(width, config.num_experts)
    experts = Experts(
        config.num_experts,
        width,
        config.expert_size,
        gated=config.gated,
        activation=nn.functional.silu if config.gated else nn.functional.gelu,
        bias=not config.gated,
    )
    mixture = MixtureOfExperts(
        gate,
        experts,
        config.num_experts,
        experts_per_token=config.experts_per_token,
        capacity_factor=config.capacity_factor,
    )
    if config.split_heads == 1:
        return mixture
    return MultiHeadMixture(config.hidden_size, config.split_heads, mixture)


def _layer(config: MHMoEConfig, index: int, rotary: Rotary) -> PreNorm:
    """A block with a mixture or a dense feed-forward network."""
    attention = Attention(config.hidden_size, config.num_heads, rotary=rotary)
    feedforward: nn.Module
    if config.is_mixture(index):
        feedforward = new_mixture(config)
    elif config.gated:
        feedforward = GatedFeedForward(config.hidden_size, config.inner_size, activation=nn.functional.silu)
    else:
        feedforward = FeedForward(config.hidden_size, config.inner_size)
    norms = RMSNorm(config.hidden_size, eps=config.norm_eps), RMSNorm(config.hidden_size, eps=config.norm_eps)
    return PreNorm(attention, feedforward, norms)


class MHMoE(CausalLM):
    """The whole network. Padding is never routed, so it takes no expert's place and no part in the balance."""

    def __init__(self, config: MHMoEConfig) -> None:
        rotary = Rotary(config.head_dim, theta=config.rope_theta)
        layers = (_layer(config, index, rotary) for index in range(config.num_layers))
        new_decoder = partial(CausalStack, layers, RMSNorm(config.hidden_size, eps=config.norm_eps))
        super().__init__(config.vocab_size, config.hidden_size, new_decoder, tied=config.tied_embeddings)
        self.config = config
        nn.init.normal_(self.embedding.weight, std=0.02)

    def mixtures(self) -> list[MixtureOfExperts]:
        """The mixtures, from the first layer to the last."""
        return [part for part in self.modules() if isinstance(part, MixtureOfExperts)]

    def hidden_and_balance(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states (B, T, E) and the mean balance loss () of the mixtures: 1 at balance, 0 if there is none."""
        losses: dict[int, Tensor] = {}
        hidden_BTE = self.decoder(self.embed(tokens_BT), valid_BT, losses=losses)
        balances = list(losses.values())
        return hidden_BTE, torch.stack(balances).mean() if balances else hidden_BTE.new_zeros(())
