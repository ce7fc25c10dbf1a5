"""A WordPiece vocabulary learnt on texts, in BERT's form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_LARGEST_ALPHABET = 1000


def train_word_piece(texts: Iterable[str], vocab_size: int, *, lowercase: bool = True) -> TextTokenizer:
    """At most ``vocab_size`` pieces of texts, BERT's special tokens first; rare characters are ``[UNK]``.

    ``texts`` is gone through twice. Raises InputError for a vocabulary that is too small, or no text.
    """
    if vocab_size < 100:
        raise InputError(f"a WordPiece vocabulary needs at least 100 pieces, not {vocab_size}")
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    count: Counter[str] = Counter()
    for text in texts:
        count.update(normalizer.normalize_str(text))
    most = sorted(count.items(), key=lambda item: (-item[1], item[0]))
    alphabet = [character for character, _ in most if not character.isspace()]
    if not alphabet:
        raise InputError("there is no text to learn a vocabulary from")
    alphabet = sorted(alphabet[: min(_LARGEST_ALPHABET, vocab_size // 4)])
    # The library numbers the characters inside words in an order that differs from one process to the next, and its
    # choice between equally frequent merges with them; as special tokens they have the numbers of this list.
    inside = [f"##{character}" for character in alphabet if character.isalnum()]
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL, *inside],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return _tokenizer(learner.get_vocab(), lowercase)


def _tokenizer(vocab: dict[str, int], lowercase: bool) -> TextTokenizer:
    made = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    made.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    return TextTokenizer(made)
