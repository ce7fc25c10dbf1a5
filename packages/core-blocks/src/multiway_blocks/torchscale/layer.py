"""What the layers of encoder, decoder and RetNet share: the residual path around each of their parts.

    pre-norm, sub-LN     x + drop(f(LN(x)))
    post-norm            LN(x + drop(f(x)))
    DeepNorm             LN(alpha x + drop(f(x)))

Sub-LN is pre-norm with further norms inside f.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from multiway_blocks.drop_path import DropPath
from multiway_blocks.transformer import Context


class ResidualLayer(nn.Module):
    """Base of a layer; ``half`` is "encoder" or "decoder", ``depth`` counts from 0, ``alpha`` is DeepNorm's."""

    ffn: nn.Module
    moe_layer: nn.Module
    """A layer has one of the two."""

    def __init__(self, args: Any, half: str, depth: int, alpha: float) -> None:
        super().__init__()
        layers = getattr(args, f"{half}_layers")
        rate = args.drop_path_rate * depth / max(1, layers - 1)  # grows with depth
        self.normalize_before: bool = getattr(args, f"{half}_normalize_before")
        self.alpha = alpha
        self.drop_path = DropPath(rate)
        self.dropout_module = nn.Dropout(args.dropout)

    def before(self, x: Tensor, norm: nn.Module) -> Tensor:
        """What a part f is given."""
        return norm(x) if self.normalize_before else x

    def after(self, x: Tensor, y: Tensor, norm: nn.Module) -> Tensor:
        """The stream behind f, whose result is ``y``."""
        x = self.alpha * x + self.drop_path(y)
        return x if self.normalize_before else norm(x)

    def feed_forward(self, x_BTE: Tensor) -> tuple[Tensor, Tensor | None]:
        """The dense network, or the experts and their balance loss: whichever this layer has."""
        if hasattr(self, "moe_layer"):
            context = Context()
            return self.moe_layer(x_BTE, context), context.losses[0]
        return self.ffn(x_BTE), None


def has_experts(args: Any, depth: int) -> bool:
    """Whether the layer at ``depth`` (from 0) is a mixture of experts."""
    return args.moe_freq != 0 and (depth + 1) % args.moe_freq == 0


def run(layer: nn.Module, args: Any, *inputs: Any) -> Any:
    """Call a layer; with ``checkpoint_activations`` its inner results are computed again in the backward pass."""
    if args.checkpoint_activations and layer.training and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False)
    return layer(*inputs)


def state_of(incremental_state: Any, index: int) -> Any:
    """A layer's dictionary, made when missing."""
    return None if incremental_state is None else incremental_state.setdefault(index, {})
