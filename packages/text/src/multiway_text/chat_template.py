"""Chat templates: the Jinja text beside a checkpoint that turns messages into the prompt the model was taught."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from multiway_core.errors import CheckpointError, InputError
from multiway_core.tokenization import TextTokenizer, byte_bpe

from multiway_text import template_renderer

Message = Mapping[str, Any]
"""``{"role": "system" | "user" | "assistant" | "tool", "content": text}``.

An assistant's message may have ``tool_calls``, each ``{"function": {"name", "arguments": {...}}}``.
"""

TURN_BEGINS, TURN_ENDS = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The plainest chat format in wide use."""

LONGEST = 100_000  # characters of a template: those in use have a few thousand
_GUARD = "\uf8ff"  # a private character: stands beside a number for a control token that a user spelled


class ChatTemplate:
    """A template. It comes with a checkpoint, so it is rendered in a sandbox of bounded memory and time.

    Raises CheckpointError for a template that is no Jinja.
    """

    def __init__(self, source: str, *, begin: str = "", end: str = "") -> None:
        from jinja2 import TemplateError

        if len(source) > LONGEST:
            raise CheckpointError(f"the chat template has {len(source)} characters; {LONGEST} are the most")
        self.source = source
        self.names = {"bos_token": begin, "eos_token": end}
        try:
            template_renderer.environment().parse(source)  # no more than this: compiling folds constants
        except (TemplateError, RecursionError) as error:
            raise CheckpointError(f"the chat template does not compile: {error}") from error

    @classmethod
    def of(cls, tokenizer: TextTokenizer) -> ChatTemplate | None:
        """The template that comes with a tokenizer, if it has one. Raises CheckpointError."""
        if tokenizer.chat_template is None:
            return None
        return cls(tokenizer.chat_template, begin=tokenizer.begin_token, end=tokenizer.end_token)

    def encode(
        self,
        tokenizer: TextTokenizer,
        messages: Sequence[Message],
        *,
        answer: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[int]:
        """A chat's ids up to where the assistant is to speak. Messages and tools never turn into control tokens.

        tools: functions that the model may call, ``{"type": "function", "function": {"name", "parameters", ...}}``.
        Raises InputError for messages that the template does not take, and for tools where it knows none.
        """
        if tools and not self.takes_tools:
            raise InputError("this model's chat template takes no tools")
        names = sorted(tokenizer.special, key=len, reverse=True)
        control = "|".join(map(re.escape, names)) or "(?!)"

        def guard(value: Any) -> Any:
            if isinstance(value, str):
                return re.sub(control, lambda found: f"{_GUARD}{names.index(found.group())}{_GUARD}", value)
            if isinstance(value, Mapping):
                return {guard(key): guard(part) for key, part in value.items()}
            return [guard(part) for part in value] if isinstance(value, list | tuple) else value

        guarded = [guard(message) for message in check_messages(messages)]
        rendered = self.render(guarded, answer=answer, tools=guard(list(tools)))
        ids: list[int] = []
        plain, place = "", 0
        for found in re.finditer(f"{control}|{_GUARD}[0-9]+{_GUARD}", rendered):
            plain += rendered[place : found.start()]
            place = found.end()
            if found.group() in tokenizer.special:
                ids += [*tokenizer.encode(plain), tokenizer.special[found.group()]]
                plain = ""
            else:
                number = int(found.group().strip(_GUARD))
                plain += names[number] if number < len(names) else found.group()
        return ids + tokenizer.encode(plain + rendered[place:])

    @property
    def takes_tools(self) -> bool:
        """Whether the template writes functions for the model to call."""
        return re.search(r"\btools\b", self.source) is not None

    def render(
        self,
        messages: Sequence[Message],
        *,
        answer: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """The prompt as text, control tokens by name; ``answer``: up to where the assistant is to speak.

        Raises InputError where the template refuses the messages.
        """
        names: dict[str, Any] = {
            "messages": [dict(message) for message in messages],
            "add_generation_prompt": answer,
        }
        if tools:
            names["tools"] = [dict(tool) for tool in tools]
        try:
            return template_renderer.render(self.source, names | self.names)
        except template_renderer.Refused as error:
            raise InputError(f"the model's chat template does not take these messages: {error}") from error


def train_bpe(texts: Iterable[str], vocab_size: int, *, chat: bool = False) -> TextTokenizer:
    """Byte-level BPE of ``vocab_size`` tokens; ``chat`` adds the control tokens of turns and ChatML's format.

    Raises InputError for a vocabulary that does not hold the bytes, or no text.
    """
    if not chat:
        return TextTokenizer(byte_bpe.train(texts, vocab_size), end_ids=(0,))
    library = byte_bpe.train(texts, vocab_size, special=(byte_bpe.END, TURN_BEGINS, TURN_ENDS))
    return TextTokenizer(library, end_ids=(2, 0), end_token=TURN_ENDS, chat_template=CHATML)


def check_messages(messages: Any) -> list[dict[str, Any]]:
    """Messages as a list of role, content and calls. Raises InputError for anything else, and for none."""
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise InputError("a chat needs at least one message")
    checked: list[dict[str, Any]] = []
    for place, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        content = message.get("content") if isinstance(message, Mapping) else None
        if role not in ("system", "user", "assistant", "tool"):
            raise InputError(
                f"message {place}: its role must be system, user, assistant or tool, not {role!r}"
            )
        calls = message.get("tool_calls") or []
        if calls and role != "assistant":
            raise InputError(f"message {place}: tool_calls are an assistant's, not a {role}'s")
        if role == "tool" and not any("tool_calls" in earlier for earlier in checked):
            raise InputError(f"message {place}: a tool's message answers an assistant's tool_calls")
        if content is None and calls:
            content = ""
        if not isinstance(content, str):
            raise InputError(f"message {place}: its content must be text")
        checked.append({"role": role, "content": content, **({"tool_calls": calls} if calls else {})})
    if not any(message["content"].strip() for message in checked):
        raise InputError("all messages are empty")
    return checked
