"""The two libraries that cut text into tokens, `tokenizers` and `sentencepiece`, behind one interface.

An engine never turns text that spells a special token into that token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

from multiway_core import files
from multiway_core.errors import CheckpointError, InputError
from multiway_core.tokenization.unigram import SPACE, Lattice

TOKENIZER_FILE = "tokenizer.json"
FAIRSEQ_SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
_FAIRSEQ_OFFSET = 1  # from the ids of a SentencePiece file to fairseq's
_FILE_SPECIAL = 3  # a SentencePiece file begins with <unk>, <s>, </s>
_KINDS = {"WordPiece": "WordPiece", "Unigram": "Unigram", "WordLevel": "word level", "BPE": "BPE"}


@dataclass(frozen=True)
class Frame:
    """Special tokens around one text or a pair: prefix + first + suffix, or prefix + first + middle + second + suffix.

    ``pair_type``: token type of a pair's second part and suffix; 1 for BERT, 0 for RoBERTa.
    """

    prefix: tuple[int, ...] = ()
    middle: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    pair_type: int = 0


class Engine(Protocol):
    """What :class:`multiway_core.tokenization.TextTokenizer` asks of a library.

    Attributes:
        kind: "WordPiece", "byte-level BPE", "BPE", "fastBPE", "Unigram", "SentencePiece BPE" or "word level".
        vocab_size: ids are below this number.
        special: special tokens by name.
        frame: special tokens around texts.
    """

    @property
    def kind(self) -> str: ...

    vocab_size: int
    special: dict[str, int]
    frame: Frame

    def encode(self, text: str) -> list[int]: ...

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str: ...

    def token_to_id(self, token: str) -> int | None: ...

    def id_to_token(self, index: int) -> str | None: ...

    def lattice(self) -> Lattice: ...

    def save(self, folder: Path) -> None: ...


class LibraryEngine:
    """A tokenizer of the `tokenizers` library.

    Args:
        tokenizer: the library's object.
        kind: overrides what the library's model says.
        first_id: the id of the vocabulary's first token, where a model keeps lower ids for itself.
        text_ids: ids that stand for text; ``decode`` leaves out all others. None: all.
        num_ids, unknown: internal ids from ``num_ids`` on stand for no token of the model and become ``unknown``.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        kind: str | None = None,
        first_id: int = 0,
        text_ids: range | None = None,
        num_ids: int | None = None,
        unknown: int = 0,
    ) -> None:
        self.tokenizer, self.first_id, self.text_ids = tokenizer, first_id, text_ids
        tokenizer.encode_special_tokens = True  # what spells a special token is text
        tokenizer.no_padding()  # which some files keep from when they were written, as all-MiniLM's
        tokenizer.no_truncation()
        model = type(tokenizer.model).__name__
        decoder = type(tokenizer.decoder).__name__
        self.kind = kind or ("byte-level BPE" if (model, decoder) == ("BPE", "ByteLevel") else _KINDS[model])
        added = tokenizer.get_added_tokens_decoder()
        self.special = {token.content: index + first_id for index, token in added.items() if token.special}
        self.vocab_size = first_id + (num_ids or tokenizer.get_vocab_size(with_added_tokens=True))
        self.num_ids, self.unknown = num_ids, unknown
        self.frame = _frame(tokenizer)
        self._encoder = _without_special(tokenizer, self.special) if model == "Unigram" else tokenizer

    def encode(self, text: str) -> list[int]:
        return self._ids(self._encoder.encode(text, add_special_tokens=False).ids)

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        found = self._encoder.encode(text, add_special_tokens=False)
        return self._ids(found.ids), found.offsets

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._encoder.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self._ids(one.ids) for one in found]

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        if self.text_ids is not None:
            ids = [index for index in ids if index in self.text_ids]
        if self.first_id:
            ids = [index - self.first_id for index in ids]
        return self.tokenizer.decode(list(ids), skip_special_tokens=skip_special)

    def token_to_id(self, token: str) -> int | None:
        index = self.tokenizer.token_to_id(token)
        return None if index is None else index + self.first_id

    def id_to_token(self, index: int) -> str | None:
        return self.tokenizer.id_to_token(index - self.first_id) if index >= self.first_id else None

    def lattice(self) -> Lattice:
        model = json.loads(self.tokenizer.to_str())["model"]
        if model["type"] != "Unigram":
            raise InputError(f"sampling segmentations needs a Unigram vocabulary; this one is {self.kind}")
        scores = {
            piece: (index + self.first_id, score)
            for index, (piece, score) in enumerate(model["vocab"])
            if piece not in self.special and index != model["unk_id"]
        }
        normalizer, splitter = self.tokenizer.normalizer, self.tokenizer.pre_tokenizer

        def words(text: str) -> Iterable[str]:
            text = normalizer.normalize_str(text) if normalizer else text
            return [word for word, _ in splitter.pre_tokenize_str(text)] if splitter else [text]

        return Lattice(scores, (model["unk_id"] or 0) + self.first_id, words)

    def save(self, folder: Path) -> None:
        self.tokenizer.encode_special_tokens = False  # not a property of the file
        files.write_text(folder / TOKENIZER_FILE, self.tokenizer.to_str(pretty=False))
        self.tokenizer.encode_special_tokens = True

    def _ids(self, ids: list[int]) -> list[int]:
        if self.num_ids is not None:
            ids = [index if index < self.num_ids else self.unknown for index in ids]
        return [index + self.first_id for index in ids] if self.first_id else ids


