"""Requests of the OpenAI API, as far as they are served; what would be ignored silently is refused."""

from __future__ import annotations

import json
from typing import Any, Literal, NotRequired

from multiway_core.app.serve.errors import ApiError
from multiway_text.sampling import SamplingOptions
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from multiway_lm.server.tools import Tool, ToolCall

MAX_ANSWERS = 16
"""Prompts times answers of one request."""
MAX_TEXTS = 256
"""Of one request for embeddings."""


_ANY_OBJECT = '{"type": "object"}'


class StreamOptions(BaseModel):
    include_usage: bool = False


class JsonSchema(BaseModel):
    name: str = Field(max_length=64)
    description: str | None = None
    schema_: dict[str, Any] = Field({"type": "object"}, alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """What an answer looks like: ``text``, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def schema_text(self) -> str | None:
        """The schema as JSON text; None for text. Raises ApiError: there is none."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return _ANY_OBJECT
        if self.json_schema is None:
            message = "response_format: type json_schema needs json_schema: {name, schema}"
            raise ApiError(400, message, param="response_format")
        return json.dumps(self.json_schema.schema_)


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
    response_format: ResponseFormat | None = None

    def refuse_unknown(self) -> None:
        """Raise ApiError for a field that is not served, unless its value changes nothing or it is a mere label."""
        for name, value in (self.model_extra or {}).items():
            if name not in _LABELS and value not in _UNSERVED.get(name, ()):
                raise ApiError(400, f"{name} is not supported by this server", param=name)

    def sampling(self, defaults: Any, *, temperature: float, alternatives: int) -> SamplingOptions:
        """Options of the request, else those that the checkpoint's authors recommend. Raises InputError."""

        def first(name: str, otherwise: Any) -> Any:
            said, recommended = getattr(self, name), getattr(defaults, name)
            return said if said is not None else recommended if recommended is not None else otherwise

        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return SamplingOptions(
            max_tokens=self.max_tokens or None,
            temperature=first("temperature", temperature),
            top_k=first("top_k", 0),
            top_p=first("top_p", 1.0),
            repetition_penalty=first("repetition_penalty", 1.0),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            stop=tuple(stop),
            seed=self.seed,
            alternatives=alternatives,
            json_schema=None if self.response_format is None else self.response_format.schema_text(),
        )


class CompletionRequest(_Request):
    """Body of ``POST /v1/completions``."""

    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: int | None = Field(None, ge=0)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False

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
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[ToolCall] | None = None

    def plain(self) -> dict[str, Any]:
        """As :mod:`multiway_text.chat_template` takes it. Raises ApiError."""
        parts = self.content or ""
        content = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        found = {"role": "system" if self.role == "developer" else self.role, "content": content}
        return found | ({"tool_calls": [call.plain() for call in self.tool_calls]} if self.tool_calls else {})


class ChatRequest(_Request):
    """Body of ``POST /v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    tools: list[Tool] = Field(default_factory=list, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None

    def offered(self) -> list[Tool]:
        """The functions that the model is told of. Raises ApiError for a choice that it cannot be held to."""
        if self.tool_choice not in (None, "none", "auto"):
            message = "tool_choice: this server leaves the choice to the model (auto, none)"
            raise ApiError(400, message, param="tool_choice")
        return [] if self.tool_choice == "none" else self.tools


class EmbeddingRequest(BaseModel):
    """Body of ``POST /v1/embeddings``."""

    model_config = ConfigDict(extra="allow")

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"

    def inputs(self) -> list[Any]:
        """The texts, or ids, one by one. Raises ApiError: none, too many, fields that are not served."""
        for name in self.model_extra or {}:
            if name not in _LABELS:
                raise ApiError(400, f"{name} is not supported by this server", param=name)
        several = isinstance(self.input, list) and not (self.input and isinstance(self.input[0], int))
        found: list[Any] = list(self.input) if several else [self.input]
        if not 1 <= len(found) <= MAX_TEXTS:
            raise ApiError(400, f"{len(found)} texts: give 1 to {MAX_TEXTS}", param="input")
        return found


_UNSERVED: dict[str, tuple[Any, ...]] = {
    # name: values that change nothing
    "best_of": (None, 1),
    "suffix": (None, ""),
    "logit_bias": (None, {}),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "audio": (None,),
    "modalities": (None, ["text"]),
    "parallel_tool_calls": (None, True),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "reasoning_effort": (None, "none"),
    "max_completion_tokens": (None,),
}
_LABELS = {"user", "metadata", "safety_identifier", "prompt_cache_key"}
"""Say nothing about the answer."""


class Usage(TypedDict):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(TypedDict):
    """The model's turn."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: NotRequired[list[dict[str, Any]]]


class ChatChoice(TypedDict):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls"]


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
