"""One sequence that is being generated, and batched decoding: one step of the network for several sequences."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from multiway_core.generation import GraphedDecode, StaticKVCache
from torch import Tensor

Event = TypeVar("Event")


class NextStep:
    """The pending decoding step of a sequence: its input tokens, and its logits once a batched step computed them.

    Attributes:
        tokens_BT: int64 (B, T), the input of the next step; None while there is none.
        cache: the sequence's key-value cache.

    ``cuda_graph``: steps are captured (`multiway_core.generation.GraphedDecode`).
    """

    def __init__(self, network: Any, *, cuda_graph: bool = False) -> None:
        self._decode = GraphedDecode(network.decode) if cuda_graph else network.decode
        self.tokens_BT: Tensor | None = None
        self.cache: StaticKVCache | None = None
        self._logits_BV: Tensor | None = None

    def expect(self, tokens_BT: Tensor, cache: StaticKVCache) -> None:
        """Announce the arguments of the next call of `decode`."""
        self.tokens_BT, self.cache = tokens_BT, cache

    def supply(self, logits_BV: Tensor) -> None:
        """Store the logits of the announced step. The cache already contains its tokens."""
        self.tokens_BT, self._logits_BV = None, logits_BV

    def forget(self) -> None:
        """Drop the step and the reference to the cache, so that its memory can be freed."""
        self.tokens_BT = self.cache = self._logits_BV = None

    def decode(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        """The stored logits (B, V) of this step if there are some, otherwise the network's `decode`."""
        known, self._logits_BV, self.tokens_BT = self._logits_BV, None, None
        return self._decode(tokens_BT, cache) if known is None else known


class GenerationSequence(Iterator[Event], Generic[Event]):
    """Iterates over the events of a sequence, one a decoding step. Closing it frees its cache."""

    def __init__(self, events: Generator[Event, None, None], next_step: NextStep) -> None:
        self._events, self.next_step = events, next_step

    def __next__(self) -> Event:
        try:
            return next(self._events)
        except BaseException:
            self.next_step.forget()
            raise

    def close(self) -> None:
        """End the generation and free the cache."""
        self._events.close()
        self.next_step.forget()


@torch.inference_mode()
def batched_decode(network: Any, sequences: Sequence[GenerationSequence[Any]]) -> None:
    """Compute the pending steps of several sequences in one call of the network; one or none is left as it is.

    The tokens are those of decoding one by one, but for the last bits of logits where the output matrix is in floating
    point.
    """
    pending = [one for one in sequences if one.next_step.tokens_BT is not None]
    if len(pending) < 2:
        return
    logits = network.decode_each(
        [one.next_step.tokens_BT for one in pending], [one.next_step.cache for one in pending]
    )
    for one, logits_BV in zip(pending, logits, strict=True):
        one.next_step.supply(logits_BV)
