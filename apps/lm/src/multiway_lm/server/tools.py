"""Functions that a model may call: how a request names them, and how an answer calls them.

Models call in the form that their chat template taught them. Served is the one of Hermes, Qwen and SmolLM: JSON of
``name`` and ``arguments`` between ``<tool_call>`` and ``</tool_call>``.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection
from typing import Any, Literal

from multiway_core.app.serve.errors import ApiError
from pydantic import BaseModel, Field

_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*(?:</tool_call>|\Z)", re.DOTALL)


class Function(BaseModel):
    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(BaseModel):
    type: Literal["function"]
    function: Function


class CalledFunction(BaseModel):
    name: str
    arguments: str


class ToolCall(BaseModel):
    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction

    def plain(self) -> dict[str, Any]:
        """As templates take it: arguments are an object. Raises ApiError."""
        try:
            arguments = json.loads(self.function.arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            message = f"the arguments of the call of {self.function.name!r} are no JSON object"
            raise ApiError(400, message, param="messages")
        return {"type": "function", "function": {"name": self.function.name, "arguments": arguments}}


def split_calls(text: str, names: Collection[str]) -> tuple[str, list[dict[str, Any]]]:
    """An answer as (what is said, calls in the API's form). What calls no function of these names stays text."""
    calls: list[dict[str, Any]] = []

    def take(found: re.Match[str]) -> str:
        try:
            call = json.loads(found.group(1))
        except (ValueError, RecursionError):
            return found.group()
        name, arguments = call.get("name"), call.get("arguments", {})
        if name not in names or not isinstance(arguments, dict):
            return found.group()
        function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
        calls.append({"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function})
        return ""

    said = _CALL.sub(take, text)
    return (said.strip() if calls else text), calls
