"""The decoder and the line reader on cropped lines: drafts change nothing, and the likelier text wins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_core.generation import GenerationConfig, generate
from multiway_core.tokenization import TextTokenizer
from multiway_document.alphabet import ALPHABET
from multiway_document.kosmos2_5.config import Kosmos25Config, TextConfig, TokenConfig, VisionConfig
from multiway_document.kosmos2_5.line_reader import (
    LINE_HEIGHT,
    line_patches,
    line_prompt,
    read_lines,
)
from multiway_document.kosmos2_5.line_writer import DISPUTED, MAX_EXTRA_CHARACTERS, LineWriter
from multiway_document.kosmos2_5.objective import Reader
from multiway_document.kosmos2_5.tokenizer import model_tokenizer, train_small_tokenizer
from multiway_document.line_reading import LineReading

TOKENS = TokenConfig(num_text_tokens=len(ALPHABET) + 1, num_locations=64, location_step=2)
CONFIG = Kosmos25Config(
    vision=VisionConfig(
        hidden_size=32, num_layers=1, num_heads=2, head_dim=16, inner_size=48, max_patches=32
    ),
    text=TextConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        inner_size=48,
        vocab_size=TOKENS.vocab_size,
        max_positions=200,
        dropout=0.0,
    ),
    tokens=TOKENS,
    num_queries=6,
)
WIDTHS = [20, 90, 48, 96, 33]


@pytest.fixture(scope="module")
def reader() -> Reader:
    reader = Reader(CONFIG)
    reader.reset_parameters(seed=3)
    with torch.no_grad():  # so that what is written depends on what is seen
        for parameter in reader.kosmos.text.decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
        reader.line_reader.scores.weight.mul_(4)
    return reader.eval()


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return model_tokenizer(
        train_small_tokenizer(["abc"], TOKENS.num_text_tokens), TOKENS, first_id=TOKENS.first_text
    )


def lines(widths: list[int]) -> list[np.ndarray]:
    return [
        np.random.default_rng(width).integers(0, 256, (LINE_HEIGHT, width), dtype=np.uint8)
        for width in widths
    ]


@torch.inference_mode()
def plainly_written(reader: Reader, tokenizer: TextTokenizer, line: np.ndarray, limit: int) -> str:
    """The decoder's greedy text of one line, token by token."""
    model = reader.kosmos
    patches, _ = line_patches([line])
    embeddings = model.embed_images(patches.padded(CONFIG.vision.max_patches))
    prompt = torch.tensor([line_prompt(TOKENS, line.shape[1])])
    cache = model.text.new_cache(1, CONFIG.num_queries + 3 + prompt.shape[1] + limit)
    ends = (tokenizer.encode("\n")[0], TOKENS.eos)
    config = GenerationConfig(max_new_tokens=limit, eos_token_ids=ends, pad_token_id=TOKENS.pad)
    output = generate(model.text.decode, model.prefill(embeddings, prompt, cache), cache, config)
    return tokenizer.decode(output.tokens[0].tolist())


def test_the_decoder_alone_writes_what_plain_decoding_writes(reader, tokenizer) -> None:
    pictures = lines(WIDTHS)
    drafts = read_lines(reader.kosmos.vision, reader.line_reader, pictures)
    written = LineWriter(reader.kosmos, reader.line_reader, tokenizer, check=False)(pictures)
    limit = max(len(draft.text) for draft in drafts) + MAX_EXTRA_CHARACTERS
    for picture, reading in zip(pictures, written, strict=True):
        assert reading.text == plainly_written(reader, tokenizer, picture, limit)
        assert 0 <= reading.confidence <= 1
    assert len({reading.text for reading in written}) > 1


def test_the_checked_text_is_one_of_the_two(reader, tokenizer) -> None:
    pictures = lines(WIDTHS)
    drafts = read_lines(reader.kosmos.vision, reader.line_reader, pictures)
    written = LineWriter(reader.kosmos, reader.line_reader, tokenizer, check=False)(pictures)
    checked = LineWriter(reader.kosmos, reader.line_reader, tokenizer)(pictures)
    for draft, own, chosen in zip(drafts, written, checked, strict=True):
        assert chosen.text in (draft.text, own.text)
        assert chosen.flags == (DISPUTED,)  # two untrained readers do not agree


def test_the_likelier_text_wins(reader, tokenizer) -> None:
    writer = LineWriter(reader.kosmos, reader.line_reader, tokenizer)
    logits_TK = torch.zeros(6, len(ALPHABET) + 1)
    a, b = ALPHABET.index("a") + 1, ALPHABET.index("b") + 1
    logits_TK[1, a] = logits_TK[3, b] = 9.0  # the line reader sees "ab"
    logits_TK[[0, 2, 4, 5], 0] = 9.0
    right, wrong = LineReading("ab", 0.9), LineReading("ax", 0.9)
    assert writer._merge(right, wrong, -3.0, -1.0, logits_TK, 6).text == "ab"
    assert writer._merge(right, wrong, -60.0, -1.0, logits_TK, 6).text == "ax"
    assert (
        writer._merge(right, LineReading("ab" * 4, 0.9), -3.0, -1.0, logits_TK, 6).text == "ab"
    )  # does not fit


def test_lines_wider_than_the_queries_are_left_to_the_line_reader(reader, tokenizer) -> None:
    pictures = lines([200, 40])
    drafts = read_lines(reader.kosmos.vision, reader.line_reader, pictures[:1])
    assert LineWriter(reader.kosmos, reader.line_reader, tokenizer)(pictures)[0].text == drafts[0].text


def test_no_lines(reader, tokenizer) -> None:
    assert LineWriter(reader.kosmos, reader.line_reader, tokenizer)([]) == []
