"""MH-MoE (arXiv 2404.15045, section 3, figure 3): a causal decoder with mixtures of experts over sub-tokens.

    x + attention(norm(x));  x + merge(concat of routed experts of each sub-token of split(norm(x)))

Splitting and merging are views between two linear maps; each sub-token is routed by itself
(:class:`multiway_blocks.moe.MultiHeadMixture`). The other layers have an ordinary feed-forward network.

Shape suffixes: B batch, T new tokens, E hidden size.
"""

from __future__ import annotations

import torch
from multiway_blocks.attention import Attention
from multiway_blocks.causal import causal_visibility, token_positions
from multiway_blocks.feedforward import FeedForward, GatedFeedForward
from multiway_blocks.moe import Experts, Gate, MixtureOfExperts, MultiHeadMixture, XMoEGate
from multiway_blocks.norm import RMSNorm
from multiway_blocks.position import Rotary
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_text.causal_lm import CausalLM
from multiway_text.mh_moe.config import MHMoEConfig

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


class Layer(nn.Module):
    """One block of the residual stream, with a mixture or a dense feed-forward network."""

    def __init__(self, config: MHMoEConfig, index: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        rotary = Rotary(config.head_dim, theta=config.rope_theta)
        self.attention = Attention(config.hidden_size, config.num_heads, rotary=rotary)
        self.feedforward_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.has_mixture = config.is_mixture(index)
        self.feedforward: nn.Module
        if self.has_mixture:
            self.feedforward = new_mixture(config)
        elif config.gated:
            self.feedforward = GatedFeedForward(
                config.hidden_size, config.inner_size, activation=nn.functional.silu
            )
        else:
            self.feedforward = FeedForward(config.hidden_size, config.inner_size)

    def forward(
        self,
        x_BTE: Tensor,
        mask: Tensor | None,
        positions_BT: Tensor,
        cache: StaticKVCache | None,
        layer: int,
        valid_BT: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, E) -> (B, T, E), and the mixture's balance loss ()."""
        x_BTE = x_BTE + self.attention(
            self.attention_norm(x_BTE), mask=mask, positions_BT=positions_BT, cache=cache, layer=layer
        )
        normed_BTE = self.feedforward_norm(x_BTE)
        if not self.has_mixture:
            return x_BTE + self.feedforward(normed_BTE), None
        mixed_BTE, balance = self.feedforward(normed_BTE, valid_BT)
        return x_BTE + mixed_BTE, balance


class MHMoE(CausalLM):
    """The whole network. Padding is never routed, so it takes no expert's place and no part in the balance."""

    def __init__(self, config: MHMoEConfig) -> None:
        super().__init__(config, (Layer(config, index) for index in range(config.num_layers)))
        self.config = config
        nn.init.normal_(self.embedding.weight, std=0.02)

    def mixtures(self) -> list[MixtureOfExperts]:
        """The mixtures, from the first layer to the last."""
        return [part for part in self.modules() if isinstance(part, MixtureOfExperts)]

    def hidden_of(
        self, x_BTE: Tensor, valid_BT: Tensor | None = None, cache: StaticKVCache | None = None
    ) -> Tensor:
        """As :meth:`CausalLM.hidden_of`."""
        return self.hidden_and_balance(x_BTE, valid_BT, cache)[0]

    def hidden_and_balance(
        self, x_BTE: Tensor, valid_BT: Tensor | None = None, cache: StaticKVCache | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (B, T, E) and the mean balance loss () of the mixtures: 1 at balance, 0 if there is none."""
        routed_BT = None if valid_BT is None or bool(valid_BT.all()) else valid_BT
        if valid_BT is None:
            valid_BT = torch.ones(x_BTE.shape[:2], dtype=torch.bool, device=x_BTE.device)
        mask = causal_visibility(valid_BT, cache)
        positions_BT = token_positions(valid_BT, cache)
        balances = []
        for index, layer in enumerate(self.layers):
            x_BTE, balance = layer(x_BTE, mask, positions_BT, cache, index, routed_BT)
            if balance is not None:
                balances.append(balance)
        if cache is not None:
            cache.advance(valid_BT)
        return self.norm(x_BTE), torch.stack(balances).mean() if balances else x_BTE.new_zeros(())
