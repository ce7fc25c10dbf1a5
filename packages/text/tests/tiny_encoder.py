"""A text encoder with random weights and a small vocabulary, written as a sentence model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core.tokenization import TextTokenizer
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["good", "bad", "film", "very", "paris", "anna", "in", "lives", "it", "was", "a", "london", "tom"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ","]
VOCABULARY += list(dict.fromkeys([*WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]))
CONFIG = TextEncoderConfig(
    "bert", len(VOCABULARY), 32, 2, 4, 64, 40, 2, 1e-5, 0, 0, dropout=0.0, attention_dropout=0.0
)


def tokenizer(folder: Path) -> TextTokenizer:
    """WordPiece over `VOCABULARY`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return TextTokenizer.from_folder(folder / "vocab.txt")


def sentence_model(folder: Path, settings: SentenceSettings | None = None, **changes: Any) -> SentenceModel:
    """The model, also written to ``folder``."""
    torch.manual_seed(0)
    encoder = TextEncoder(replace(CONFIG, **changes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    words = tokenizer(folder / "vocabulary")
    model = SentenceModel(encoder.eval(), words, settings or SentenceSettings(normalize=True))
    model.save(folder)
    return model
