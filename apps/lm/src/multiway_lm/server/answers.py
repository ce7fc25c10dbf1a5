"""The objects of the OpenAI API: completions, chat completions, and the chunks of their streams."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from multiway_lm.server.tools import split_calls

if TYPE_CHECKING:
    from multiway_text.language_model import Token


class PromptToken(NamedTuple):
    """A token of the prompt that is given back; its first one has no probability."""

    text: str
    log_prob: float | None
    alternatives: tuple[tuple[int, str, float], ...]


@dataclass
class Answer:
    """One choice while it grows."""

    index: int
    text: str = ""
    finish: str | None = None
    tokens: list[Token | PromptToken] = field(default_factory=list)
    echoed: int = 0
    """Tokens of the prompt among them."""


@dataclass(frozen=True)
class Style:
    """Which of the two endpoints speaks. ``logprobs``: whether the caller asked for them; ``tools``: names of
    functions that an answer may call.
    """

    chat: bool
    model: str
    logprobs: bool
    tools: frozenset[str] = frozenset()
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Answer], usage: dict[str, int]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        choices = []
        for answer in answers:
            choice: dict[str, Any] = {"index": answer.index}
            finish = answer.finish
            if self.chat:
                said, calls = split_calls(answer.text, self.tools)
                choice["message"] = {"role": "assistant", "content": said or (None if calls else "")}
                if calls:
                    choice["message"]["tool_calls"] = calls
                    finish = "tool_calls"
            else:
                choice["text"] = answer.text
            choice["logprobs"] = self._log_probs(answer.tokens, 0) if self.logprobs else None
            choices.append({**choice, "finish_reason": finish})
        return {**self._head(stream=False), "choices": choices, "usage": usage}

    def first(self, answers: Sequence[Answer]) -> dict[str, Any] | None:
        """The chunk that opens a chat's stream."""
        if not self.chat:
            return None
        choices = [
            {"index": a.index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            for a in answers
        ]
        return {**self._head(stream=True), "choices": choices}

    def chunk(
        self, index: int, text: str, tokens: Sequence[Token | PromptToken], offset: int, finish: str | None
    ) -> dict[str, Any]:
        """A chunk of a stream. ``offset``: characters of this choice before it."""
        choice: dict[str, Any] = {"index": index}
        if self.chat:
            text, calls = split_calls(text, self.tools)
            choice["delta"] = {"content": text} if text or not (finish or calls) else {}
            if calls:
                choice["delta"]["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls)]
                finish = "tool_calls"
        else:
            choice["text"] = text
        choice["logprobs"] = self._log_probs(tokens, offset) if self.logprobs and tokens else None
        return {**self._head(stream=True), "choices": [{**choice, "finish_reason": finish}]}

    def last(self, usage: dict[str, int]) -> dict[str, Any]:
        """The chunk that tells the usage."""
        return {**self._head(stream=True), "choices": [], "usage": usage}

    def _head(self, *, stream: bool) -> dict[str, Any]:
        kind = "text_completion"
        if self.chat:
            kind = "chat.completion.chunk" if stream else "chat.completion"
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{prefix}-{self.id}", "object": kind, "created": self.created, "model": self.model}

    def _log_probs(self, tokens: Sequence[Token | PromptToken], offset: int) -> dict[str, Any]:
        if self.chat:
            return {
                "content": [
                    {
                        **_named(token.text, float(token.log_prob or 0.0)),
                        "top_logprobs": [_named(text, value) for _, text, value in token.alternatives],
                    }
                    for token in tokens
                ]
            }
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.log_prob for token in tokens],
            "top_logprobs": [
                {text: value for _, text, value in token.alternatives} or None for token in tokens
            ],
            "text_offset": offsets,
        }


def _named(text: str, value: float) -> dict[str, Any]:
    return {"token": text, "logprob": value, "bytes": list(text.encode("utf-8", "replace"))}


def usage(prompt: int, completion: int) -> dict[str, int]:
    """Tokens read and written."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
