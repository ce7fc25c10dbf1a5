"""What the demo does with the model, as streams of the page's values."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multiway_core.errors import InputError

from multiway_lm.demo.view import tokens_value

if TYPE_CHECKING:
    from multiway_text.language_model import LanguageModel, Token

ALTERNATIVES = 8
LONGEST = 20_000  # characters of a visitor's text
_SECONDS_BETWEEN_UPDATES = 0.1


@dataclass(frozen=True)
class Choice:
    """The sliders, in the order of the page."""

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    seed: int

    @classmethod
    def of(cls, *values: Any) -> Choice:
        """From what Gradio passes (numbers as floats; an empty number field as None)."""
        names = ("max_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed")
        for name, value in zip(names, values, strict=True):
            if not isinstance(value, int | float):
                raise InputError(f"{name.replace('_', ' ')} needs a number")
        max_tokens, temperature, top_k, top_p, penalty, seed = values
        return cls(int(max_tokens), float(temperature), int(top_k), float(top_p), float(penalty), int(seed))


class Session:
    """One model for all visitors; the page's queue lets one speak at a time."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.can_chat = model.chat_template is not None
        self.max_tokens = max(2, min(1024, model.max_positions // 2))

    def answer(
        self, turns: Sequence[dict[str, str]], system: str, choice: Choice
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The assistant's words so far and the token view, while they come."""
        messages = list(turns)
        if system.strip():
            messages = [{"role": "system", "content": system}, *messages]
        yield from self._stream(messages, choice)

    def continue_text(self, text: str, choice: Choice) -> Iterator[tuple[str, dict[str, Any]]]:
        """The continuation so far and the token view."""
        _check_length(text)
        yield from self._stream(text, choice)

    def _stream(self, prompt: Any, choice: Choice) -> Iterator[tuple[str, dict[str, Any]]]:
        from multiway_text.sampling import SamplingOptions

        ids = self.model.prompt_ids(prompt)
        options = SamplingOptions(
            max_tokens=min(choice.max_tokens, self.model.room(ids)),
            temperature=choice.temperature,
            top_k=choice.top_k,
            top_p=choice.top_p,
            repetition_penalty=choice.repetition_penalty,
            seed=None if choice.seed < 0 else choice.seed,
            alternatives=ALTERNATIVES,
        )
        tokens: list[Token] = []
        text, finish = "", ""
        started = told = time.monotonic()
        first = None
        for piece in self.model.stream(ids, options):
            now = time.monotonic()
            if first is None:
                first = now
            text += piece.text
            finish = piece.finish
            if piece.token is not None:
                tokens.append(piece.token)
            if not finish and now - told >= _SECONDS_BETWEEN_UPDATES:
                told = now
                yield text, tokens_value(tokens, summary=f"{len(tokens)} tokens ...", growing=True)
        ended = time.monotonic()
        speed = (len(tokens) - 1) / (ended - (first or started)) if len(tokens) > 1 else 0.0
        parts = [f"{len(ids)} tokens read, {len(tokens)} written", f"{speed:.1f} tokens/s"]
        if finish == "length":
            parts.append("cut at the limit")
        yield text, tokens_value(tokens, summary=" · ".join(parts), note="The model had nothing to say.")

    def judge(self, text: str) -> dict[str, Any]:
        """The token view of a given text."""
        _check_length(text)
        score = self.model.score(text, alternatives=ALTERNATIVES)
        summary = (
            f"{score.num_scored} tokens · perplexity {score.perplexity:,.2f} · "
            f"{score.bits_per_byte:.3f} bits per byte"
        )
        tokens = [
            {"t": token.text, "p": token.log_prob, "a": [list(other) for other in token.alternatives]}
            for token in score.tokens
        ]
        return {"tokens": tokens, "summary": summary, "growing": False, "note": ""}


def _check_length(text: str) -> None:
    if not text.strip():
        raise InputError("write a text first")
    if len(text) > LONGEST:
        raise InputError(f"the text has {len(text)} characters; the demo takes {LONGEST}")
