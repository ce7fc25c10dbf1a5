"""Causal transformer decoder with a key-value cache.

Shape suffixes: B batch, T new tokens, S all tokens so far, E hidden size.
"""

from __future__ import annotations

import torch
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_blocks.attention import Attention
from multiway_blocks.causal import causal_visibility
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.position import Rotary
from multiway_blocks.residual_scaling import deep_norm_decoder


class DecoderLayer(nn.Module):
    """Pre-norm block: ``x + attention(LN(x))``, then ``x + feedforward(LN(x))``, with sub-LN inside either or both.

    With ``residual_scale`` a post-norm block instead: ``LN(scale x + attention(x))``, and alike behind it.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        inner_size: int,
        *,
        sub_norm: bool,
        attention_sub_norm: bool,
        rotary: Rotary | None,
        residual_scale: float | None,
        eps: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.attention_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.attention = Attention(
            hidden_size, num_heads, bias=True, rotary=rotary, sub_norm=attention_sub_norm, eps=eps
        )
        self.feedforward_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.feedforward = FeedForward(hidden_size, inner_size, sub_norm=sub_norm, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_BTE: Tensor,
        mask: Tensor | None,
        cache: StaticKVCache | None,
        layer: int,
        positions_BT: Tensor | None = None,
    ) -> Tensor:
        """(B, T, E) -> (B, T, E)."""

        def attend(x: Tensor) -> Tensor:
            mixed = self.attention(x, mask=mask, positions_BT=positions_BT, cache=cache, layer=layer)
            return self.dropout(mixed)

        if self.residual_scale is None:
            x_BTE = x_BTE + attend(self.attention_norm(x_BTE))
            return x_BTE + self.dropout(self.feedforward(self.feedforward_norm(x_BTE)))
        x_BTE = self.attention_norm(self.residual_scale * x_BTE + attend(x_BTE))
        return self.feedforward_norm(self.residual_scale * x_BTE + self.dropout(self.feedforward(x_BTE)))


class Decoder(nn.Module):
    """A stack of causal layers and the final norm; embeddings and the output matrix belong to the caller.

    ``sub_norm`` puts Magneto's extra norm into the feed-forward networks, ``attention_sub_norm`` into the attention:
    Magneto itself has both, KOSMOS-2.5 the first only. ``rotary`` (`Rotary` or `XPos`) tells places apart in the
    attention; without it positions belong to the vectors that the caller gives. ``deep_norm`` makes the layers
    post-norm with the residual path raised by ``(2 num_layers)^(1/4)`` (DeepNet, Wang et al. 2022, table 1), which
    asks for an initialisation of its own (:func:`scale_for_deep_norm`); there is no final norm then. ``block`` is the
    length of blocks when attention is blockwise (:func:`multiway_blocks.causal.block_causal`); None: all is seen. It
    may be set on a trained decoder.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        inner_size: int,
        sub_norm: bool = False,
        attention_sub_norm: bool = False,
        rotary: Rotary | None = None,
        deep_norm: bool = False,
        block: int | None = None,
        eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(
                hidden_size,
                num_heads,
                inner_size,
                sub_norm=sub_norm,
                attention_sub_norm=attention_sub_norm,
                rotary=rotary,
                residual_scale=deep_norm_decoder(num_layers).alpha if deep_norm else None,
                eps=eps,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.Identity() if deep_norm else nn.LayerNorm(hidden_size, eps=eps)
        self.uses_positions = rotary is not None
        self.block = block

    def forward(
        self,
        x_BTE: Tensor,
        valid_BT: Tensor,
        cache: StaticKVCache | None = None,
        *,
        branches_BT: Tensor | None = None,
    ) -> Tensor:
        """Run new token vectors (B, T, E) behind what the cache holds: (B, T, E).

        ``valid`` (B, T) bool is False at padding, which no token looks at; rows shorter than the batch are padded on
        the left. The cache, if any, takes the new keys and values and is advanced.

        ``branches`` (B, T) int64 makes several continuations of one beginning in a single pass, to train on all of
        them: tokens of branch 0, which comes first, are seen by all behind them, those of another branch by their
        own only, and every branch is placed behind branch 0 (:func:`branch_positions`). Not with a cache.
        """
        mask = causal_visibility(valid_BT, cache, block=self.block)
        positions_BT = branch_positions(valid_BT, branches_BT) if self.uses_positions else None
        if positions_BT is not None and cache is not None:
            positions_BT = positions_BT + cache.num_valid_B[:, None]
        if branches_BT is not None:
            if cache is not None or mask is None:
                raise ValueError("branches are for one pass over everything, without a cache")
            key_B1T = branches_BT[:, None, :]
            mask = mask & ((key_B1T == 0) | (key_B1T == branches_BT[:, :, None]))[:, None]
        for index, layer in enumerate(self.layers):
            x_BTE = layer(x_BTE, mask, cache, index, positions_BT)
        if cache is not None:
            cache.advance(valid_BT)
        return self.norm(x_BTE)


def branch_positions(valid_BT: Tensor, branches_BT: Tensor | None = None) -> Tensor:
    """Number of the tokens before each one that it follows, int64 (B, T); 0 at padding on the left.

    A token of a branch other than 0 follows all of branch 0 and the earlier ones of its own.
    """
    if branches_BT is None:
        return (valid_BT.cumsum(dim=1) - 1).clamp(min=0)
    query_BT1, key_B1T = branches_BT[:, :, None], branches_BT[:, None, :]
    followed_BTT = valid_BT[:, None, :] & ((key_B1T == 0) | (key_B1T == query_BT1))
    return followed_BTT.tril(-1).sum(dim=-1)


@torch.no_grad()
def scale_for_deep_norm(decoder: Decoder) -> None:
    """Divide values, outputs and feed-forward networks by ``(8 layers)^(1/4)`` behind their initialisation."""
    divisor = deep_norm_decoder(len(decoder.layers)).divisor
    for name, parameter in decoder.layers.named_parameters():
        if ".norm." not in name and name.split(".")[-2] in {"value", "output", "up", "down"}:
            parameter.div_(divisor)
