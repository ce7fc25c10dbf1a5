"""Text <-> token ids of a language model, with its control tokens and its chat format.

One class stands for all: what a folder of the hub holds, what a GGUF file holds, and what is made here
(:mod:`multiway_text.tokenizer_training`). Text never turns into control tokens; only the chat format, the beginning of
a document and its end place them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiway_core import config, files
from multiway_core.errors import CheckpointError, InputError
from tokenizers import Tokenizer

from multiway_text import gguf_tokenizer
from multiway_text.chat_template import ChatTemplate, Message, check_messages
from multiway_text.gguf import GGUFFile

TOKENIZER_FILE, SETTINGS_FILE, GENERATION_FILE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
)
_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "</s>")
_GUARD = "\uf8ff"  # a private character: stands beside a number for a control token that a user spelled


@dataclass(frozen=True)
class Defaults:
    """How the checkpoint's authors sample from it, where they say so (``generation_config.json``)."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None


@dataclass
class TextTokenizer:
    """The tokenizer of the `tokenizers` library, and what a model needs to know beside it.

    Attributes:
        tokenizer: the library's object.
        begin_id: the token a document begins with, if the model was taught one.
        end_ids: tokens that end an answer or a document.
        template: the chat format; None for a model that was not taught to chat.
    """

    tokenizer: Tokenizer
    begin_id: int | None = None
    end_ids: tuple[int, ...] = ()
    template: ChatTemplate | None = None
    defaults: Defaults = field(default_factory=Defaults)

    def __post_init__(self) -> None:
        self.tokenizer.encode_special_tokens = True  # what spells a control token is text
        added = self.tokenizer.get_added_tokens_decoder()
        self.control = {token.content: number for number, token in added.items() if token.special}
        names = sorted(self.control, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, names)) or "(?!)")
        self._marked = re.compile(f"{self._control.pattern}|{_GUARD}[0-9]+{_GUARD}")

    @property
    def vocab_size(self) -> int:
        """Ids are below this number."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def prefix_id(self) -> int | None:
        """What the first token of a document is predicted from: the beginning, or the end of the one before."""
        return self.begin_id if self.begin_id is not None else self.end_ids[-1] if self.end_ids else None

    def encode(self, text: str) -> list[int]:
        """A document's beginning: the beginning token, where the model was taught one, and the text."""
        return [*([] if self.begin_id is None else [self.begin_id]), *self.text(text)]

    def text(self, text: str) -> list[int]:
        """The text alone."""
        try:
            return self.tokenizer.encode(text, add_special_tokens=False).ids
        except (UnicodeEncodeError, TypeError):  # half a surrogate pair, from a JSON escape
            return self.tokenizer.encode(
                text.encode("utf-8", "replace").decode(), add_special_tokens=False
            ).ids

    def chat(self, messages: Sequence[Message], *, answer: bool = True) -> list[int]:
        """A chat's messages up to where the assistant is to speak.

        Raises InputError: the model has no chat format, or the messages are not what it takes.
        """
        if self.template is None:
            raise InputError("this model has no chat format; use it to continue text (generate)")
        names = list(self.control)
        guarded = [
            {
                "role": message["role"],
                "content": self._control.sub(
                    lambda found: f"{_GUARD}{names.index(found.group())}{_GUARD}", message["content"]
                ),
            }
            for message in check_messages(messages)
        ]
        rendered = self.template.render(guarded, answer=answer)
        ids: list[int] = []
        plain, place = "", 0
        for found in self._marked.finditer(rendered):
            plain += rendered[place : found.start()]
            place = found.end()
            if found.group() in self.control:
                ids += [*self.text(plain), self.control[found.group()]]
                plain = ""
            else:
                number = int(found.group().strip(_GUARD))
                plain += names[number] if number < len(names) else found.group()
        return ids + self.text(plain + rendered[place:])

    def decode(self, ids: Sequence[int], *, control: bool = False) -> str:
        """Text of ids, without control tokens unless ``control``."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=not control)

    def piece(self, token: int) -> str:
        """One token as text to show: a control token by its name; a part of a character as U+FFFD."""
        return self.tokenizer.decode([token], skip_special_tokens=False)

    def check(self, ids: Sequence[int], vocab_size: int) -> None:
        """Raise InputError for an id that the model does not know."""
        for token in ids:
            if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
                raise InputError(f"token {token!r} is out of the vocabulary: ids are 0 to {vocab_size - 1}")

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``generation_config.json``. Raises OutputError."""
        import json

        self.tokenizer.encode_special_tokens = False  # not a property of the file
        files.write_text(folder / TOKENIZER_FILE, self.tokenizer.to_str(pretty=False))
        self.tokenizer.encode_special_tokens = True
        named = {number: name for name, number in self.control.items()}
        settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        if self.begin_id is not None:
            settings |= {"bos_token": named.get(self.begin_id), "add_bos_token": True}
        if self.end_ids:
            settings["eos_token"] = named.get(self.end_ids[0])
        if self.template is not None:
            settings["chat_template"] = self.template.source
        files.write_text(folder / SETTINGS_FILE, json.dumps(settings, ensure_ascii=False, indent=2) + "\n")
        sampling = {name: value for name, value in vars(self.defaults).items() if value is not None}
        generation = {"eos_token_id": list(self.end_ids), **sampling}
        if self.begin_id is not None:
            generation["bos_token_id"] = self.begin_id
        files.write_text(folder / GENERATION_FILE, json.dumps(generation, indent=2) + "\n")

    @classmethod
    def from_file(cls, path: Path) -> TextTokenizer:
        """A ``tokenizer.json``, or a folder that holds one and what belongs to it. Raises CheckpointError."""
        folder, path = (path, path / TOKENIZER_FILE) if path.is_dir() else (path.parent, path)
        if not path.is_file():
            raise CheckpointError(f"{folder}: no {path.name}")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"{path}: not a tokenizer: {error}") from error
        settings = _optional(folder / SETTINGS_FILE)
        generation = _optional(folder / GENERATION_FILE)
        sizes = _optional(folder / "config.json")
        begin = _name(settings.get("bos_token"))
        ends = _ids(generation.get("eos_token_id")) or _ids(sizes.get("eos_token_id"))
        ends += _known(tokenizer, [_name(settings.get("eos_token"))])
        if not ends:
            ends = _known(tokenizer, _ENDS)
        begin_id = tokenizer.token_to_id(begin) if begin else None
        if begin_id is not None and not _begins(tokenizer, begin_id, settings):
            begin_id = None
        source = settings.get("chat_template")
        if (folder / "chat_template.jinja").is_file():
            source = (folder / "chat_template.jinja").read_text(encoding="utf-8", errors="replace")
        end = _name(settings.get("eos_token"))
        return cls(
            tokenizer,
            begin_id,
            tuple(dict.fromkeys(ends)),
            _template(source, begin, end),
            _defaults(generation),
        )

    @classmethod
    def from_gguf(cls, file: GGUFFile) -> TextTokenizer:
        """The tokenizer inside a GGUF file. Raises CheckpointError."""
        tokenizer = gguf_tokenizer.read(file)
        tokens = file.get("tokenizer.ggml.tokens", list)
        begin_id = file.get("tokenizer.ggml.bos_token_id", int, -1)
        end_id = file.get("tokenizer.ggml.eos_token_id", int, -1)
        begin = tokens[begin_id] if 0 <= begin_id < len(tokens) else ""
        end = tokens[end_id] if 0 <= end_id < len(tokens) else ""
        ends = [*([end_id] if end else []), *_known(tokenizer, _ENDS)]
        adds = file.get("tokenizer.ggml.add_bos_token", bool, False)
        source = file.metadata.get("tokenizer.chat_template")
        return cls(
            tokenizer,
            begin_id if begin and adds else None,
            tuple(dict.fromkeys(ends)),
            _template(source, begin, end),
        )


