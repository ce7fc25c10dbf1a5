"""The two residual blocks.

Shape suffixes: B batch, T tokens, E hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from multiway_blocks.drop_path import DropPath
from multiway_blocks.transformer.context import Context, Contextual, apply


class _Block(Contextual):
    """The parts of a block.

    Args:
        attention: the mixer: a module that is called with (x, context, layer).
        feedforward: any module from (B, T, E) to (B, T, E).
        norms: of the mixer and of the feed-forward network.
        cross: a second mixer, which reads ``context.memory_BME``, and its norm (encoder-decoder); left out
            of a pass without memory.
        dropout: of the mixers' results while training; a feed-forward network has its own.
        drop_path: share of rows for which a part is left out while training (stochastic depth).
    """

    def __init__(
        self,
        attention: nn.Module,
        feedforward: nn.Module,
        norms: tuple[nn.Module, nn.Module],
        *,
        cross: tuple[nn.Module, nn.Module] | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = norms[0], attention
        self.cross_attention: nn.Module | None = cross and cross[0]
        self.cross_attention_norm: Any = cross and cross[1]
        self.feedforward_norm, self.feedforward = norms[1], feedforward
        self.dropout, self.drop_path = dropout, DropPath(drop_path)

    def _mixed(self, mixer: nn.Module, x_BTE: Tensor, context: Context, layer: int) -> Tensor:
        y_BTE = mixer(x_BTE, context, layer)
        return self.drop_path(nn.functional.dropout(y_BTE, self.dropout)) if self.training else y_BTE

    def _fed(self, x_BTE: Tensor, context: Context, layer: int) -> Tensor:
        y_BTE = apply(self.feedforward, x_BTE, context, layer)
        return self.drop_path(y_BTE) if self.training else y_BTE


class PreNorm(_Block):
    """``x + mixer(norm(x))``, then ``x + feedforward(norm(x))`` (Xiong et al. 2020; arguments: :class:`_Block`)."""

    def forward(self, x_BTE: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, E), in the layer with the index ``layer``."""
        normed_BTE = apply(self.attention_norm, x_BTE, context, layer)
        x_BTE = x_BTE + self._mixed(self.attention, normed_BTE, context, layer)
        if self.cross_attention is not None and context.memory_BME is not None:
            normed_BTE = apply(self.cross_attention_norm, x_BTE, context, layer)
            x_BTE = x_BTE + self._mixed(self.cross_attention, normed_BTE, context, layer)
        normed_BTE = apply(self.feedforward_norm, x_BTE, context, layer)
        return x_BTE + self._fed(normed_BTE, context, layer)


class PostNorm(_Block):
    """``norm(alpha x + mixer(x))``, then ``norm(alpha x + feedforward(x))`` (arguments: :class:`_Block`).

    With ``alpha`` above 1 this is DeepNorm (Wang et al. 2022, arXiv 2203.00555; `multiway_blocks.residual_scaling`).
    """

    def __init__(self, *args: Any, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alpha = alpha

    def forward(self, x_BTE: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, E), in the layer with the index ``layer``."""
        x_BTE = torch.add(self._mixed(self.attention, x_BTE, context, layer), x_BTE, alpha=self.alpha)
        x_BTE = apply(self.attention_norm, x_BTE, context, layer)
        if self.cross_attention is not None and context.memory_BME is not None:
            mixed_BTE = self._mixed(self.cross_attention, x_BTE, context, layer)
            x_BTE = torch.add(mixed_BTE, x_BTE, alpha=self.alpha)
            x_BTE = apply(self.cross_attention_norm, x_BTE, context, layer)
        x_BTE = torch.add(self._fed(x_BTE, context, layer), x_BTE, alpha=self.alpha)
        return apply(self.feedforward_norm, x_BTE, context, layer)
