"""XNLG's beam search: which hypotheses end, go on and win, as a policy of `multiway_core.generation.beam_search`.

A step looks at the 2K best continuations of all beams. Those with ``</s>`` are stored until K others go on; in the last
step all are stored, without their newest token, whose log-probability counts. A stored hypothesis is worth its summed
log-probability divided by its length, ``</s>`` at the beginning included, to the power of the penalty; the K best are
kept. A search ends when K are stored and the best continuation, divided by the greatest length to that power, is no
better than the worst of them; with early stopping when K are stored.

Shape suffixes: B texts, N beams of all texts, S source tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from multiway_core.errors import ConfigError, InputError
from multiway_core.generation import GenerationConfig, beam_search
from multiway_core.generation.beam import DEAD, BeamRow, Node, Running, in_place
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from multiway_text.xnlg.config import EOS, PAD
from multiway_text.xnlg.model import TargetCache, Xnlg
from multiway_text.xnlg.objective import Text, framed


@dataclass(frozen=True)
class Search:
    """How targets are searched for.

    Attributes:
        num_beams: hypotheses of a text; 1 is greedy.
        length_penalty: see this module; above 0 favours long targets.
        max_length: tokens of a target, ``</s>`` at both ends included; None: what the model was trained for.
        early_stopping: whether the first K stored hypotheses end a search.
        batch_size: texts that are decoded side by side.
    """

    num_beams: int = 3
    length_penalty: float = 0.9
    max_length: int | None = None
    early_stopping: bool = False
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.num_beams < 1 or not 0 <= self.length_penalty < float("inf"):
            raise ConfigError("a search needs at least 1 beam, and a length penalty of at least 0")


class Target(NamedTuple):
    """Ids without ``</s>``, and the score of this module."""

    ids: list[int]
    score: float


class XnlgRow(BeamRow):
    """The search of one text. ``max_length``: of the longest hypothesis, without the final ``</s>``."""

    def __init__(self, search: Search, max_length: int) -> None:
        super().__init__(search.num_beams, search.length_penalty)
        self.max_length, self.early_stopping = max_length, search.early_stopping

    def is_done(self, length: int) -> bool:
        stored = len(self.finished) == self.num_beams
        return all(beam is DEAD for beam in self.running) or (self.early_stopping and stored)

    def advance(
        self,
        candidates: Iterable[tuple[int, int, float, float]],
        length: int,
        eos: frozenset[int],
        is_last: bool,
    ) -> None:
        best_first = list(candidates)
        before, after = self.running, []
        full = len(self.finished) == self.num_beams
        if full and self.finished[-1][0] >= self.normalized(best_first[0][2], self.max_length):
            best_first = []  # the best continuation would not be better than the worst that is stored
        for beam, token, score, log_prob in best_first:
            if score == DEAD.score:
                break
            if token in eos or is_last:
                self.finish(score, length, "eos" if token in eos else "length", before[beam].node)
            else:
                after.append(Running(score, Node(token, log_prob, before[beam].node), beam))
            if len(after) == self.num_beams:
                break
        self.running = in_place(after, self.num_beams)


@torch.inference_mode()
def generate(
    model: Xnlg, sources: Sequence[Text], language: str, search: Search, allowed_N: Tensor | None = None
) -> list[Target]:
    """A target in ``language`` for each source. ``allowed_N``: the ids that it may consist of (XNLG's ``vocab_mask``).

    Raises InputError: a language or length that the model does not have, or a source that is empty or too long.
    """
    config = model.config
    code, longest = config.language_id(language), search.max_length or config.max_target
    if not 2 < longest <= config.num_positions:
        raise InputError(
            f"max_length is {longest}; the model has positions for 3 to {config.num_positions} tokens"
        )
    for number, source in enumerate(sources):
        if not 0 < len(source.ids) <= config.max_source - 2:
            raise InputError(
                f"source {number} has {len(source.ids)} tokens; expected 1 to {config.max_source - 2}: divide it"
            )
    forbidden_V = None
    device = model.decoder.output_bias.device
    if allowed_N is not None:
        forbidden_V = torch.ones(config.vocab_size, dtype=torch.bool, device=device)
        forbidden_V[allowed_N.to(device)] = False

    def step(tokens_N1: Tensor, cache: TargetCache) -> Tensor:
        logits_NV = model.step(tokens_N1, code, cache)
        return logits_NV if forbidden_V is None else logits_NV.masked_fill(forbidden_V, -torch.inf)

    order = sorted(range(len(sources)), key=lambda i: len(sources[i].ids))
    found: dict[int, Target] = {}
    for start in range(0, len(order), search.batch_size):
        rows = order[start : start + search.batch_size]
        ids = [torch.from_numpy(framed(sources[i].ids, config.max_source)) for i in rows]
        ids_BS = pad_sequence(ids, batch_first=True, padding_value=PAD).to(device)
        languages_BS = torch.tensor([[sources[i].language] for i in rows], device=device).expand_as(ids_BS)
        memory_BSE = model.encode(ids_BS, ids_BS != PAD, languages_BS)
        cache = TargetCache(config, memory_BSE, ids_BS != PAD, longest - 1)
        generation = GenerationConfig(longest - 1, (EOS,), PAD, num_beams=search.num_beams)
        output = beam_search(
            step,
            step(torch.full_like(ids_BS[:, :1], EOS), cache),
            cache,
            generation,
            new_row=lambda: XnlgRow(search, longest - 1),
        )
        for i, tokens, score in zip(rows, output.tokens, output.beam_scores, strict=True):
            found[i] = Target(tokens.tolist(), score)
    return [found[i] for i in range(len(sources))]
