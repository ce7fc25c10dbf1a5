"""Constraints that follow what a row has generated: a finite-state grammar, and a stop on endless repetition.

Shape legend: N rows, T tokens, V vocabulary, S states, C token classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import torch
from torch import LongTensor, Tensor

from multiway_core.generation.processors import NEVER, StatefulConstraint

FORBIDDEN = -1


class FiniteStateConstraint(StatefulConstraint):
    """Allows only the tokens for which a finite-state machine has a transition.

    Tokens are grouped into classes, so the machine is a small table. The current states are in `states_N`
    (int64, on the CPU); a subclass may narrow the choice further, for instance by values that it remembers.

    Args:
        classes_V: int64 (vocabulary,), the class of every token.
        transitions_SC: int64 (states, classes), the next state, or -1 (`FORBIDDEN`).
        start: state before the first token.
    """

    name = "grammar"

    def __init__(
        self, classes_V: LongTensor | Tensor, transitions_SC: LongTensor | Tensor, *, start: int = 0
    ) -> None:
        self.classes_V = classes_V.cpu()
        self.transitions_SC = transitions_SC.cpu()
        self.first_state = start
        self.states_N = torch.empty(0, dtype=torch.long)
        self.forbidden_SV = (self.transitions_SC == FORBIDDEN)[:, self.classes_V]

    def start(self, batch_size: int, device: torch.device) -> None:
        self.states_N = torch.full((batch_size,), self.first_state)
        self.forbidden_SV = self.forbidden_SV.to(device)

    def __call__(self, tokens_BT: LongTensor | Tensor, logits_BV: Tensor) -> Tensor:
        return logits_BV.masked_fill(self.forbidden_SV[self.states_N.to(logits_BV.device)], NEVER)

    def observe(self, tokens_B: Tensor) -> Iterable[int]:
        # A row that ends here may have a token that the machine forbids; its state is not asked for again.
        following_N = self.transitions_SC[self.states_N, self.classes_V[tokens_B]]
        self.states_N = torch.where(following_N == FORBIDDEN, self.states_N, following_N)
        return ()

    def select(self, rows: Tensor) -> None:
        self.states_N = self.states_N[rows]


@dataclass
class _Trail:
    """What is remembered of a row: hashes of its latest segments, and how long each cycle has gone on."""

    recent: deque[int]
    streaks: dict[int, int] = field(default_factory=dict)
    segment: int = 0  # hash of the tokens since the last separator; 0 for none

    def copy(self) -> _Trail:
        return _Trail(self.recent.copy(), self.streaks.copy(), self.segment)


class StopOnRepetition(StatefulConstraint):
    """Ends a row that repeats itself, with the reason "stopped:loop".

    The output is cut into segments at separator tokens (lines at newlines, say; empty segments do not count).
    A row ends when a cycle of n segments has occurred `repeats` times in a row, for any n in `cycles`. Short
    cycles other than 1 are left out by default, because tables and forms do alternate.

    Work per token is constant, and per segment it is proportional to the number of cycle lengths.

    Args:
        separators: tokens that end a segment; None makes every token a segment.
        repeats: how often a cycle must occur, at least 2.
        cycles: cycle lengths in segments.
    """

    name = "loop"

    def __init__(
        self,
        separators: Collection[int] | None,
        *,
        repeats: int = 3,
        cycles: Iterable[int] = (1, *range(4, 33)),
    ) -> None:
        self.separators = None if separators is None else frozenset(separators)
        self.repeats = repeats
        self.cycles = sorted(set(cycles))
        if repeats < 2 or not self.cycles or self.cycles[0] < 1:
            raise ValueError(
                f"repeats must be at least 2 and cycles at least 1, not {repeats} and {self.cycles}"
            )
        self.trails: list[_Trail] = []

    def start(self, batch_size: int, device: torch.device) -> None:
        self.trails = [_Trail(deque(maxlen=self.cycles[-1])) for _ in range(batch_size)]

    def observe(self, tokens_B: Tensor) -> list[int]:
        return [
            row for row, token in enumerate(tokens_B.tolist()) if self._is_looping(self.trails[row], token)
        ]

    def _is_looping(self, trail: _Trail, token: int) -> bool:
        if self.separators is not None and token not in self.separators:
            trail.segment = hash((trail.segment, token)) or 1
            return False
        segment = trail.segment if self.separators is not None else token
        if self.separators is not None and segment == 0:
            return False
        looping = False
        for cycle in self.cycles:
            same = len(trail.recent) >= cycle and trail.recent[-cycle] == segment
            trail.streaks[cycle] = trail.streaks.get(cycle, 0) + 1 if same else 0
            looping |= trail.streaks[cycle] >= (self.repeats - 1) * cycle
        trail.recent.append(segment)
        trail.segment = 0
        return looping

    def select(self, rows: Tensor) -> None:
        taken: set[int] = set()
        trails = []
        for row in rows.tolist():  # only a row that is repeated, as in beam search, needs a trail of its own
            trails.append(self.trails[row].copy() if row in taken else self.trails[row])
            taken.add(row)
        self.trails = trails
