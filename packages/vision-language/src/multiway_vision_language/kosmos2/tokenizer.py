"""Text <-> ids by SentencePiece, numbered as fairseq does: four control ids, then the file's pieces.

Tags are not the tokenizer's business: text that spells ``<phrase>`` is encoded as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from multiway_core.errors import CheckpointError
from sentencepiece import SentencePieceProcessor

FILE = "sentencepiece.bpe.model"
_FIRST_PIECE = 3  # the file's ids 0, 1, 2 are <unk>, <s>, </s>
_OFFSET = 1  # from the file's ids to the model's
_UNKNOWN = 3
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class TextTokenizer(Protocol):
    """Model ids of plain text."""

    def encode(self, text: str) -> list[int]: ...

    def encode_with_offsets(self, text: str) -> list[tuple[int, int, int]]:
        """The same ids with the characters that each stands for: (id, start, end)."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, with the space before a first word; ids that are no text are left out."""
        ...


class SentencePieceTokenizer:
    """A SentencePiece file whose piece ``i`` has the id ``i + 1``, for the published model ``i = 3`` to 63,999."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`CheckpointError` if the file cannot be read."""
        self.path = Path(path)
        self.pieces = SentencePieceProcessor()
        try:
            # From bytes: the library prints to stderr, beside raising, where a file is missing.
            self.pieces.LoadFromSerializedProto(self.path.read_bytes())
        except (OSError, RuntimeError) as error:
            problem = getattr(error, "strerror", None) or "not a SentencePiece model"
            raise CheckpointError(f"{path}: {problem}") from error

    @classmethod
    def from_folder(cls, folder: Path) -> SentencePieceTokenizer:
        """The tokenizer of a model folder. Raises :class:`CheckpointError`."""
        path = Path(folder) / FILE
        if not path.is_file():
            raise CheckpointError(
                f"{folder}: no {FILE} beside the weights; it comes with the published model"
            )
        return cls(path)

    @property
    def num_text_tokens(self) -> int:
        """Pieces that have an id of their own."""
        return self.pieces.GetPieceSize() - _FIRST_PIECE

    def encode(self, text: str) -> list[int]:
        """Model ids. The first word gets the sign of a space before it, whether the text begins with one or not."""
        found = self.pieces.EncodeAsIds(text)
        return [piece + _OFFSET if piece >= _FIRST_PIECE else _UNKNOWN for piece in found]

    def encode_with_offsets(self, text: str) -> list[tuple[int, int, int]]:
        """Model ids with the characters that each stands for, a space before a word included: (id, start, end)."""
        found = self.pieces.EncodeAsOffsetMapping(text)
        return [
            (piece + _OFFSET if piece >= _FIRST_PIECE else _UNKNOWN, start, end)
            for piece, (start, end) in zip(found["ids"], found["offsets"], strict=True)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, with the space before a first word; ids that are no pieces are left out."""
        first, last = _FIRST_PIECE + _OFFSET, self.pieces.GetPieceSize() + _OFFSET
        pieces = (self.pieces.IdToPiece(index - _OFFSET) for index in ids if first <= index < last)
        return "".join(pieces).replace(_SPACE, " ")