class SentencePieceEngine:
    """A SentencePiece file.

    ``fairseq``: pieces have the ids of fairseq and XLM-R, one above the file's, behind ``<s> <pad> </s> <unk>``, and
    ``<mask>`` stands last; else the ids are the file's. Raises :class:`CheckpointError` for a file that cannot be read.
    """

    def __init__(self, path: Path, *, fairseq: bool) -> None:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise CheckpointError(
                f"{path}: SentencePiece models need: pip install multiway-core[sentencepiece]"
            ) from error
        self.name, self.pieces = path.name, SentencePieceProcessor()
        try:
            # From bytes: the library prints to stderr, beside raising, where a file is missing.
            self.pieces.LoadFromSerializedProto(path.read_bytes())
        except (OSError, RuntimeError) as error:
            problem = getattr(error, "strerror", None) or "not a SentencePiece model"
            raise CheckpointError(f"{path}: {problem}") from error
        size = self.pieces.GetPieceSize()
        if fairseq and [self.pieces.IdToPiece(index) for index in range(min(size, 3))] != [
            "<unk>",
            "<s>",
            "</s>",
        ]:
            raise CheckpointError(
                f"{path}: fairseq's numbering needs a file that begins with <unk>, <s>, </s>"
            )
        self.fairseq, self._offset = fairseq, _FAIRSEQ_OFFSET if fairseq else 0
        self._unknown = FAIRSEQ_SPECIAL["<unk>"] if fairseq else self.pieces.unk_id()
        if fairseq:
            self.special = {**FAIRSEQ_SPECIAL, "<mask>": size + _FAIRSEQ_OFFSET}
            begin, end = FAIRSEQ_SPECIAL["<s>"], FAIRSEQ_SPECIAL["</s>"]
            self.frame = Frame((begin,), (end, end), (end,))
        else:
            control = (i for i in range(size) if self.pieces.IsControl(i) or self.pieces.IsUnknown(i))
            self.special, self.frame = {self.pieces.IdToPiece(index): index for index in control}, Frame()
        self.vocab_size = size + 2 * self._offset
        self._not_text = set(self.special.values())

    @cached_property
    def kind(self) -> str:
        """From the scores: those of BPE pieces are minus their rank, those of Unigram log-probabilities."""
        scores = [self.pieces.GetScore(index) for index in range(_FILE_SPECIAL, self.pieces.GetPieceSize())]
        return "SentencePiece BPE" if scores and all(s == int(s) for s in scores) else "Unigram"

    def encode(self, text: str) -> list[int]:
        return self._ids(self.pieces.EncodeAsIds(text))

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        found = self.pieces.EncodeAsOffsetMapping(text)
        return self._ids(found["ids"]), [tuple(pair) for pair in found["offsets"]]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._ids(ids) for ids in self.pieces.EncodeAsIds(list(texts))]

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        """Text with the space before a first word. Byte pieces that are no character become U+FFFD."""
        found = bytearray()
        for index in ids:
            if skip_special and index in self._not_text:
                continue
            piece = self.id_to_token(index)
            if piece is None:
                continue
            byte = index not in self._not_text and self.pieces.IsByte(index - self._offset)
            found += bytes([int(piece[3:5], 16)]) if byte else piece.replace(SPACE, " ").encode()
        return found.decode("utf-8", "replace")

    def token_to_id(self, token: str) -> int | None:
        if token in self.special:
            return self.special[token]
        index = self.pieces.PieceToId(token)
        return None if index == self.pieces.unk_id() else index + self._offset

    def id_to_token(self, index: int) -> str | None:
        if index in self._not_text:
            return next(name for name, number in self.special.items() if number == index)
        return (
            self.pieces.IdToPiece(index - self._offset) if self._offset <= index < self.vocab_size else None
        )

    def lattice(self) -> Lattice:
        if self.kind != "Unigram":
            raise InputError(f"sampling segmentations needs a Unigram vocabulary; this one is {self.kind}")
        pieces = self.pieces
        scores = {
            pieces.IdToPiece(index): (index + self._offset, pieces.GetScore(index))
            for index in range(pieces.GetPieceSize())
            if not (pieces.IsControl(index) or pieces.IsUnknown(index) or pieces.IsUnused(index))
        }
        return Lattice(scores, self._unknown, lambda text: [pieces.Normalize(text)])

    def save(self, folder: Path) -> None:
        files.write_bytes(folder / self.name, self.pieces.serialized_model_proto())

    def _ids(self, ids: Sequence[int]) -> list[int]:
        if not self.fairseq:
            return list(ids)
        return [index + _FAIRSEQ_OFFSET if index >= _FILE_SPECIAL else self._unknown for index in ids]


