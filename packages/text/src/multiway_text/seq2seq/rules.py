"""How s2s-ft's beam search lets hypotheses go on, end and win; a policy of `multiway_core.generation.beam_search`.

Of the K best continuations of all beams those with the end token end, and take their places out of the beam for one
step. The winner is the best by its score behind a length penalty among all that ended and those that stand at the last
step (s2s-ft's ``decode_seq2seq.py``). `BeamRow` in core has the rules of Wu et al. (2016), in which ended hypotheses
take no place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from multiway_core.errors import ConfigError
from multiway_core.generation.beam import BeamRow, Node, Running, in_place
from multiway_core.generation.output import StopReason
from multiway_core.generation.processors import NEVER


@dataclass(frozen=True)
class LengthPenalty:
    """What a hypothesis is worth: its summed log-probability s and its length n, the end token included.

    kind "power": ``s / ((5 + n) / 6) ** weight`` (Wu et al. 2016, equation 14; 0: s itself).
    kind "linear": ``s + weight n``.
    kind "expected": ``s - weight |n - expected|``.
    """

    kind: Literal["power", "linear", "expected"] = "power"
    weight: float = 0.0
    expected: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise ConfigError(f"length penalty: the weight must be at least 0, not {self.weight}")

    def value(self, total: float, length: int) -> float:
        """Of a finished hypothesis."""
        if self.kind == "linear":
            return total + self.weight * length
        if self.kind == "expected":
            return total - self.weight * abs(length - self.expected)
        return total / ((5 + length) / 6) ** self.weight

    def bound(self, total: float, length: int, max_length: int) -> float:
        """What no continuation of a running hypothesis of ``length`` tokens can exceed, for sums only fall."""
        if self.kind == "expected":
            nearest = min(max(self.expected, length + 1), max_length)
            return self.value(total, nearest)
        return self.value(total, max_length)


class Seq2SeqRow(BeamRow):
    """The search of one text.

    ``early_stop`` ends it when no running hypothesis can win any more, which does not change the result.
    """

    def __init__(
        self, num_beams: int, max_length: int, penalty: LengthPenalty, *, early_stop: bool = True
    ) -> None:
        super().__init__(num_beams, length_penalty=0.0)
        self.penalty, self.max_length, self.early_stop = penalty, max_length, early_stop

    def finish(self, score: float, length: int, reason: StopReason, node: Node | None) -> None:
        """Keep the best; of equals the earlier."""
        value = self.penalty.value(score, length)
        if not self.finished or value > self.finished[0][0]:
            self.finished = [(value, reason, node)]

    def is_done(self, length: int) -> bool:
        best = self.best_running.score
        if best == NEVER:
            return True
        if not self.early_stop or not self.finished:
            return False
        return self.finished[0][0] >= self.penalty.bound(best, length, self.max_length)

    def advance(
        self,
        candidates: Iterable[tuple[int, int, float, float]],
        length: int,
        eos: frozenset[int],
        is_last: bool,
    ) -> None:
        before, after = self.running, []
        for beam, token, score, log_prob in islice(candidates, self.num_beams):
            if score == NEVER:
                break
            if token in eos:
                self.finish(score, length, "eos", before[beam].node)
                continue
            node = Node(token, log_prob, before[beam].node)
            if is_last:
                self.finish(score, length, "length", node)
            after.append(Running(score, node, beam))
        if not after and not self.finished:  # nothing was allowed: keep what there is
            best = self.best_running
            self.finish(best.score, length - 1, "stopped:no_token", best.node)
        self.running = in_place(after, self.num_beams)
