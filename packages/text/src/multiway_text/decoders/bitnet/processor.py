"""Text <-> tokens of BitNet b1.58 2B4T: the LLaMA-3 tokenizer and the chat format of its card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer

BEGIN, END_OF_TEXT, END_OF_TURN = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}


class BitNetProcessor:
    """Prompts as token ids, and ids as text. Text never turns into control tokens; only the chat format places them."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self.begin_id = tokenizer.special_id(BEGIN)
        self.turn_id = tokenizer.special_id(END_OF_TURN)
        self.end_ids = (tokenizer.special_id(END_OF_TEXT), self.turn_id)

    @classmethod
    def from_folder(cls, folder: Path) -> BitNetProcessor:
        """The tokenizer in a model folder. Raises CheckpointError."""
        return cls(TextTokenizer.from_folder(folder))

    def encode(self, text: str) -> list[int]:
        """A document's beginning: ``<|begin_of_text|>`` and the text."""
        return [self.begin_id, *self.tokenizer.encode(text)]

    def chat(self, turns: Sequence[tuple[str, str]]) -> list[int]:
        """Turns (role, content), after which the assistant is to speak.

        Each is ``Role: content<|eot_id|>``, and the prompt ends with ``Assistant: ``. Raises InputError for an unknown
        role or no turns.
        """
        if not turns:
            raise InputError("a chat needs at least one turn")
        ids = [self.begin_id]
        for role, content in turns:
            if role not in ROLES:
                raise InputError(f"unknown role {role!r}; known are {', '.join(ROLES)}")
            ids += [*self.tokenizer.encode(f"{ROLES[role]}: {content.strip()}"), self.turn_id]
        return [*ids, *self.tokenizer.encode(f"{ROLES['assistant']}: ")]

    def decode(self, ids: Sequence[int]) -> str:
        """Text without control tokens."""
        return self.tokenizer.decode(ids)
