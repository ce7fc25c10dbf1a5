"""Vocabularies learnt on texts: WordPiece in BERT's form, Unigram in XLM-R's."""

from __future__ import annotations

import io
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


XLM_R_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_MAX_SENTENCES = 2_000_000
_COVERAGE = 0.9995


def train_unigram(texts: Iterable[str], vocab_size: int) -> TextTokenizer:
    """At most ``vocab_size`` pieces in the order of XLM-R: ``<s> <pad> </s> <unk>``, the pieces, ``<mask>`` last.

    SentencePiece learns the pieces, on one thread, so that two processes learn the same (at most 2,000,000 texts). Text
    is put in Unicode's form NFKC. Raises InputError: too small a vocabulary, no text, or SentencePiece is missing.
    """
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise InputError(
            "learning a Unigram vocabulary needs sentencepiece: pip install 'multiway-text[training]'"
        ) from error
    if vocab_size < 100:
        raise InputError(f"a Unigram vocabulary needs at least 100 pieces, not {vocab_size}")
    normalizer = normalizers.NFKC()
    lines = (line for text in texts for line in normalizer.normalize_str(text).splitlines() if line.strip())
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=model,
            vocab_size=vocab_size - 2,  # the file has no <pad> and no <mask>
            hard_vocab_limit=False,
            character_coverage=_COVERAGE,
            normalization_rule_name="identity",
            input_sentence_size=_MAX_SENTENCES,
            shuffle_input_sentence=False,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise InputError(f"no vocabulary can be learnt from these texts: {error}") from error
    learnt = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(learnt.IdToPiece(index), learnt.GetScore(index)) for index in range(3, len(learnt))]
    vocab = [*((name, 0.0) for name in XLM_R_SPECIAL[:-1]), *pieces, (XLM_R_SPECIAL[-1], 0.0)]
    made = Tokenizer(models.Unigram(vocab, unk_id=XLM_R_SPECIAL.index("<unk>")))
    made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in XLM_R_SPECIAL])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return TextTokenizer(made)
