"""A causal language model around its decoder: embedding, cache, logits, and the two calls of the decode loop.

Shape suffixes: B batch, T new tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_blocks.int8 import Int8Linear, QuantizedLinear
from multiway_blocks.linear import Linear, project


class CausalLM(nn.Module):
    """Embedding, decoder and output matrix.

    Args:
        vocab_size: V.
        hidden_size: E.
        new_decoder: makes a module from (x (B, T, E), valid (B, T) bool or None, cache or None) to the states behind
            its last norm, with ``new_cache``: a `multiway_blocks.causal.CausalStack`, or what stands in its place.
            Called between the initialisations of embedding and head.
        tied: the output matrix is the embedding.
        max_positions: tokens of the longest sequence, where there is a limit.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        new_decoder: Callable[[], nn.Module],
        *,
        tied: bool = True,
        max_positions: int | None = None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, hidden_size)
        self.decoder: Any = new_decoder()
        self.head: nn.Linear | None = None if tied else Linear(hidden_size, vocab_size, bias=False)
        self.max_positions = max_positions

    @property
    def embedding_std(self) -> float:
        """Deviation of a new embedding: with it the first logits of a tied matrix have a deviation of about 1."""
        return self.embedding.embedding_dim**-0.5

    def hidden(
        self, tokens_BT: Tensor, valid_BT: Tensor | None = None, cache: StaticKVCache | None = None
    ) -> Tensor:
        """Hidden states (B, T, E), behind the last norm, of new tokens behind what the cache holds.

        ``valid`` (B, T) bool is False at padding, which stands on the left; None: all are real.
        Raises InputError for no tokens and for more than ``max_positions``.
        """
        self.require_tokens(tokens_BT)
        return self.decoder(self.embed(tokens_BT), valid_BT, cache)

    def embed(self, tokens: Tensor) -> Tensor:
        """The tokens' vectors: (...) int64 -> (..., E)."""
        if isinstance(self.embedding, QuantizedLinear):
            return self.embedding.rows(tokens, self.float_weight().dtype)
        return self.embedding(tokens)

    def last_hidden(self, tokens_BT: Tensor, valid_BT: Tensor | None, cache: StaticKVCache) -> Tensor:
        """As :meth:`hidden`, of the last token alone: (B, E)."""
        return self.hidden(tokens_BT, valid_BT, cache)[:, -1]

    @property
    def output_matrix_VE(self) -> Tensor:
        """The matrix that makes logits of hidden states."""
        return self.embedding.weight if self.head is None else self.head.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., E) -> (..., V)."""
        head = self.embedding if self.head is None else self.head
        return head(hidden) if isinstance(head, QuantizedLinear) else project(hidden, head.weight)

    def forward(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of the token that follows each."""
        return self.logits(self.hidden(tokens_BT, valid_BT))

    def new_cache(self, batch_size: int, max_length: int) -> StaticKVCache:
        """An empty cache for ``max_length`` tokens a row. Raises InputError beyond ``max_positions``."""
        self.require_positions(max_length)
        return self.decoder.new_cache(batch_size, max_length, self.float_weight())

    def prefill(self, tokens_BT: Tensor, cache: StaticKVCache, valid_BT: Tensor | None = None) -> Tensor:
        """Read prompts, padded on the left where ``valid`` is False; float logits (B, V) of the first new token."""
        return self.logits(self.last_hidden(tokens_BT, valid_BT, cache)).float()

    def decode(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        """Read further tokens behind the cache; float logits (B, V) of the next one."""
        return self.logits(self.last_hidden(tokens_BT, None, cache)).float()

    def decode_each(self, tokens_BT: Sequence[Tensor], caches: Sequence[StaticKVCache]) -> list[Tensor]:
        """:meth:`decode` for several sequences, each behind a cache of its own: one after the other here.

        Raises InputError when a cache is full; others may have been written to by then.
        """
        return [self.decode(tokens, cache) for tokens, cache in zip(tokens_BT, caches, strict=True)]

    @torch.no_grad()
    def quantize_head(self) -> None:
        """Hold the output matrix in a byte a weight, and with it the embedding where the two are one: to run only.

        Most of what a step reads, where the layers are ternary, is this matrix; it is read in half the time of
        bfloat16.
        """
        if self.head is not None and not isinstance(self.head, QuantizedLinear):
            self.head = Int8Linear.of(self.head.weight)  # type: ignore[assignment]
        elif self.head is None and not isinstance(self.embedding, QuantizedLinear):
            self.embedding = Int8Linear.of(self.embedding.weight)  # type: ignore[assignment]

    def float_weight(self) -> Tensor:
        """A weight that is in floating point, whatever else is quantised."""
        return next(weight for weight in self.parameters() if weight.is_floating_point())

    def require_tokens(self, tokens_BT: Tensor) -> None:
        """Raise InputError for no tokens, and for more than there are positions."""
        if tokens_BT.shape[1] == 0:
            raise InputError("empty prompt: a language model needs at least one token to continue")
        self.require_positions(tokens_BT.shape[1])

    def require_positions(self, tokens: int) -> None:
        """Raise InputError for a sequence that is too long."""
        if self.max_positions is not None and tokens > self.max_positions:
            raise InputError(
                f"sequence too long: {tokens} tokens are asked for and the model's context has {self.max_positions};"
                " shorten the input or lower max_new_tokens"
            )
