"""One tokenizer class for every model here.

Text never turns into special tokens: what spells one in a text is text. Whoever needs a special token asks for its id.
Shape suffixes: B texts, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from multiway_core import hub
from multiway_core.errors import CheckpointError, InputError
from multiway_core.tokenization.engines import TOKENIZER_FILE, Engine, Frame, LibraryEngine
from multiway_core.tokenization.unigram import Lattice

_PADS = ("<pad>", "[PAD]", "<|pad|>")


class Encoding(NamedTuple):
    """Tokens of a text or a pair of texts, one entry a token in each list.

    ``offsets``: the characters [start, end) of its own text that a token stands for, (0, 0) for special tokens.
    ``type_ids``: 0 for the first text; for the second what the model was taught (1 for BERT, 0 for RoBERTa).
    ``special_mask``: True for tokens that are not text.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    type_ids: list[int]
    special_mask: list[bool]


class Batch(NamedTuple):
    """Padded texts: ids and token types (int64), and True where a token is not padding. Each is (B, T)."""

    ids_BT: Tensor
    valid_BT: Tensor
    types_BT: Tensor


class TextTokenizer:
    """Text <-> token ids: WordPiece, byte-level BPE, Unigram, fastBPE, from files or from a library object.

    Args:
        engine: what cuts the text; a `tokenizers.Tokenizer` is wrapped.
        begin_id: the token that a document begins with, if the model was taught one.
        end_ids: tokens that end an answer or a document.
        begin_token, end_token: their names in the chat format; "" where there is none.
        chat_template: Jinja source of the chat format, for a model that was taught to chat.
        generation: ``generation_config.json``: how the authors sample.

    Attributes:
        special: special tokens by name.
    """

    def __init__(
        self,
        engine: Engine | Tokenizer,
        *,
        begin_id: int | None = None,
        end_ids: tuple[int, ...] = (),
        begin_token: str = "",
        end_token: str = "",
        chat_template: str | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        self.engine: Engine = LibraryEngine(engine) if isinstance(engine, Tokenizer) else engine
        self.begin_id, self.end_ids = begin_id, end_ids
        self.begin_token, self.end_token = begin_token, end_token
        self.chat_template, self.generation = chat_template, dict(generation or {})
        self.special = self.engine.special
        self._lattice: Lattice | None = None

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        lowercase: bool | None = None,
        fairseq: bool | None = None,
        fallback: str | None = None,
    ) -> TextTokenizer:
        """The tokenizer of a model folder, whatever its kind, or of one of its files.

        Looked for in this order: ``tokenizer.json``; a SentencePiece ``*.model``; ``vocab.json`` with ``merges.txt``
        (byte-level BPE, or fastBPE where merges end in ``</w>``); fastBPE's ``codes*`` with ``vocab*``; ``vocab.txt``
        (WordPiece). ``lowercase`` (WordPiece) and ``fairseq`` (SentencePiece numbering) override what the files say.
        ``fallback``: a hub model whose ``tokenizer.json`` is taken where the folder has none.
        Raises :class:`CheckpointError`, or :class:`ModelNotFoundError` if the fallback cannot be had.
        """
        from multiway_core.tokenization.folder import read

        if fallback is not None and not (Path(folder) / TOKENIZER_FILE).is_file():
            folder = hub.resolve(fallback, allow_patterns=[TOKENIZER_FILE]) / TOKENIZER_FILE
        return read(Path(folder), lowercase=lowercase, fairseq=fairseq)

    @property
    def kind(self) -> str:
        """ "WordPiece", "byte-level BPE", "BPE", "fastBPE", "Unigram", "SentencePiece BPE" or "word level"."""
        return self.engine.kind

    @property
    def library(self) -> Tokenizer:
        """The object of the `tokenizers` library. Raises InputError where another library stands behind."""
        if not isinstance(self.engine, LibraryEngine):
            raise InputError(f"a {self.kind} vocabulary in a SentencePiece file has no tokenizer.json form")
        return self.engine.tokenizer

    @property
    def vocab_size(self) -> int:
        """Ids are below this number."""
        return self.engine.vocab_size

    @property
    def prefix_id(self) -> int | None:
        """What the first token of a document is predicted from: the beginning, or the end of the one before."""
        return self.begin_id if self.begin_id is not None else self.end_ids[-1] if self.end_ids else None

    @property
    def pad_id(self) -> int:
        """The padding token; 0 for a vocabulary without one."""
        return next((self.special[name] for name in _PADS if name in self.special), 0)

    def special_id(self, name: str) -> int:
        """The id of a special or other token by name. Raises :class:`CheckpointError` if the vocabulary lacks it."""
        found = self.special.get(name)
        found = self.engine.token_to_id(name) if found is None else found
        if found is None:
            raise CheckpointError(f"the tokenizer has no token {name}")
        return found

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone, without special tokens. Lone surrogates, which no file can hold, become ``?``."""
        return self.engine.encode(_encodable(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """:meth:`encode` of many texts, on all cores."""
        return self.engine.encode_batch([_encodable(text) for text in texts])

    def encode_prompt(self, text: str) -> list[int]:
        """What a causal model continues: its begin token, where it was taught one, and the text."""
        return [*([] if self.begin_id is None else [self.begin_id]), *self.encode(text)]

    def encode_with_offsets(
        self, text: str, pair: str | None = None, *, add_special_tokens: bool = True
    ) -> Encoding:
        """Ids, offsets and types of a text or a pair, with the special tokens that the model expects around them."""
        parts = [
            self.engine.encode_with_offsets(_encodable(part)) for part in (text, pair) if part is not None
        ]
        return self._frame(parts, self.engine.frame if add_special_tokens else Frame())

    def add_special_tokens(
        self, ids: Sequence[int], pair_ids: Sequence[int] | None = None, *, max_length: int | None = None
    ) -> tuple[list[int], list[int]]:
        """(ids, token types) of one or two encoded texts with the special tokens that the model expects around them.

        Cut to ``max_length`` as :meth:`batch` does it. Raises InputError: it leaves no room for text.
        """
        if max_length is not None:
            room = self._room(max_length, self.engine.frame, pair_ids is not None)
            ids, pair_ids = _cut(list(ids), None if pair_ids is None else list(pair_ids), room)
        found = self._frame([(part, []) for part in (ids, pair_ids) if part is not None], self.engine.frame)
        return found.ids, found.type_ids

    def _room(self, max_length: int, frame: Frame, is_pair: bool) -> int:
        """Tokens of text beside the special ones. Raises InputError: none."""
        room = max_length - len(frame.prefix) - len(frame.suffix) - (len(frame.middle) if is_pair else 0)
        if room < 1:
            raise InputError(f"a max_length of {max_length} leaves no room for text")
        return room

    def _frame(self, parts: Sequence[tuple[Sequence[int], list[tuple[int, int]]]], frame: Frame) -> Encoding:
        """(ids, offsets) of one or two texts with a frame's special tokens around them."""
        around = [frame.prefix, *[frame.middle] * (len(parts) - 1), frame.suffix]
        found = Encoding([], [], [], [])
        for place, special in enumerate(around):
            second = self.engine.frame.pair_type if place == 2 else 0
            _extend(found, special, [(0, 0)] * len(special), second, True)
            if place < len(parts):
                _extend(found, *parts[place], self.engine.frame.pair_type if place else 0, False)
        return found

    def batch(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        padding_side: str = "right",
    ) -> Batch:
        """Texts, or pairs of texts, cut to ``max_length`` tokens (special ones included) and padded to the longest.

        Of a pair the longer text is cut first, at its end. Raises InputError: no texts, a ``max_length`` that leaves no
        room for text, or as many pairs as texts are not given.
        """
        if not texts or (pairs is not None and len(pairs) != len(texts)):
            raise InputError(
                f"a batch of {len(texts)} texts and {len(pairs or ())} second texts cannot be made"
            )
        frame = self.engine.frame if add_special_tokens else Frame()
        room = None if max_length is None else self._room(max_length, frame, pairs is not None)
        first = self.encode_batch(texts)
        second = None if pairs is None else self.encode_batch(pairs)
        rows = []
        for place, ids in enumerate(first):
            more = None if second is None else second[place]
            if room is not None:
                ids, more = _cut(ids, more, room)
            rows.append(self._frame([(part, []) for part in (ids, more) if part is not None], frame))
        longest = max(len(row.ids) for row in rows)
        ids_BT = torch.full((len(rows), longest), self.pad_id)
        types_BT = torch.zeros(len(rows), longest, dtype=torch.long)
        valid_BT = torch.zeros(len(rows), longest, dtype=torch.bool)
        for index, row in enumerate(rows):
            start = longest - len(row.ids) if padding_side == "left" else 0
            places = slice(start, start + len(row.ids))
            ids_BT[index, places] = torch.tensor(row.ids, dtype=torch.long)
            types_BT[index, places] = torch.tensor(row.type_ids, dtype=torch.long)
            valid_BT[index, places] = True
        return Batch(ids_BT, valid_BT, types_BT)

    def sample(self, text: str, alpha: float, generator: torch.Generator | None = None) -> list[int]:
        """Ids of one segmentation of the text, drawn in proportion to its probability to the power ``alpha``.

        Subword regularization over all segmentations: 0 is uniform, large values approach :meth:`encode`.
        Raises InputError: the vocabulary is not Unigram, or ``alpha`` is negative.
        """
        if not alpha >= 0:
            raise InputError(f"alpha must be at least 0, not {alpha}")
        if self._lattice is None:
            self._lattice = self.engine.lattice()
        return self._lattice.sample(_encodable(text), alpha, generator)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of ids. Bytes that are no character become U+FFFD; ids that stand for no text are left out."""
        return self.engine.decode(ids, skip_special=skip_special_tokens)

    def decode_token(self, index: int) -> str:
        """One token as text to show: a special token by its name; a part of a character as U+FFFD."""
        return self.engine.decode([index], skip_special=False)

    def check(self, ids: Sequence[int], vocab_size: int) -> None:
        """Raise InputError for an id that the model does not know."""
        for token in ids:
            if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
                raise InputError(f"token {token!r} is out of the vocabulary: ids are 0 to {vocab_size - 1}")

    def save(self, folder: Path) -> None:
        """Write the vocabulary, ``tokenizer_config.json`` and ``generation_config.json``. Raises OutputError."""
        from multiway_core.tokenization.folder import write

        write(self, folder)


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _extend(
    found: Encoding, ids: Sequence[int], offsets: list[tuple[int, int]], type_id: int, special: bool
) -> None:
    found.ids.extend(ids)
    found.offsets.extend(offsets)
    found.type_ids.extend([type_id] * len(ids))
    found.special_mask.extend([special] * len(ids))


def _cut(first: list[int], second: list[int] | None, room: int) -> tuple[list[int], list[int] | None]:
    """The longer of two texts is cut first, as the `tokenizers` library does it."""
    if second is None:
        return first[:room], None
    if len(first) + len(second) <= room:
        return first, second
    short, long = sorted((len(first), len(second)))
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    return (first[:short], second[:long]) if len(first) <= len(second) else (first[:long], second[:short])
