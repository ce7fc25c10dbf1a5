"""A SentencePiece vocabulary and model sizes small enough to be made while a test runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from multiway_core.tokenization import TextTokenizer
from multiway_vision_language.kosmos2.checkpoint import TOKENIZER_FILE
from multiway_vision_language.kosmos2.config import KOSMOS_2_TINY, Kosmos2Config
from sentencepiece import SentencePieceTrainer

LINES = [
    "An image of a snowman warming himself by a fire.",
    "An image of two puppies sit in a field of grass.",
    "Describe this image in detail: the red bus stands left of a small tree.",
    "Question: What colour is the dog? Answer: It is brown, and 3 < 5.",
    "It is the largest of the birds; what is it?",
] * 10


def train_vocabulary(folder: Path) -> TextTokenizer:
    """A unigram vocabulary of at most 120 pieces, written to ``folder`` under the published name."""
    target = folder / TOKENIZER_FILE
    with target.open("wb") as stream:
        SentencePieceTrainer.Train(
            sentence_iterator=iter(LINES), model_writer=stream, vocab_size=100, hard_vocab_limit=False,
            model_type="unigram", minloglevel=2, num_threads=1,
        )  # fmt: skip
    return TextTokenizer.from_folder(target)


def tiny_config(pieces: TextTokenizer, **changes) -> Kosmos2Config:
    """``KOSMOS_2_TINY`` with as many text tokens as there are pieces."""
    tokens = replace(KOSMOS_2_TINY.tokens, num_text_tokens=pieces.vocab_size - len(pieces.special))
    text = replace(KOSMOS_2_TINY.text, vocab_size=tokens.vocab_size)
    return replace(KOSMOS_2_TINY, tokens=tokens, text=text, **changes)
