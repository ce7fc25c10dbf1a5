"""Text <-> tokens of BitNet b1.58 2B4T: the LLaMA-3 tokenizer and the chat format of its card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from multiway_core.errors import CheckpointError, InputError
from tokenizers import Tokenizer

BEGIN, END_OF_TEXT, END_OF_TURN = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}


class BitNetProcessor:
    """Prompts as token ids, and ids as text. Text never turns into control tokens; only the chat format places them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.tokenizer.encode_special_tokens = True  # what spells a control token is text
        self.begin_id = self._control(BEGIN)
        self.turn_id = self._control(END_OF_TURN)
        self.end_ids = (self._control(END_OF_TEXT), self.turn_id)

    @classmethod
    def from_folder(cls, folder: Path) -> BitNetProcessor:
        """The tokenizer in ``tokenizer.json``. Raises CheckpointError."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(f"{folder}: no tokenizer.json")
        try:
            return cls(Tokenizer.from_file(str(path)))
        except CheckpointError:
            raise
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"{path}: not a tokenizer: {error}") from error

    def encode(self, text: str) -> list[int]:
        """A document's beginning: ``<|begin_of_text|>`` and the text."""
        return [self.begin_id, *self._text(text)]

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
            ids += [*self._text(f"{ROLES[role]}: {content.strip()}"), self.turn_id]
        return [*ids, *self._text(f"{ROLES['assistant']}: ")]

    def decode(self, ids: Sequence[int]) -> str:
        """Text without control tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def _control(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise CheckpointError(f"the tokenizer has no token {token}: not that of BitNet b1.58 2B4T")
        return found

    def _text(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids
