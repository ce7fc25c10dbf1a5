"""Greedy decoding with drafts: a cheap guess of several tokens is verified by the model in one step.

The result is that of greedy decoding; right guesses only make it take fewer steps. (The greedy case of
Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding".)

Shape legend: N rows still in the batch, T tokens of a step, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import LongTensor, Tensor

from multiway_core.errors import ConfigError
from multiway_core.generation.cache import StaticKVCache, without
from multiway_core.generation.config import GenerationConfig
from multiway_core.generation.output import GenerationOutput, StopReason
from multiway_core.generation.processors import (
    NEVER,
    LogitsProcessor,
    NoRepeatNGram,
    ProcessorChain,
    StatefulConstraint,
    at_least_float32,
)


class VerifyStep(Protocol):
    """Like `DecodeStep`, but with the logits of every position."""

    def __call__(self, tokens_BT: LongTensor | Tensor, cache: StaticKVCache) -> Tensor:
        """Int64 tokens (batch, T) -> float logits (batch, T, vocabulary)."""
        ...


class Draft(Protocol):
    """Guesses how a row goes on."""

    def __call__(self, row: int, tokens: Sequence[int], count: int) -> Sequence[int]:
        """At most `count` tokens that may follow `tokens`, all that row `row` has generated so far."""
        ...


class LookupDraft:
    """Guesses that what followed the last few tokens before follows them again.

    It looks in a reference text for each row (another reader's output, or the prompt) and in the row's own
    output; the latest occurrence counts. Work per generated token is constant. An instance serves one run.

    Args:
        references: a token list per row; none by default.
        context: tokens that must agree.
    """

    def __init__(self, references: Sequence[Sequence[int]] = (), *, context: int = 2) -> None:
        self.context = context
        self._texts = {row: list(reference) for row, reference in enumerate(references)}
        self._reference_lengths = {row: len(text) for row, text in self._texts.items()}
        self._places: dict[int, dict[tuple[int, ...], int]] = {}
        for row, text in self._texts.items():
            for end in range(context, len(text)):
                self._note(row, end)

    def _note(self, row: int, end: int) -> None:
        context = tuple(self._texts[row][end - self.context : end])
        self._places.setdefault(row, {})[context] = end

    def __call__(self, row: int, tokens: Sequence[int], count: int) -> Sequence[int]:
        text = self._texts.setdefault(row, [])
        start = self._reference_lengths.setdefault(row, 0)
        for token in tokens[len(text) - start :]:
            text.append(token)
            if len(text) - 1 - start >= self.context:
                self._note(row, len(text) - 1)
        if len(tokens) < self.context:
            return text[len(tokens) : start][:count]
        place = self._places.get(row, {}).get(tuple(tokens[-self.context :]))
        return [] if place is None else text[place : place + count]


@torch.inference_mode()
def generate_with_drafts(
    verify: VerifyStep,
    draft: Draft,
    first_logits_BV: Tensor,
    cache: StaticKVCache,
    config: GenerationConfig,
    processors: Sequence[LogitsProcessor] = (),
    *,
    draft_length: int = 8,
) -> GenerationOutput:
    """Greedy decoding in which every step verifies up to `draft_length` guessed tokens of each row.

    Arguments and errors as in `generate`; also ConfigError when `config` asks for sampling or beams. Every
    row works with a deep copy of each StatefulConstraint.
    """
    if config.temperature > 0 or config.num_beams > 1:
        raise ConfigError("generation: drafts need greedy decoding (temperature 0, num_beams 1)")
    if config.no_repeat_ngram_size:
        processors = [*processors, NoRepeatNGram(config.no_repeat_ngram_size)]
    if len(first_logits_BV) != cache.batch_size:
        raise ValueError(f"{len(first_logits_BV)} rows of logits but {cache.batch_size} rows in the cache")
    limit, device = config.max_new_tokens, first_logits_BV.device
    cache.require(max(limit - 1, 0))

    writers = [_Writer(config, processors, device) for _ in range(len(first_logits_BV))]
    rows = list(range(len(writers))) if limit else []
    prompt_lengths = cache.num_valid_B.tolist()
    guesses: list[list[int]] = [[] for _ in rows]
    logits_NTV = first_logits_BV[:, None]
    while rows:
        scores_NTV = at_least_float32(logits_NTV)
        if processors:
            accepted = [
                writers[row].accept_constrained(guess, scores_TV)
                for row, guess, scores_TV in zip(rows, guesses, scores_NTV, strict=True)
            ]
        else:
            tokens_NT, log_probs_NT = _likeliest(scores_NTV, scores_NTV)
            tokens, log_probs = tokens_NT.tolist(), log_probs_NT.tolist()
            accepted = [
                writers[row].accept(
                    guesses[position], zip(tokens[position], log_probs[position], strict=True)
                )
                for position, row in enumerate(rows)
            ]
        # Of a step's slots, the one of the row's own last token and those of accepted guesses are kept.
        step_length = logits_NTV.shape[1]
        if step_length > 1:
            kept_length = 1 + max(accepted)
            cache.truncate(cache.length - step_length + kept_length)
            kept_N = torch.tensor(accepted, device=device)
            cache.invalidate(torch.arange(kept_length, device=device) > kept_N[:, None])
        ended = {position for position, row in enumerate(rows) if writers[row].reason}
        if len(ended) == len(rows):
            break
        if ended:
            kept = without(len(rows), ended)
            cache.select(kept)
            rows = [rows[position] for position in kept.tolist()]

        lengths = [len(writers[row].tokens) for row in rows]
        wanted = 1 + min(draft_length, limit - min(lengths) - 1)
        longest = max(prompt_lengths[row] + length - 1 for row, length in zip(rows, lengths, strict=True))
        if cache.max_length - cache.length < wanted and cache.length > longest:
            cache.defragment()
        room = min(wanted, cache.max_length - cache.length) - 1
        guesses = []
        for row, length in zip(rows, lengths, strict=True):
            count = min(room, limit - length - 1)
            guesses.append(list(draft(row, writers[row].tokens, count))[:count])
        width = max(map(len, guesses))
        inputs = [
            [writers[row].tokens[-1], *guess, *[config.pad_token_id] * (width - len(guess))]
            for row, guess in zip(rows, guesses, strict=True)
        ]
        logits_NTV = verify(torch.tensor(inputs, device=device), cache)

    with torch.inference_mode(False):
        return GenerationOutput(
            tokens=[torch.tensor(writer.tokens, dtype=torch.long) for writer in writers],
            log_probs=[torch.tensor(writer.log_probs, dtype=torch.float64) for writer in writers],
            stop_reasons=[writer.reason or "length" for writer in writers],
        )


class _Writer:
    """One row's text, and the processors that watch over it."""

    def __init__(
        self, config: GenerationConfig, processors: Sequence[LogitsProcessor], device: torch.device
    ) -> None:
        self.config = config
        self.tokens: list[int] = []
        self.log_probs: list[float] = []
        self.reason: StopReason | None = None
        own = [copy.deepcopy(p) if isinstance(p, StatefulConstraint) else p for p in processors]
        self.chain = ProcessorChain(own)
        self.chain.start(1, device)
        self.history_1T = torch.empty(1, config.max_new_tokens, dtype=torch.long, device=device)

    def accept(self, guess: Sequence[int], choices: Iterable[tuple[int, float]]) -> int:
        """Write the model's choices while the guess agrees with them; return how many guesses were right.

        Args:
            guess: T - 1 tokens.
            choices: the model's token and its log-probability at T positions; -1 where nothing is allowed. A
                choice is taken only after the one before it is written.
        """
        right = 0
        for token, log_prob in choices:
            self._write(token, log_prob)
            if self.reason or right == len(guess) or guess[right] != token:
                break
            right += 1
        return right

    def accept_constrained(self, guess: Sequence[int], scores_TV: Tensor) -> int:
        """The same from logits, with processors, which only see what is written: nothing is taken back."""

        def choices() -> Iterator[tuple[int, float]]:
            for position in range(len(guess) + 1):
                scores_1V = scores_TV[position : position + 1]
                allowed_1V = self.chain(self.history_1T[:, : len(self.tokens)], scores_1V)
                token_1, log_prob_1 = _likeliest(allowed_1V, scores_1V)
                yield int(token_1), float(log_prob_1)

        return self.accept(guess, choices())

    def _write(self, token: int, log_prob: float) -> None:
        if token < 0:
            self.reason = "stopped:no_token"
        elif token in self.config.eos_token_ids:
            self.reason = "eos"
        else:
            self.history_1T[0, len(self.tokens)] = token
            self.tokens.append(token)
            self.log_probs.append(log_prob)
            full = len(self.tokens) == self.config.max_new_tokens
            self.reason = self.chain.observe(torch.tensor([token])).get(0, "length" if full else None)


def _likeliest(allowed: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token (-1 where none is allowed) and its log-probability; (..., V) -> (...)."""
    top, tokens = allowed.max(dim=-1)
    log_probs = scores.gather(-1, tokens[..., None])[..., 0] - scores.logsumexp(dim=-1)
    return torch.where(top > NEVER, tokens, -1), log_probs
