"""Text <-> token ids with a published ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from multiway_core import hub
from multiway_core.errors import CheckpointError
from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"


class TextTokenizer:
    """A byte-level BPE whose special tokens have to be asked for by name: none is read out of a user's text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer

    @classmethod
    def from_folder(cls, folder: Path, *, fallback: str | None = None) -> TextTokenizer:
        """The tokenizer in a model folder, or of the hub model ``fallback`` where the folder has none.

        Raises :class:`CheckpointError`, or :class:`ModelNotFoundError` if the fallback cannot be had.
        """
        path = folder / TOKENIZER_FILE
        if not path.is_file():
            if fallback is None:
                raise CheckpointError(f"{folder}: no {TOKENIZER_FILE}")
            path = hub.resolve(fallback, allow_patterns=[TOKENIZER_FILE]) / TOKENIZER_FILE
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises bare exceptions
            raise CheckpointError(f"{path}: not a tokenizer: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Ids of a text as it stands; lone surrogates, which no text file can hold, become ``?``."""
        return self._tokenizer.encode(
            text.encode("utf-8", "replace").decode("utf-8"), add_special_tokens=False
        ).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out; bytes that are no character become U+FFFD."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def special(self, token: str) -> int:
        """The id of a special token. Raises :class:`CheckpointError` if the vocabulary lacks it."""
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise CheckpointError(f"the tokenizer has no token {token}")
        return found
