"""How text is sampled: the options of a request, and the logits processors that core does not have.

Shape legend: B rows, T tokens generated so far, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from multiway_core.errors import InputError
from multiway_core.generation import GenerationConfig, LogitsProcessor, StatefulConstraint
from torch import Tensor

MAX_STOPS, LONGEST_STOP = 16, 1000
MAX_ALTERNATIVES = 20


@dataclass(frozen=True)
class RecommendedSampling:
    """How the checkpoint's authors sample from it, where they say so (``generation_config.json``)."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None

    @classmethod
    def read(cls, generation: Mapping[str, Any]) -> RecommendedSampling:
        """Only numbers that can be used; ``do_sample: false`` is greedy."""

        def number(name: str, low: float, high: float) -> Any:
            value = generation.get(name)
            good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
            return value if good else None

        if generation.get("do_sample") is False:
            return cls(temperature=0.0, repetition_penalty=number("repetition_penalty", 0.01, 10))
        top_k = number("top_k", 0, 1 << 24)
        return cls(
            number("temperature", 0, 10),
            None if top_k is None else int(top_k),
            number("top_p", 1e-6, 1),
            number("repetition_penalty", 0.01, 10),
        )


@dataclass(frozen=True)
class SamplingOptions:
    """What a caller may choose. Raises InputError for a value that cannot be.

    Attributes:
        max_tokens: most tokens of an answer; None fills what the context leaves, up to ``DEFAULT_TOKENS``.
        temperature: 0 takes the likeliest token.
        top_k: sample from so many likeliest tokens; 0 for all.
        top_p: sample from the smallest set of tokens whose probability reaches p.
        repetition_penalty: divides (multiplies, if negative) logits of tokens that the prompt or the answer holds
            (arXiv 1909.05858, section 4.1); 1 is off.
        presence_penalty, frequency_penalty: subtracted from the logits of tokens the answer holds: once, and by count.
        stop: texts that end the answer and are not part of it.
        seed: None draws one.
        alternatives: likeliest tokens to report at every step.
        json_schema: the answer is JSON of this schema, itself JSON text (:mod:`multiway_text.json_constraint`).
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    alternatives: int = 0
    json_schema: str | None = None

    def __post_init__(self) -> None:
        def check(name: str, low: float, high: float, wanted: str) -> None:
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise InputError(f"{name} must be {wanted}, not {value}")

        if self.max_tokens is not None:
            check("max_tokens", 1, math.inf, "at least 1")
        check("temperature", 0, 10, "0 to 10")
        check("top_k", 0, math.inf, "at least 0")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        check("repetition_penalty", 0.01, 10, "0.01 to 10")
        check("presence_penalty", -2, 2, "-2 to 2")
        check("frequency_penalty", -2, 2, "-2 to 2")
        check("alternatives", 0, MAX_ALTERNATIVES, f"0 to {MAX_ALTERNATIVES}")
        if self.seed is not None:
            check("seed", 0, 2**62, "0 to 2^62")
        if len(self.stop) > MAX_STOPS or not all(0 < len(text) <= LONGEST_STOP for text in self.stop):
            raise InputError(f"stop takes up to {MAX_STOPS} texts of 1 to {LONGEST_STOP} characters")

    def config(self, max_tokens: int, end_ids: Sequence[int]) -> GenerationConfig:
        """The decode loop's options."""
        return GenerationConfig(
            max_new_tokens=max_tokens,
            eos_token_ids=tuple(end_ids),
            pad_token_id=0,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=self.seed,
        )

    def processors(self, prompt: Sequence[int]) -> list[LogitsProcessor]:
        """The penalties that are on."""
        found: list[LogitsProcessor] = []
        if self.repetition_penalty != 1:
            found.append(RepetitionPenalty(prompt, self.repetition_penalty))
        if self.presence_penalty or self.frequency_penalty:
            found.append(CountPenalty(self.presence_penalty, self.frequency_penalty))
        return found


class RepetitionPenalty:
    """Logits of tokens in the prompt or the answer are divided by the penalty, negative ones multiplied with it."""

    def __init__(self, prompt: Sequence[int], penalty: float) -> None:
        self.prompt = torch.tensor(sorted(set(prompt)), dtype=torch.long)
        self.penalty = penalty

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        prompt_BP = self.prompt.to(logits_BV.device).expand(len(logits_BV), -1)
        seen = torch.cat([prompt_BP, tokens_BT], dim=1)
        values = logits_BV.gather(1, seen)
        changed = torch.where(values < 0, values * self.penalty, values / self.penalty)
        return logits_BV.scatter(1, seen, changed)


class CountPenalty:
    """From the logit of each token of the answer: ``presence`` once, ``frequency`` as often as it is there."""

    def __init__(self, presence: float, frequency: float) -> None:
        self.presence, self.frequency = presence, frequency

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        counts_BV = torch.zeros_like(logits_BV)
        counts_BV.scatter_add_(1, tokens_BT, torch.ones_like(tokens_BT, dtype=logits_BV.dtype))
        return logits_BV - self.frequency * counts_BV - self.presence * (counts_BV > 0)


class Alternatives(StatefulConstraint):
    """Notes the likeliest tokens of every step, under the model itself: put it first. Changes nothing."""

    name = "alternatives"

    def __init__(self, count: int) -> None:
        self.count = count
        self.rows: list[int] = []
        self.latest: dict[int, tuple[list[int], list[float]]] = {}

    def start(self, batch_size: int, device: torch.device) -> None:
        self.rows = list(range(batch_size))

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        values, ids = logits_BV.log_softmax(dim=1).topk(min(self.count, logits_BV.shape[1]), dim=1)
        for row, best, log_probs in zip(self.rows, ids.tolist(), values.tolist(), strict=True):
            self.latest[row] = best, log_probs
        return logits_BV

    def observe(self, tokens_B: Tensor) -> Iterable[int]:
        return ()

    def select(self, rows: Tensor) -> None:
        self.rows = [self.rows[row] for row in rows.tolist()]
