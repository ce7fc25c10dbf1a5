"""Text <-> token ids: the published cl100k vocabulary, or the small one of the bundled reader.

Special and location tokens are not the tokenizer's business: text that spells ``<ocr>`` is encoded as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from multiway_core.errors import CheckpointError
from tokenizers import Tokenizer, decoders, models, trainers

from multiway_document.alphabet import ALPHABET
from multiway_document.kosmos2_5.config import TokenConfig


class TextTokenizer(Protocol):
    """Model ids of plain text, in the range of the text tokens."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class FileTokenizer:
    """A ``tokenizer.json`` whose ids are either the model's own (the hub's) or text ids from 0 (ours)."""

    def __init__(self, tokenizer: Tokenizer, tokens: TokenConfig, *, offset: int) -> None:
        self.tokenizer, self.tokens, self.offset = tokenizer, tokens, offset
        # Text that spells a special token stays text.
        self.tokenizer.encode_special_tokens = True

    @classmethod
    def from_folder(cls, folder: Path, tokens: TokenConfig) -> FileTokenizer:
        """Read ``tokenizer.json`` of a model folder. Raises :class:`CheckpointError`."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(f"{folder}: no tokenizer.json beside the weights")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{path}: not a tokenizer file ({error})") from error
        # Ours holds text tokens only; the hub's holds every id of the model.
        offset = tokens.first_text if tokenizer.get_vocab_size() <= tokens.num_text_tokens else 0
        return cls(tokenizer, tokens, offset=offset)

    def encode(self, text: str) -> list[int]:
        """Model ids."""
        return [index + self.offset for index in self.tokenizer.encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of model ids; ids outside the text range are left out."""
        first, last = self.tokens.first_text, self.tokens.mask
        return self.tokenizer.decode([index - self.offset for index in ids if first <= index < last])


def train_small_tokenizer(lines: Iterable[str], num_tokens: int) -> Tokenizer:
    """Byte-pair merges over the reader's alphabet and the newline, with one space glued to the word behind it."""
    tokenizer = Tokenizer(models.BPE(fuse_unk=False))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=num_tokens, initial_alphabet=[*ALPHABET, "\n"], show_progress=False, max_token_length=8
        ),
    )
    return tokenizer
