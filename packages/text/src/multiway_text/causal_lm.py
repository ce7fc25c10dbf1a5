"""A causal language model around its layers: embedding, cache, logits, and the two calls of the decode loop.

Shape suffixes: B batch, T new tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from multiway_blocks.causal import causal_visibility, token_positions
from multiway_blocks.int8 import Int8Linear
from multiway_blocks.linear import project
from multiway_blocks.norm import RMSNorm
from multiway_blocks.transformer import Context
from multiway_core import config
from multiway_core.errors import CheckpointError, InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

Config = TypeVar("Config")


class Sizes(Protocol):
    """What a configuration has to say."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def num_kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def norm_eps(self) -> float: ...
    @property
    def tied_embeddings(self) -> bool: ...


def check_layers(path: Path, num_layers: int, tensors: Sized) -> None:
    """Refuse a configuration with more layers than the checkpoint has tensors, before anything is built of it."""
    if num_layers > len(tensors):
        raise CheckpointError(
            f"{path}: {num_layers} layers are asked for, and there are {len(tensors)} tensors"
        )


def read_config(kind: type[Config], path: Path) -> Config:
    """The configuration in a file. Raises ConfigError; InputError, with the file's name, if its sizes do not fit."""
    try:
        return config.load(kind, path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def non_finite(module: nn.Module) -> list[str]:
    """Names of the weights and buffers with values that are NaN or infinite."""
    # A sum is one pass over the memory, and is not finite where any summand is not.
    return [
        name
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
        if tensor.is_floating_point() and not torch.isfinite(tensor.detach().sum(dtype=torch.float32))
    ]


def require_finite(path: Path, module: nn.Module) -> None:
    """Refuse weights that are not finite, naming the first tensor and the file. Raises InputError."""
    for name in non_finite(module):
        raise InputError(f"{path}: {name} has values that are not finite; the file is damaged")


class CausalLM(nn.Module):
    """Layers are those of a `multiway_blocks.transformer.Stack`."""

    def __init__(self, sizes: Sizes, layers: Iterable[nn.Module], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(sizes.vocab_size, sizes.hidden_size)
        self.layers = nn.ModuleList(layers)
        self.norm: nn.Module = RMSNorm(sizes.hidden_size, eps=sizes.norm_eps) if norm is None else norm
        self.head: nn.Linear | None = None
        if not sizes.tied_embeddings:
            self.head = nn.Linear(sizes.hidden_size, sizes.vocab_size, bias=False)

    def hidden(
        self, tokens_BT: Tensor, valid_BT: Tensor | None = None, cache: StaticKVCache | None = None
    ) -> Tensor:
        """Hidden states (B, T, E), behind the last norm, of new tokens behind what the cache holds.

        ``valid`` (B, T) bool is False at padding, which stands on the left; None: all are real.
        """
        return self.hidden_of(self.embed(tokens_BT), valid_BT, cache)

    def embed(self, tokens: Tensor) -> Tensor:
        """The tokens' vectors: (...) int64 -> (..., E)."""
        if isinstance(self.embedding, Int8Linear):
            return self.embedding.rows(tokens, self._weight().dtype)
        return self.embedding(tokens)

    def hidden_of(
        self, x_BTE: Tensor, valid_BT: Tensor | None = None, cache: StaticKVCache | None = None
    ) -> Tensor:
        """As :meth:`hidden`, of vectors (B, T, E) in the place of tokens."""
        if valid_BT is None:
            valid_BT = torch.ones(x_BTE.shape[:2], dtype=torch.bool, device=x_BTE.device)
        mask = self.visibility(valid_BT, cache)
        context = Context(mask, token_positions(valid_BT, cache), cache, valid_BT)
        for index, layer in enumerate(self.layers):
            x_BTE = layer(x_BTE, context, index)
        if cache is not None:
            cache.advance(valid_BT)
        return self.norm(x_BTE)

    def _weight(self) -> Tensor:
        """A weight that is in floating point, whatever else is quantised."""
        return next(weight for weight in self.parameters() if weight.is_floating_point())

    def visibility(self, valid_BT: Tensor, cache: StaticKVCache | None) -> Tensor | None:
        """Who sees whom, see :func:`multiway_blocks.causal.causal_visibility`."""
        return causal_visibility(valid_BT, cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., E) -> (..., V)."""
        head = self.embedding if self.head is None else self.head
        return head(hidden) if isinstance(head, Int8Linear) else project(hidden, head.weight)

    @torch.no_grad()
    def quantize_head(self) -> None:
        """Hold the output matrix in a byte a weight, and with it the embedding where the two are one: to run only.

        Most of what a step reads, where the layers are ternary, is this matrix; it is read in half the time of
        bfloat16.
        """
        if self.head is not None and not isinstance(self.head, Int8Linear):
            self.head = Int8Linear.of(self.head.weight)  # type: ignore[assignment]
        elif self.head is None and not isinstance(self.embedding, Int8Linear):
            self.embedding = Int8Linear.of(self.embedding.weight)  # type: ignore[assignment]

    def forward(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of the token that follows each."""
        return self.logits(self.hidden(tokens_BT, valid_BT))

    def new_cache(self, batch_size: int, max_length: int) -> StaticKVCache:
        """An empty cache for ``max_length`` tokens a row."""
        sizes, weight = self.sizes, self._weight()
        return StaticKVCache(
            sizes.num_layers,
            batch_size,
            sizes.num_kv_heads,
            sizes.head_dim,
            max_length,
            dtype=weight.dtype,
            device=weight.device,
        )

    def prefill(self, tokens_BT: Tensor, cache: StaticKVCache, valid_BT: Tensor | None = None) -> Tensor:
        """Read prompts, padded on the left where ``valid`` is False; float logits (B, V) of the first new token."""
        return self.logits(self.hidden(tokens_BT, valid_BT, cache)[:, -1]).float()

    def decode(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        """Read further tokens behind the cache; float logits (B, V) of the next one."""
        return self.logits(self.hidden(tokens_BT, cache=cache)[:, -1]).float()

    def decode_each(self, tokens_BT: Sequence[Tensor], caches: Sequence[StaticKVCache]) -> list[Tensor]:
        """:meth:`decode` for several sequences, each behind a cache of its own: one after the other here.

        Raises InputError when a cache is full; others may have been written to by then.
        """
        return [self.decode(tokens, cache) for tokens, cache in zip(tokens_BT, caches, strict=True)]
