"""The BERT family's network (Devlin et al. 2019; RoBERTa, Liu et al. 2019; UniLMv2, Bao et al. 2020, section 3.3).

Shape suffixes: B batch, T tokens, N tokens without padding, E hidden size, H heads, D head dim.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.attention import Attention, attend, padding_mask
from multiway_blocks.feedforward import Activation, FeedForward
from multiway_blocks.linear import Linear
from multiway_blocks.masks import RuleLayout, attend_by_rule
from multiway_blocks.position import RelativeBias
from multiway_blocks.text_encoder.config import TextEncoderConfig
from multiway_blocks.transformer import Context, PostNorm, Stack

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": nn.functional.gelu,
    "gelu_tanh": partial(nn.functional.gelu, approximate="tanh"),
    "relu": nn.functional.relu,
}
PACK_BELOW = 0.9  # share of real tokens below which moving them together costs less than computing padding


class EncoderOutput(NamedTuple):
    """``hidden_BTE``: the last layer; ``pooled_BE``: the pooler's, if there is one; ``hidden_states``: what enters
    the first layer and what leaves each, if asked for. States of padding have no meaning."""

    hidden_BTE: Tensor
    pooled_BE: Tensor | None
    hidden_states: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class EncoderContext(Context):
    """Beside `Context`: visibility by rule, and where the tokens of a packed batch stand: ``index_N`` of (B, T).

    ``cache``: an object with ``attend(layer, query, key, value)``, (B, H, T, D) each, which does the attention itself.
    """

    layout: RuleLayout | None = None
    shape: tuple[int, int] = (0, 0)
    index_N: Tensor | None = None

    def pack(self, x_BTE: Tensor) -> Tensor:
        """(B, T, E) -> (1, N, E) where padding is left out."""
        return x_BTE if self.index_N is None else x_BTE.flatten(0, 1)[None, self.index_N]

    def unpack(self, x_BTE: Tensor) -> Tensor:
        """(1, N, E) -> (B, T, E), zeros at padding."""
        if self.index_N is None:
            return x_BTE
        batch, tokens = self.shape
        empty = x_BTE.new_zeros(batch * tokens, x_BTE.shape[2])
        return empty.index_copy(0, self.index_N, x_BTE[0]).unflatten(0, self.shape)


_PLAIN = EncoderContext()


class EncoderAttention(Attention):
    """Self-attention of tokens that may be packed, under a mask or a `RuleLayout`."""

    def q_k_v(self, x_BTE: Tensor, context: EncoderContext) -> tuple[Tensor, Tensor, Tensor]:
        """(B, H, T, D) each, unpacked."""
        parts = (context.unpack(project(x_BTE)) for project in (self.query, self.key, self.value))
        query, key, value = (self._heads(part, self.num_heads) for part in parts)
        return query, key, value

    def forward(self, x_BTE: Tensor, context: Context = _PLAIN, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, E), or (1, N, E) -> (1, N, E)."""
        assert isinstance(context, EncoderContext)
        states = self.q_k_v(x_BTE, context)
        dropout = self.dropout if self.training else 0.0
        if context.cache is not None:
            mixed_BHTD = context.cache.attend(layer, *states)
        elif context.layout is not None:
            mixed_BHTD = attend_by_rule(*states, context.layout, dropout=dropout)
        else:
            mixed_BHTD = attend(*states, context.mask, dropout=dropout)
        return self.output(context.pack(mixed_BHTD.transpose(1, 2).flatten(2)))