def _begins(tokenizer: Tokenizer, begin_id: int, settings: Mapping[str, Any]) -> bool:
    """Whether documents begin with this token: the settings say so, or the tokenizer's own last step does it."""
    said = settings.get("add_bos_token")
    return said if isinstance(said, bool) else tokenizer.encode("a").ids[:1] == [begin_id]


def _template(source: Any, begin: str, end: str) -> ChatTemplate | None:
    if isinstance(source, list):  # several, by name
        named = {t.get("name"): t.get("template") for t in source if isinstance(t, Mapping)}
        source = named.get("default")
    return ChatTemplate(source, begin=begin, end=end) if isinstance(source, str) and source else None


def _optional(path: Path) -> dict[str, Any]:
    return config.read_json(path) if path.is_file() else {}


def _name(value: Any) -> str:
    """A token's name as the hub's files give it: text, or an object with its ``content``."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _known(tokenizer: Tokenizer, names: Sequence[str]) -> list[int]:
    found = [tokenizer.token_to_id(name) for name in names if name]
    return [number for number in found if number is not None]


def _ids(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [number for number in values if isinstance(number, int) and not isinstance(number, bool)]


def _defaults(generation: Mapping[str, Any]) -> Defaults:
    """Only numbers that can be used; ``do_sample: false`` is greedy."""

    def number(name: str, low: float, high: float) -> Any:
        value = generation.get(name)
        good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        return value if good else None

    if generation.get("do_sample") is False:
        return Defaults(temperature=0.0, repetition_penalty=number("repetition_penalty", 0.01, 10))
    top_k = number("top_k", 0, 1 << 24)
    return Defaults(
        number("temperature", 0, 10),
        None if top_k is None else int(top_k),
        number("top_p", 1e-6, 1),
        number("repetition_penalty", 0.01, 10),
    )
