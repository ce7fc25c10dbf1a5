"""XLM's encoder and XNLG's decoder (Chi et al. 2020, section 3; Conneau and Lample 2019): post-LN layers behind
embeddings of words, positions and languages, which are summed and normalized.

A decoder's layer is self-attention, cross-attention over the encoder's states, feed-forward, with a norm behind each.
The output projection is the word embedding, with a bias.

Shape suffixes: B batch, T tokens, S source tokens, E hidden size, V vocabulary, K heads, D head dim.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from multiway_blocks.attention import Attention, CrossAttention, causal_mask, padding_mask
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.transformer import Context, PostNorm, Stack
from multiway_core.errors import ConfigError
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_text.xnlg.config import PAD, XnlgConfig


class XlmTransformer(nn.Module):
    """An encoder, or with ``is_decoder`` a decoder."""

    def __init__(self, config: XnlgConfig, num_layers: int, *, is_decoder: bool) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.token_embedding = nn.Embedding(config.vocab_size, width, padding_idx=PAD)
        self.position_embedding = nn.Embedding(config.num_positions, width)
        self.language_embedding = nn.Embedding(len(config.languages), width)
        self.embedding_norm = nn.LayerNorm(width, config.norm_eps)
        self.stack = Stack(_layer(config, is_decoder) for _ in range(num_layers))
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))
        for table in (self.token_embedding, self.position_embedding, self.language_embedding):
            nn.init.normal_(table.weight, std=width**-0.5)
        nn.init.zeros_(self.token_embedding.weight[PAD])

    def forward(
        self, tokens_BT: Tensor, languages_BT: Tensor, positions_BT: Tensor, context: Context
    ) -> Tensor:
        """States (B, T, E) of tokens with the rows of their languages and positions; padding's have no meaning."""
        x_BTE = self.token_embedding(tokens_BT) + self.position_embedding(positions_BT)
        x_BTE = self.embedding_norm(x_BTE + self.language_embedding(languages_BT))
        return self.stack(nn.functional.dropout(x_BTE, self.config.dropout, self.training), context)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., E) -> (..., V)."""
        return nn.functional.linear(hidden, self.token_embedding.weight, self.output_bias)


class Xnlg(nn.Module):
    """Encoder and decoder, with word embeddings of their own."""

    def __init__(self, config: XnlgConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = XlmTransformer(config, config.encoder_layers, is_decoder=False)
        self.decoder = XlmTransformer(config, config.decoder_layers, is_decoder=True)

    def encode(
        self, tokens_BS: Tensor, valid_BS: Tensor, languages_BS: Tensor, positions_BS: Tensor | None = None
    ) -> Tensor:
        """The encoder's states, (B, S, E). ``positions_BS``: counted from 0 by default."""
        if positions_BS is None:
            positions_BS = torch.arange(tokens_BS.shape[1], device=tokens_BS.device).expand_as(tokens_BS)
        return self.encoder(tokens_BS, languages_BS, positions_BS, Context(mask=padding_mask(valid_BS)))

    def decode(self, tokens_BT: Tensor, languages_BT: Tensor, memory_BSE: Tensor, valid_BS: Tensor) -> Tensor:
        """The decoder's states (B, T, E) of whole targets, each token seeing those before it; padding stands last."""
        count = tokens_BT.shape[1]
        context = Context(
            mask=causal_mask(count, count, tokens_BT.device),
            memory_BME=memory_BSE,
            memory_mask=padding_mask(valid_BS),
        )
        positions_BT = torch.arange(count, device=tokens_BT.device).expand_as(tokens_BT)
        return self.decoder(tokens_BT, languages_BT, positions_BT, context)

    def step(self, tokens_B1: Tensor, language: int, cache: TargetCache) -> Tensor:
        """Append a token to each row of the cache: logits (B, V) of what follows."""
        context = Context(
            cache=cache, memory_BME=cache.memory_BSE, memory_mask=padding_mask(cache.memory_valid_BS)
        )
        languages_B1 = torch.full_like(tokens_B1, language)
        hidden_B1E = self.decoder(tokens_B1, languages_B1, torch.full_like(tokens_B1, cache.length), context)
        cache.advance(torch.ones_like(tokens_B1, dtype=torch.bool))
        return self.decoder.logits(hidden_B1E[:, -1])

    def start_decoder(self) -> None:
        """Copy the encoder's first layers and its embeddings to the decoder; cross-attention stays as it is."""
        tensors = {
            name: tensor
            for name, tensor in self.encoder.state_dict().items()
            if name in self.decoder.state_dict()
        }
        self.decoder.load_state_dict(tensors, strict=False)

    def freeze(self, train_layers: str) -> None:
        """Let only these parameters be trained.

        ``train_layers``: "all", "encoder", "decoder", or encoder layers "FIRST,LAST" counted from 1, such as "1,10":
        those alone, without the embeddings and their norm. Raises ConfigError.
        """
        first, _, last = train_layers.partition(",")
        layers = self.encoder.stack.layers
        if train_layers in ("all", "encoder", "decoder"):
            for name, parameter in self.named_parameters():
                parameter.requires_grad = train_layers in ("all", name.split(".")[0])
            return
        if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= len(layers)):
            raise ConfigError(
                f"train_layers is {train_layers!r}; expected all, encoder, decoder, or encoder layers such as "
                f"1,{len(layers)}"
            )
        self.requires_grad_(False)
        for layer in layers[int(first) - 1 : int(last)]:
            layer.requires_grad_(True)


