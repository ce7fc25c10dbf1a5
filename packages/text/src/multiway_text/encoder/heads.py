"""Heads on the BERT family's encoder: masked LM, classification, tagging, span extraction.

Each head is a module `(hidden states) -> logits` and each model an encoder with one. BERT classifies the pooled first
token; RoBERTa has no pooler and brings the same two layers in its head (`dense`, `output`).

Shape suffixes: B batch, T tokens, N rows of tokens, E hidden size, V vocabulary, C classes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from multiway_blocks.linear import Linear
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core.errors import InputError
from torch import Tensor, nn


class MaskedLMHead(nn.Module):
    """Dense, activation, LayerNorm, then the transposed word embedding with a bias (Devlin et al. 2019, A.2)."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.activation = config.activation if config.family in ("bert", "unilm2") else "gelu"

    def forward(self, hidden_NE: Tensor, embedding_VE: Tensor) -> Tensor:
        """(..., E) -> (..., V)."""
        x_NE = self.dense(hidden_NE)
        if self.activation == "relu":
            x_NE = nn.functional.relu(x_NE)
        else:
            x_NE = nn.functional.gelu(x_NE, approximate="tanh" if self.activation == "gelu_tanh" else "none")
        return nn.functional.linear(self.norm(x_NE), embedding_VE, self.bias)


class ClassifierHead(nn.Module):
    """Dropout and a linear layer; RoBERTa's has a dense layer with tanh before (its pooler, in its head)."""

    def __init__(self, config: TextEncoderConfig, num_classes: int, *, dense: bool = False) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.dense = Linear(config.hidden_size, config.hidden_size) if dense else None
        self.output = Linear(config.hidden_size, num_classes)

    def forward(self, hidden_NE: Tensor) -> Tensor:
        """(..., E) -> (..., C)."""
        x_NE = nn.functional.dropout(hidden_NE, self.dropout, self.training)
        if self.dense is not None:
            x_NE = nn.functional.dropout(self.dense(x_NE).tanh(), self.dropout, self.training)
        return self.output(x_NE)


class _Model(nn.Module):
    """An encoder with a head; a pooler that the head does not use is left out."""

    def __init__(self, encoder: TextEncoder, head: nn.Module, *, pooler: bool = False) -> None:
        super().__init__()
        if encoder.pooler is not None and not pooler:
            encoder.pooler, encoder.config = None, replace(encoder.config, pooler=False)
        self.encoder, self.head = encoder, head
        for module in head.modules():
            encoder._initialize(module)


class MaskedLM(_Model):
    """Predicts tokens from the states of their places."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__(encoder, MaskedLMHead(encoder.config))

    def logits(self, hidden_NE: Tensor) -> Tensor:
        """(..., E) -> (..., V), for the places that are asked for."""
        return self.head(hidden_NE, self.encoder.token_embedding.weight)

    def forward(self, tokens_BT: Tensor, valid_BT: Tensor, **options: Any) -> Tensor:
        """Logits (B, T, V) of all places; ``options`` as of `TextEncoder`."""
        return self.logits(self.encoder(tokens_BT, valid_BT, **options).hidden_BTE)


class SequenceClassifier(_Model):
    """Classes of a text or a pair, from its first token; one class is a score (regression)."""

    def __init__(self, encoder: TextEncoder, num_classes: int) -> None:
        if num_classes < 1:
            raise InputError(f"a classifier needs a class, not {num_classes}")
        config = encoder.config
        roberta = config.family in ("roberta", "xlm-roberta")
        if not roberta and encoder.pooler is None:
            encoder.pooler = Linear(config.hidden_size, config.hidden_size)
            encoder._initialize(encoder.pooler)
            encoder.config = replace(config, pooler=True)
        super().__init__(encoder, ClassifierHead(config, num_classes, dense=roberta), pooler=not roberta)

    def forward(self, tokens_BT: Tensor, valid_BT: Tensor, **options: Any) -> Tensor:
        """Logits (B, C)."""
        output = self.encoder(tokens_BT, valid_BT, **options)
        return self.head(output.hidden_BTE[:, 0] if output.pooled_BE is None else output.pooled_BE)


class TokenClassifier(_Model):
    """A tag for each token; of a word the first token's counts.

    ``sum_words``: the first token's logits are those of the sum of its word's states (xTune's part-of-speech tagger).
    """

    def __init__(self, encoder: TextEncoder, num_classes: int, *, sum_words: bool = False) -> None:
        super().__init__(encoder, ClassifierHead(encoder.config, num_classes))
        self.sum_words = sum_words

    def forward(
        self, tokens_BT: Tensor, valid_BT: Tensor, firsts_BT: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Logits (B, T, C). ``firsts_BT``: for each token the place of its word's first; needed to sum words."""
        hidden_BTE = self.encoder(tokens_BT, valid_BT, **options).hidden_BTE
        if self.sum_words:
            if firsts_BT is None:
                raise InputError("a tagger that sums words needs to know which tokens are one word")
            index_BTE = firsts_BT[..., None].expand_as(hidden_BTE)
            hidden_BTE = torch.zeros_like(hidden_BTE).scatter_add(1, index_BTE, hidden_BTE)
        return self.head(hidden_BTE)


class SpanExtractor(_Model):
    """Where an answer begins and ends (SQuAD)."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__(encoder, ClassifierHead(replace(encoder.config, dropout=0.0), 2))

    def forward(self, tokens_BT: Tensor, valid_BT: Tensor, **options: Any) -> Tensor:
        """Logits (B, T, 2) of the first and the last token."""
        return self.head(self.encoder(tokens_BT, valid_BT, **options).hidden_BTE)
