"""Requests of the OpenAI API, as far as they are served; what would be ignored silently is refused."""

from __future__ import annotations

from typing import Any, Literal

from multiway_core.app.serve.errors import ApiError
from multiway_text.sampling import SamplingOptions
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

MAX_ANSWERS = 16
"""Prompts times answers of one request."""


class StreamOptions(BaseModel):
    include_usage: bool = False


class _Request(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    repetition_penalty: float | None = Field(None, ge=0.01, le=10)
    presence_penalty: float = Field(0, ge=-2, le=2)
    frequency_penalty: float = Field(0, ge=-2, le=2)
    n: int = Field(1, ge=1, le=MAX_ANSWERS)
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=0, le=2**62)
    stream: bool = False
    stream_options: StreamOptions | None = None

    def refuse_unknown(self) -> None:
        """Raise ApiError for a field that would change the answer and is not served."""
        for name, harmless in _UNSERVED.items():
            value = (self.model_extra or {}).get(name, harmless[0])
            if value not in harmless:
                raise ApiError(400, f"{name} is not supported by this server", param=name)

    def sampling(self, defaults: Any, *, temperature: float, alternatives: int) -> SamplingOptions:
        """Options of the request, else those that the checkpoint's authors recommend. Raises InputError."""

        def first(name: str, otherwise: Any) -> Any:
            said, recommended = getattr(self, name), getattr(defaults, name)
            return said if said is not None else recommended if recommended is not None else otherwise

        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return SamplingOptions(
            max_tokens=self.max_tokens,
            temperature=first("temperature", temperature),
            top_k=first("top_k", 0),
            top_p=first("top_p", 1.0),
            repetition_penalty=first("repetition_penalty", 1.0),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            stop=tuple(stop),
            seed=self.seed,
            alternatives=alternatives,
        )


class CompletionRequest(_Request):
    """Body of ``POST /v1/completions``."""

    prompt: str | list[int] | list[str] | list[list[int]]
    logprobs: int | None = Field(None, ge=0, le=20)

    def prompts(self) -> list[str | list[int]]:
        """The prompts one by one. Raises ApiError: none, or too many."""
        prompt = self.prompt
        several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
        found: list[Any] = list(prompt) if several else [prompt]
        if not prompt:
            raise ApiError(400, "the prompt is empty", param="prompt")
        if len(found) * self.n > MAX_ANSWERS:
            message = f"{len(found)} prompts of {self.n} answers each: {MAX_ANSWERS} together are the most"
            raise ApiError(400, message, param="n")
        return found


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    def plain(self) -> dict[str, str]:
        content = self.content if isinstance(self.content, str) else "".join(p.text for p in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class ChatRequest(_Request):
    """Body of ``POST /v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)


_UNSERVED: dict[str, tuple[Any, ...]] = {
    # name: (absent, and other values that change nothing)
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "logit_bias": (None, {}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "audio": (None,),
}


class Usage(TypedDict):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(TypedDict):
    """The model's turn."""

    role: Literal["assistant"]
    content: str


class ChatChoice(TypedDict):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(TypedDict):
    """The answer to a chat request that is not streamed."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionChoice(TypedDict):
    """One continuation."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class Completion(TypedDict):
    """The answer to a completion request that is not streamed."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