class TargetCache(StaticKVCache):
    """What the decoder keeps of written tokens, and the sources that it reads, whose keys are computed once."""

    def __init__(self, config: XnlgConfig, memory_BSE: Tensor, valid_BS: Tensor, max_length: int) -> None:
        super().__init__(
            config.decoder_layers,
            len(memory_BSE),
            config.num_heads,
            config.hidden_size // config.num_heads,
            max_length,
            dtype=memory_BSE.dtype,
            device=memory_BSE.device,
        )
        self.memory_BSE, self.memory_valid_BS = memory_BSE, valid_BS
        self.memory_keys_values: dict[int, tuple[Tensor, Tensor]] = {}
        self.text_B = torch.arange(len(memory_BSE))

    def select(self, rows: Tensor) -> None:
        """As in `StaticKVCache`; beams of one text share what they read, so that this moves only where texts do."""
        super().select(rows)
        texts_B = self.text_B[rows.to("cpu")]
        if torch.equal(texts_B, self.text_B):
            return
        rows = rows.to(self.memory_BSE.device)
        self.text_B, self.memory_BSE = texts_B, self.memory_BSE[rows]
        self.memory_valid_BS = self.memory_valid_BS[rows]
        self.memory_keys_values = {
            layer: (key[rows], value[rows]) for layer, (key, value) in self.memory_keys_values.items()
        }


class _CachedCrossAttention(CrossAttention):
    """Cross-attention that computes the source's keys and values once for all steps."""

    def keys_and_values(self, x_BSE: Tensor, context: Context, layer: int) -> tuple[Tensor, Tensor]:
        if not isinstance(context.cache, TargetCache):
            return super().keys_and_values(x_BSE, context, layer)
        kept = context.cache.memory_keys_values
        if layer not in kept:
            kept[layer] = super().keys_and_values(x_BSE, context, layer)
        return kept[layer]


def _layer(config: XnlgConfig, is_decoder: bool) -> PostNorm:
    width, norm = config.hidden_size, partial(nn.LayerNorm, config.hidden_size, config.norm_eps)
    options: Any = {"bias": True, "dropout": config.attention_dropout}
    cross = (_CachedCrossAttention(width, config.num_heads, **options), norm()) if is_decoder else None
    return PostNorm(
        Attention(width, config.num_heads, **options),
        FeedForward(width, config.inner_size, dropout=config.dropout),
        (norm(), norm()),
        cross=cross,
        dropout=config.dropout,
    )
