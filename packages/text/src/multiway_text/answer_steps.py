"""The steps of an answer, and the network's next one among them: several answers can take theirs at once."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from multiway_core.generation import StaticKVCache
from torch import Tensor

Event = TypeVar("Event")


class NextStep:
    """What the network reads next for an answer, as far as it is known, and what it said to that.

    Attributes:
        tokens_BT: int64 (B, T); None while nothing is known.
        cache: what they stand behind.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self.tokens_BT: Tensor | None = None
        self.cache: StaticKVCache | None = None
        self._logits_BV: Tensor | None = None

    def expect(self, tokens_BT: Tensor, cache: StaticKVCache) -> None:
        """The next call of `decode` will be this one."""
        self.tokens_BT, self.cache = tokens_BT, cache

    def supply(self, logits_BV: Tensor) -> None:
        """What the network says to what is expected: the cache has moved on."""
        self.tokens_BT, self._logits_BV = None, logits_BV

    def forget(self) -> None:
        """There is no next step: the cache's memory is free."""
        self.tokens_BT = self.cache = self._logits_BV = None

    def decode(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        """As the network's, which is asked where it has not been yet."""
        known, self._logits_BV, self.tokens_BT = self._logits_BV, None, None
        return self._network.decode(tokens_BT, cache) if known is None else known


class AnswerSteps(Iterator[Event], Generic[Event]):
    """What every step adds. Closing it frees the memory."""

    def __init__(self, events: Generator[Event, None, None], next_step: NextStep) -> None:
        self._events, self.next_step = events, next_step

    def __next__(self) -> Event:
        try:
            return next(self._events)
        except BaseException:
            self.next_step.forget()
            raise

    def close(self) -> None:
        """End it."""
        self._events.close()
        self.next_step.forget()


@torch.inference_mode()
def batched_decode(network: Any, steps: Sequence[AnswerSteps[Any]]) -> None:
    """Let the network take the next step of all answers at once, as far as it is known.

    An answer is what it would be alone, but for the last bits of logits where the output matrix is in floating point.
    """
    known = [one for one in steps if one.next_step.tokens_BT is not None]
    if len(known) < 2:
        return
    logits = network.decode_each(
        [one.next_step.tokens_BT for one in known], [one.next_step.cache for one in known]
    )
    for one, logits_BV in zip(known, logits, strict=True):
        one.next_step.supply(logits_BV)
