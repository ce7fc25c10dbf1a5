"""Feed-forward networks and mixtures of them, with TorchScale's names."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from multiway_blocks.feedforward import Activation, FeedForward, GatedFeedForward, in_float32
from multiway_blocks.moe import ExpertList, Gate, MixtureOfExperts, XMoEGate
from multiway_blocks.torchscale.names import Published
from multiway_blocks.transformer import Context

_ACTIVATIONS: dict[str, Activation] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "swish": nn.functional.silu,
}


class FeedForwardNetwork(Published, FeedForward, names={"up": "fc1", "norm": "ffn_layernorm", "down": "fc2"}):
    """``fc2(ffn_layernorm(activation(fc1(x))))``, the norm with sub-LN only; the activation in float32."""

    def __init__(self, args: Any, embed_dim: int, ffn_dim: int) -> None:
        super().__init__(
            embed_dim,
            ffn_dim,
            activation=in_float32(_ACTIVATIONS[args.activation_fn]),
            sub_norm=args.subln,
            eps=args.layernorm_eps,
            dropout=args.dropout,
            activation_dropout=args.activation_dropout,
        )


class GLU(Published, GatedFeedForward, names={"gate": "fc1", "down": "fc2", "up": "gate"}):
    """``fc2(activation(fc1(x)) * gate(x))``, RetNet's. What is called ``gate`` here has no activation."""

    fc1: nn.Module
    fc2: nn.Module

    def __init__(self, args: Any, embed_dim: int, ffn_dim: int) -> None:
        super().__init__(
            embed_dim,
            ffn_dim,
            activation=in_float32(_ACTIVATIONS[args.activation_fn]),
            dropout=args.dropout,
            activation_dropout=args.activation_dropout,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., embed_dim) -> (..., embed_dim)."""
        inner = self.activation_dropout(self.activation(self.fc1(x)) * self.gate(x))
        return self.dropout(self.fc2(inner))


class PlainGate(nn.Module):
    """The gate without X-MoE."""

    def __init__(self, embed_dim: int, experts: int) -> None:
        super().__init__()
        self.wg = Gate(embed_dim, experts)

    def forward(self, x_SE: Tensor) -> Tensor:
        """(S, E) -> logits (S, N)."""
        return self.wg(x_SE)


class CosineGate(Published, XMoEGate, names={"reduction": "wg_reduction", "experts": "wg"}):
    """X-MoE's gate."""


class MOELayer(MixtureOfExperts):
    """Top-1 or top-2 routing with capacity (GShard), dispatched by sorting; every process holds all experts."""

    def __init__(self, args: Any, embed_dim: int, ffn_dim: int) -> None:
        fraction = args.moe_eval_capacity_token_fraction
        count = args.moe_expert_count
        super().__init__(
            (CosineGate if args.use_xmoe else PlainGate)(embed_dim, count),
            ExpertList(FeedForwardNetwork(args, embed_dim, ffn_dim) for _ in range(count)),
            count,
            experts_per_token=1 if args.moe_top1_expert else 2,
            capacity_factor=1.0,
            eval_capacity_fraction=fraction if fraction > 0 else None,
            normalize_before_dropping=args.moe_normalize_gate_prob_before_dropping,
            second="all" if args.moe_top1_expert else args.moe_second_expert_policy,
        )
        for parameter in self.experts.parameters():
            parameter.expert = True  # type: ignore[attr-defined]  # trainers scale and reduce these differently


class EncoderMOELayer(MOELayer):
    """Experts fill up in the order of places, not of rows: their tokens come transposed."""

    def forward(self, x: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        return super().forward(x.transpose(0, 1), context, layer).transpose(0, 1)
