"""A tiny Kosmos-2 with random weights, saved as the published one is, and pictures to show it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from multiway_vision_language.kosmos2 import checkpoint
from multiway_vision_language.kosmos2.config import KOSMOS_2_TINY
from multiway_vision_language.kosmos2.model import Kosmos2
from multiway_vision_language.kosmos2.tokenizer import FILE, SentencePieceTokenizer
from PIL import Image
from sentencepiece import SentencePieceTrainer

LINES = [
    "An image of a snowman warming himself by a fire.",
    "Describe this image in detail: two puppies sit in a field of grass.",
    "Question: What colour is the red ball? Answer: It is brown.",
]


def save_tiny_model(folder, *, seed=0, **changes):
    """A model folder; ``changes`` are of the configuration."""
    folder.mkdir()
    with (folder / FILE).open("wb") as file:
        SentencePieceTrainer.Train(
            sentence_iterator=iter(LINES * 10),
            model_writer=file,
            vocab_size=80,
            hard_vocab_limit=False,
            minloglevel=2,
            num_threads=1,
        )
    pieces = SentencePieceTokenizer.from_folder(folder)
    tokens = replace(KOSMOS_2_TINY.tokens, num_text_tokens=pieces.num_text_tokens)
    text = replace(KOSMOS_2_TINY.text, vocab_size=tokens.vocab_size)
    torch.manual_seed(seed)
    model = Kosmos2(replace(KOSMOS_2_TINY, tokens=tokens, text=text, **changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    checkpoint.save(model, folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a model that was not taught absence."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def absence_model(tmp_path_factory):
    """The folder of one whose configuration says that it was."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "absence", trained_absence=True)


def picture(width=80, height=60, seed=0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


@pytest.fixture
def photo(tmp_path):
    """A picture of 80 x 60 pixels."""
    path = tmp_path / "photo.png"
    picture().save(path)
    return path


@pytest.fixture(name="picture")
def picture_fixture():
    """The function ``picture(width=80, height=60, seed=0)``."""
    return picture


@pytest.fixture
def call(call_app):
    """Run ``multiway-grounding`` with arguments in this process: exit code, standard output, standard error."""
    from multiway_grounding.cli import cli

    return call_app(cli, "multiway-grounding")