def _frame(tokenizer: Tokenizer) -> Frame:
    """What the library's post-processor puts around texts, found by looking at what it does."""
    if not tokenizer.num_special_tokens_to_add(is_pair=False):
        return Frame()
    pair: Any = tokenizer.encode("a", "a")
    first, second = ([i for i, part in enumerate(pair.sequence_ids) if part == side] for side in (0, 1))
    if not first or not second:
        return Frame()
    ids = pair.ids
    prefix, suffix = ids[: first[0]], ids[second[-1] + 1 :]
    single = tokenizer.encode("a")
    if single.ids != [*prefix, *ids[first[0] : first[-1] + 1], *suffix]:
        suffix = single.ids[len(prefix) + len(first) :]
    return Frame(
        tuple(prefix), tuple(ids[first[-1] + 1 : second[0]]), tuple(suffix), pair.type_ids[second[0]]
    )


def _without_special(tokenizer: Tokenizer, special: dict[str, int]) -> Tokenizer:
    """A Unigram tokenizer that cannot find special tokens in text: its vocabulary holds them as ordinary pieces."""
    content = json.loads(tokenizer.to_str())
    unknown = content["model"]["unk_id"]
    for index, entry in enumerate(content["model"]["vocab"]):
        if entry[0] in special and index != unknown:
            entry[0] = f"\U0010ffff{entry[0]}"
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["special"]]
    content["post_processor"] = None
    return Tokenizer.from_str(json.dumps(content))