class TextEncoder(nn.Module):
    """Embeddings, a stack of post-LN layers, and what the family has beside them."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width, norm = config.hidden_size, partial(nn.LayerNorm, config.hidden_size, config.norm_eps)
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.position_embedding = nn.Embedding(config.num_positions, width)
        self.type_embedding = nn.Embedding(config.num_types, width) if config.num_types else None
        self.embedding_norm = norm()
        self.relative_bias = None
        if config.num_buckets:
            self.relative_bias = RelativeBias(
                config.num_heads, num_buckets=config.num_buckets, max_distance=config.max_distance
            )
        self.stack = Stack(self._layer(norm) for _ in range(config.num_layers))
        self.pooler = Linear(width, width) if config.pooler else None
        self.apply(self._initialize)

    def _layer(self, norm: partial[nn.LayerNorm]) -> PostNorm:
        config = self.config
        attention = EncoderAttention(
            config.hidden_size,
            config.num_heads,
            head_dim=config.attention_head_size,
            bias=True,
            dropout=config.attention_dropout,
        )
        if not config.key_bias:
            attention.key = Linear(config.hidden_size, attention.key.out_features, bias=False)
        feedforward = FeedForward(
            config.hidden_size,
            config.inner_size,
            activation=_ACTIVATIONS[config.activation],
            dropout=config.dropout,
        )
        return PostNorm(attention, feedforward, (norm(), norm()), dropout=config.dropout)

    def _initialize(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(
        self,
        tokens_BT: Tensor,
        valid_BT: Tensor,
        *,
        mask: Tensor | RuleLayout | None = None,
        positions_BT: Tensor | None = None,
        types_BT: Tensor | None = None,
        hidden_states: bool = False,
    ) -> EncoderOutput:
        """Encode a batch.

        Args:
            tokens_BT: int64. valid_BT: bool, False for padding.
            mask: who sees whom: bool or additive, broadcastable to (B, H, T, T), or a `RuleLayout`; all valid tokens
                by default.
            positions_BT: int64 rows of the position table; by the family's rule by default.
            types_BT: int64; all 0 by default.
            hidden_states: whether all layers' states are kept.

        Raises:
            InputError: shapes do not fit, or a text is longer than the position table.
        """
        if tokens_BT.ndim != 2 or valid_BT.shape != tokens_BT.shape or valid_BT.dtype != torch.bool:
            raise InputError(
                f"text encoder: tokens are {tuple(tokens_BT.shape)} and valid is {valid_BT.dtype} "
                f"{tuple(valid_BT.shape)}, expected (B, T) and the same in bool"
            )
        if positions_BT is None:
            positions_BT = self.positions(valid_BT)
        context = self._context(valid_BT, mask, positions_BT)
        x_BTE = self.embed(tokens_BT, positions_BT, types_BT)
        states: list[Tensor] | None = [] if hidden_states else None
        x_BTE = context.unpack(self.stack(context.pack(x_BTE), context, states))
        pooled_BE = None if self.pooler is None else self.pooler(x_BTE[:, 0]).tanh()
        return EncoderOutput(x_BTE, pooled_BE, tuple(context.unpack(state) for state in states or ()))

    def first_layers(self, count: int) -> TextEncoder:
        """The encoder that ends behind layer ``count`` (from 1), without a pooler; it shares this one's weights.

        Its states are those of ``hidden_states[count]``, for less work. Raises InputError: there are not so many.
        """
        if not 1 <= count <= len(self.stack.layers):
            raise InputError(f"text encoder: layer {count} was asked for, there are {len(self.stack.layers)}")
        part = copy.copy(self)
        part._modules = self._modules | {"stack": Stack(self.stack.layers[:count]), "pooler": None}
        part.stack.train(self.stack.training)
        part.config = replace(self.config, num_layers=count, pooler=False)
        return part

    def positions(self, valid_BT: Tensor) -> Tensor:
        """Rows of the position table, (B, T), or (1, T) where all texts have the same."""
        first, length = self.config.first_position, valid_BT.shape[1]
        if length > self.config.max_length:
            raise InputError(
                f"text encoder: {length} tokens in a row, the model has {self.config.max_length} positions"
            )
        if first:
            return valid_BT.cumsum(1) * valid_BT + (first - 1)
        return torch.arange(length, device=valid_BT.device)[None]

    def bias(self, query_positions_BT: Tensor, key_positions_BS: Tensor) -> Tensor | None:
        """The relative bias of the scores, (B, H, T, S); None where the model has none."""
        if self.relative_bias is None:
            return None
        distance_BTS = key_positions_BS[:, None, :] - query_positions_BT[:, :, None]
        return self.relative_bias.bias(self.relative_bias.buckets(distance_BTS)).permute(0, 3, 1, 2)

    def embed(self, tokens_BT: Tensor, positions_BT: Tensor, types_BT: Tensor | None = None) -> Tensor:
        """What enters the first layer, (B, T, E)."""
        x_BTE = self.token_embedding(tokens_BT)
        if self.type_embedding is not None:
            x_BTE = x_BTE + (
                self.type_embedding.weight[0] if types_BT is None else self.type_embedding(types_BT)
            )
        elif types_BT is not None:
            raise InputError("text encoder: this model has no token types")
        x_BTE = self.embedding_norm(x_BTE + self.position_embedding(positions_BT))
        return nn.functional.dropout(x_BTE, self.config.dropout, self.training)

    def q_k_v(self, layer: int, hidden_BTE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values inside a layer, (B, H, T, D) each: what relation distillation compares.

        ``hidden_BTE`` enters that layer: ``hidden_states[layer]`` of a pass, with layers counted from 0.
        """
        block = self.stack.layers[layer]
        assert isinstance(block, PostNorm)
        attention = block.attention
        assert isinstance(attention, EncoderAttention)
        return attention.q_k_v(hidden_BTE, _PLAIN)

    def _context(
        self, valid_BT: Tensor, mask: Tensor | RuleLayout | None, positions_BT: Tensor
    ) -> EncoderContext:
        real = int(valid_BT.sum())
        if mask is None and real < valid_BT.numel():
            mask = padding_mask(valid_BT | ~valid_BT.any(1, keepdim=True))
        bias_BHTT = self.bias(positions_BT, positions_BT)
        if bias_BHTT is not None:
            if isinstance(mask, RuleLayout):
                mask = mask.with_bias(bias_BHTT)
            elif mask is None or mask.dtype != torch.bool:
                mask = bias_BHTT if mask is None else bias_BHTT + mask
            else:
                mask = bias_BHTT.masked_fill(~mask, -torch.inf)
        context = EncoderContext(
            mask=None if isinstance(mask, RuleLayout) else mask,
            layout=mask if isinstance(mask, RuleLayout) else None,
            shape=(valid_BT.shape[0], valid_BT.shape[1]),
        )
        if real < PACK_BELOW * valid_BT.numel():
            return replace(context, index_N=valid_BT.flatten().nonzero()[:, 0])
        return context
