"""Beam search with length penalty, batched, with finished rows dropped on the way.

Every row keeps K running hypotheses, scored by their summed log-probability, and up to K finished ones,
scored by sum / length ** length_penalty, where length counts the generated tokens and the end-of-sequence
token. Of the best continuations of a row, those that end within the first K ranks become finished, and the K
best that do not end go on. A row is done when it has K finished hypotheses and its best running one, were it
to end now, would not beat the worst of them. (Wu et al. 2016, "Google's Neural Machine Translation System",
section 7, with the plain power of the length as penalty.) That is `BeamRow`; `beam_search` takes other rules of which
hypotheses go on, end and win as another class of rows.

Shape legend: B rows of the call, N rows still in the batch, K beams, C candidates, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from multiway_core.generation.cache import without
from multiway_core.generation.config import GenerationConfig
from multiway_core.generation.output import GenerationOutput, StopReason
from multiway_core.generation.processors import NEVER, LogitsProcessor, ProcessorChain, at_least_float32


@dataclass(frozen=True)
class Node:
    """The newest token of a hypothesis, and the rest of it; hypotheses share their past."""

    token: int
    log_prob: float
    before: Node | None


@dataclass(frozen=True)
class Running:
    """A hypothesis that goes on: its summed log-probability, and the beam (of its row) that it continues."""

    score: float
    node: Node | None
    parent: int


DEAD = Running(NEVER, None, 0)  # fills the beams of a row that has fewer than K continuations


@dataclass
class BeamRow:
    """The search of one row of the call.

    running: one hypothesis for each beam. finished: (score, why it ended, last node), best first.
    """

    num_beams: int
    length_penalty: float
    running: list[Running] = field(default_factory=lambda: [Running(0.0, None, 0)])
    finished: list[tuple[float, StopReason, Node | None]] = field(default_factory=list)

    @property
    def best_running(self) -> Running:
        return max(self.running, key=lambda hypothesis: hypothesis.score)

    def finish(self, score: float, length: int, reason: StopReason, node: Node | None) -> None:
        self.finished.append((self.normalized(score, length), reason, node))
        self.finished.sort(key=lambda hypothesis: -hypothesis[0])
        del self.finished[self.num_beams :]

    def normalized(self, score: float, length: int) -> float:
        return score / max(length, 1) ** self.length_penalty

    def is_done(self, length: int) -> bool:
        best = self.best_running.score
        full = len(self.finished) == self.num_beams
        return best == NEVER or (full and self.normalized(best, length) <= self.finished[-1][0])

    def advance(
        self,
        candidates: Iterable[tuple[int, int, float, float]],
        length: int,
        eos: frozenset[int],
        is_last: bool,
    ) -> None:
        """Replace the running hypotheses by their best continuations.

        Args:
            candidates: (beam, token, summed log-probability, log-probability of the token), best first.
            length: generated tokens, this one included.
            eos: tokens that end a hypothesis.
            is_last: this is the last token that may be generated.
        """
        before = self.running
        after: list[Running] = []
        for rank, (beam, token, score, log_prob) in enumerate(candidates):
            if score == NEVER or len(after) == self.num_beams:
                break
            if token in eos:
                if rank < self.num_beams:
                    self.finish(score, length, "eos", before[beam].node)
                continue
            node = Node(token, log_prob, before[beam].node)
            if is_last and rank < self.num_beams:
                self.finish(score, length, "length", node)
            after.append(Running(score, node, beam))
        if not after and not self.finished:  # nothing was allowed: keep what there is
            best = self.best_running
            self.finish(best.score, length - 1, "stopped:no_token", best.node)
        self.running = in_place(after, self.num_beams)

    def stop(self, beam: int, length: int, reason: StopReason) -> None:
        """End a running hypothesis."""
        hypothesis = self.running[beam]
        if hypothesis.score > NEVER:
            self.finish(hypothesis.score, length, reason, hypothesis.node)
            self.running[beam] = DEAD


def in_place(hypotheses: list[Running], num_beams: int) -> list[Running]:
    """Give a hypothesis the beam that it continues where that is free, so that no cache need be copied."""
    beams: list[Running | None] = [None] * num_beams
    movers = []
    for hypothesis in hypotheses:
        if beams[hypothesis.parent] is None:
            beams[hypothesis.parent] = hypothesis
        else:
            movers.append(hypothesis)
    fillers = iter(movers)
    return [beam if beam is not None else next(fillers, DEAD) for beam in beams]


class BeamCache(Protocol):
    """What a beam search asks of a cache; `StaticKVCache` is one."""

    @property
    def batch_size(self) -> int: ...

    def require(self, tokens: int) -> None: ...

    def select(self, rows: Tensor) -> None: ...


AnyCache = TypeVar("AnyCache", bound=BeamCache)


@torch.inference_mode()
def beam_search(
    decode: Callable[[Tensor, AnyCache], Tensor],
    first_logits_BV: Tensor,
    cache: AnyCache,
    config: GenerationConfig,
    processors: Sequence[LogitsProcessor] = (),
    *,
    new_row: Callable[[], BeamRow] | None = None,
) -> GenerationOutput:
    """The best hypothesis of every row; arguments and errors as in `generate`.

    Processors see log-softmaxed logits, and what they return is not normalized again.
    ``new_row``: makes the search of a row; `BeamRow` with the numbers of ``config`` by default.
    """
    if len(first_logits_BV) != cache.batch_size:
        raise ValueError(f"{len(first_logits_BV)} rows of logits but {cache.batch_size} rows in the cache")
    limit, num_beams, device = config.max_new_tokens, config.num_beams, first_logits_BV.device
    cache.require(max(limit - 1, 0))
    eos = frozenset(config.eos_token_ids)
    chain = ProcessorChain(processors)
    chain.start(len(first_logits_BV), device)

    new_row = new_row or partial(BeamRow, num_beams, config.length_penalty)
    all_rows = [new_row() for _ in range(len(first_logits_BV))]
    rows = all_rows
    logits = first_logits_BV  # (N, V) in the first step, (N * K, V) in all others
    history = torch.empty(len(rows), limit, dtype=torch.long, device=device)  # what processors read
    for length in range(1, limit + 1 if rows else 0):
        log_probs = at_least_float32(logits).log_softmax(dim=-1)
        allowed = chain(history[:, : length - 1], log_probs)
        candidates = _candidates(allowed, log_probs, rows, num_beams * max(2, 1 + len(eos)))
        width = len(logits) // len(rows)
        for row, best in zip(rows, candidates, strict=True):
            row.advance(best, length, eos, is_last=length == limit)
        if length == limit:
            break

        sources = torch.tensor(
            [width * position + beam.parent for position, row in enumerate(rows) for beam in row.running]
        )
        tokens = torch.tensor(
            [beam.node.token if beam.node else config.pad_token_id for row in rows for beam in row.running]
        )
        chain.select(sources)
        for index, reason in chain.observe(tokens).items():
            rows[index // num_beams].stop(index % num_beams, length, reason)
        done = {position for position, row in enumerate(rows) if row.is_done(length)}
        if len(done) == len(rows):
            break
        if done:
            kept_rows = without(len(rows), done)
            kept = (kept_rows[:, None] * num_beams + torch.arange(num_beams)).flatten()
            rows = [rows[position] for position in kept_rows.tolist()]
            sources, tokens = sources[kept], tokens[kept]
            chain.select(kept)
        cache.select(sources)
        history = history[sources.to(device)]
        tokens = tokens.to(device)
        history[:, length - 1] = tokens
        logits = decode(tokens[:, None], cache)
    return _output(all_rows)


def _candidates(
    allowed: Tensor, log_probs: Tensor, rows: list[BeamRow], count: int
) -> list[list[tuple[int, int, float, float]]]:
    """Per row the best continuations over all its beams, best first; the step's one synchronisation.

    Args:
        allowed: log-probabilities after processors, float (rows * beams, vocabulary).
        log_probs: the same before processors.
        rows: their searches.
        count: continuations per row.
    """
    width = len(allowed) // len(rows)
    # The best continuations of a row are among the best of each of its beams.
    best, tokens = allowed.topk(min(count, allowed.shape[1]), dim=1)
    singles = log_probs.gather(1, tokens)
    sums = torch.tensor([beam.score for row in rows for beam in row.running], dtype=torch.float64)
    totals = best.nan_to_num(nan=NEVER, posinf=NEVER, neginf=NEVER) + sums.to(allowed.device)[:, None]
    totals_NC, places_NC = totals.view(len(rows), -1).topk(min(count, totals.numel() // len(rows)), dim=1)
    beams_NC = places_NC // (totals.numel() // len(rows) // width)
    tokens_NC = tokens.view(len(rows), -1).gather(1, places_NC)
    singles_NC = singles.view(len(rows), -1).gather(1, places_NC)
    table = zip(beams_NC.tolist(), tokens_NC.tolist(), totals_NC.tolist(), singles_NC.tolist(), strict=True)
    return [list(zip(*of_row, strict=True)) for of_row in table]


def _output(rows: list[BeamRow]) -> GenerationOutput:
    output = GenerationOutput([], [], [], [])
    for row in rows:
        score, reason, node = row.finished[0] if row.finished else (0.0, "length", None)
        tokens, log_probs = [], []
        while node is not None:
            tokens.append(node.token)
            log_probs.append(node.log_prob)
            node = node.before
        with torch.inference_mode(False):
            output.tokens.append(torch.tensor(tokens[::-1], dtype=torch.long))
            output.log_probs.append(torch.tensor(log_probs[::-1], dtype=torch.float64))
        output.stop_reasons.append(reason)
        output.beam_scores.append(score)
    return output
