"""Grids, patches, prompts, and what becomes of the tokens that the model writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_document.kosmos2_5.config import (
    KOSMOS_2_5,
    Kosmos25Config,
    TextConfig,
    TokenConfig,
    VisionConfig,
)
from multiway_document.kosmos2_5.processor import (
    ParsedLine,
    Picture,
    Processor,
    batch_pictures,
    grid_size,
    picture_patches,
)
from PIL import Image

TOKENS = TokenConfig(num_text_tokens=96, num_locations=64)


class LetterTokenizer:
    """One token a character: newline, then printable ASCII."""

    def encode(self, text: str) -> list[int]:
        return [TOKENS.first_text + ("\n" + "".join(map(chr, range(32, 127)))).index(c) for c in text]

    def decode(self, ids) -> str:
        letters = "\n" + "".join(map(chr, range(32, 127)))
        return "".join(letters[i - TOKENS.first_text] for i in ids if TOKENS.first_text <= i < TOKENS.mask)


@pytest.fixture(scope="module")
def processor() -> Processor:
    config = Kosmos25Config(
        vision=VisionConfig(max_patches=64),
        text=TextConfig(vocab_size=TOKENS.vocab_size),
        tokens=TOKENS,
        num_queries=8,
    )
    return Processor(config, LetterTokenizer())


# -- grids (height, width) -> rows, columns; an A4 page has one grid whatever its resolution


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1169, 827, (76, 53)),  # A4 at 100, 150 and 300 dpi
        (1754, 1240, (76, 53)),
        (3508, 2480, (76, 53)),
        (1650, 1275, (72, 56)),  # Letter at 150 dpi
        (500, 500, (64, 64)),
        (2400, 600, (128, 32)),  # receipt
        (1080, 1920, (48, 85)),  # slide
        (40, 2000, (9, 452)),  # a strip is scaled up 3.6 times
        (2000, 40, (452, 9)),
        (1, 1, (64, 64)),
        (16, 16, (64, 64)),
        (1, 100_000, (1, 4095)),  # row and column ids must fit the table, which row 0 of padding shares
        (100_000, 1, (4095, 1)),
    ],
)
def test_grid(height: int, width: int, expected: tuple[int, int]) -> None:
    assert grid_size(height, width, 16, 4096) == expected


def test_grids_never_exceed_the_patches() -> None:
    rng = np.random.default_rng(0)
    for height, width in rng.integers(1, 20_000, (500, 2)).tolist():
        for max_patches in (64, 512, 4096):
            rows, columns = grid_size(height, width, 16, max_patches)
            assert rows >= 1
            assert columns >= 1
            assert rows * columns <= max_patches


@pytest.mark.parametrize(("height", "width"), [(1, 1), (40, 2000), (2000, 40), (3, 5)])
@pytest.mark.parametrize("shade", ["constant", "noise"])
def test_degenerate_pictures(height: int, width: int, shade: str) -> None:
    rng = np.random.default_rng(0)
    array = np.full((height, width, 3), 200, np.uint8)
    if shade == "noise":
        array = rng.integers(0, 256, array.shape, dtype=np.uint8)
    picture = picture_patches(array, max_patches=256)
    assert picture.pixels_NP.shape == (picture.rows * picture.columns, 768)
    assert picture.pixels_NP.isfinite().all()
    assert (picture.width, picture.height) == (16 * picture.columns, 16 * picture.rows)
    assert (picture.source_width, picture.source_height) == (width, height)
    patches = batch_pictures([picture], 256)
    assert int(patches.multiplicity_BN.sum()) == 256
    assert int(patches.rows_BN.max()) <= 256 - 1
    assert int(patches.columns_BN.max()) <= 256 - 1


def test_normalised_before_resizing_by_own_mean_and_deviation() -> None:
    array = np.random.default_rng(1).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    pixels = picture_patches(array, max_patches=64).pixels_NP  # exactly 8 x 8 patches: nothing is resized
    assert pixels.mean().item() == pytest.approx(0, abs=1e-4)
    assert pixels.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    value = (array.astype(np.float64) - array.mean()) / array.std()
    torch.testing.assert_close(pixels[9, :3].double(), torch.from_numpy(value[16, 16]), atol=1e-4, rtol=0)


def test_every_mode_of_picture_is_read_as_rgb() -> None:
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8))
    expected = picture_patches(grey, max_patches=64).pixels_NP
    for mode in ("RGB", "RGBA", "L"):
        torch.testing.assert_close(picture_patches(grey.convert(mode), max_patches=64).pixels_NP, expected)
    grey_array = np.asarray(grey)
    torch.testing.assert_close(picture_patches(grey_array, max_patches=64).pixels_NP, expected)


# -- batches


def test_ids_stay_exact_when_pixels_go_to_bfloat16() -> None:
    picture = picture_patches(np.zeros((40, 2000, 3), np.uint8), max_patches=4096)
    assert picture.columns == 452
    low = batch_pictures([picture], 4096).to("cpu", torch.bfloat16)
    assert low.pixels_BNP.dtype == torch.bfloat16
    assert low.columns_BN.dtype == low.rows_BN.dtype == torch.long
    assert low.columns_BN[0, :452].tolist() == list(range(1, 453))
    assert low.multiplicity_BN.sum().item() == 4096  # counts above 256 are not exact in bfloat16 either


def test_batch_counts_padding() -> None:
    small = Picture(torch.ones(6, 768), 2, 3, 48, 32, 48, 32)
    large = Picture(torch.ones(12, 768), 3, 4, 64, 48, 64, 48)
    patches = batch_pictures([small, large], 16)
    assert patches.rows_BN.tolist() == [
        [1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 0],
    ]
    assert patches.columns_BN[0].tolist() == [1, 2, 3, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0]
    assert patches.multiplicity_BN.tolist() == [[1] * 6 + [10] + [0] * 6, [1] * 12 + [4]]
    written_out = batch_pictures([small, large], 16, padded=True)
    assert written_out.multiplicity_BN.tolist() == [[1] * 16] * 2
    assert written_out.rows_BN.shape == (2, 16)
    full = Picture(torch.ones(16, 768), 4, 4, 64, 64, 64, 64)
    assert batch_pictures([full], 16).multiplicity_BN.tolist() == [[1] * 16]


def test_left_padded(processor) -> None:
    assert processor.left_padded([[5, 6, 7], [8]]).tolist() == [[5, 6, 7], [1, 1, 8]]
    assert processor.left_padded([[]]).shape == (1, 0)


# -- prompts


def test_prompts(processor) -> None:
    assert processor.ocr_prompt() == [TOKENS.ocr]
    assert processor.markdown_prompt() == [TOKENS.markdown]


def test_chat_prompt_is_the_published_string(processor) -> None:
    prompt = processor.chat_prompt("  What is the total?\n")
    assert prompt[0] == TOKENS.markdown
    assert processor.tokenizer.decode(prompt) == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: What is the total? ASSISTANT:"
    )


def test_chat_prompt_takes_braces_and_special_words_as_text(processor) -> None:
    question = "What does {question} <ocr> </s> mean?"
    prompt = processor.chat_prompt(question)
    assert f"USER: {question} ASSISTANT:" in processor.tokenizer.decode(prompt)
    assert all(TOKENS.first_text <= token < TOKENS.mask for token in prompt[1:])


# -- lines


def tokens_of(processor: Processor, *lines: ParsedLine) -> list[int]:
    return [token for line in lines for token in processor.line_tokens(line)]


HELLO, WORLD = ParsedLine((1, 2, 30, 14), "Hello"), ParsedLine((1, 20, 63, 34), "<b>World & Co.")


def test_line_format(processor) -> None:
    x, y = TOKENS.x, TOKENS.y
    assert processor.line_tokens(ParsedLine((53, 57, 60, 61), "1")) == [
        TOKENS.box, x(53), y(57), x(60), y(61), TOKENS.box_end, *processor.tokenizer.encode("1\n"),
    ]  # fmt: skip


def test_written_lines_parse_back(processor) -> None:
    tokens = tokens_of(processor, HELLO, WORLD)
    assert processor.parse_lines(tokens) == ([HELLO, WORLD], 0)
    assert processor.parse_lines([*tokens, TOKENS.eos, *tokens]) == ([HELLO, WORLD], 0)
    assert processor.parse_lines([]) == ([], 0)
    assert processor.parse_lines([TOKENS.eos]) == ([], 0)


def test_spans_are_those_of_the_text(processor) -> None:
    tokens = tokens_of(processor, HELLO, WORLD)
    for line, (start, end) in processor.parse_lines_with_spans(tokens):
        assert processor.tokenizer.decode(tokens[start:end]) == line.text + "\n"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t[1:],  # no <bbox>
        lambda t: t[:5] + t[6:],  # no </bbox>
        lambda t: t[:2] + t[3:],  # three locations
        lambda t: t[:2] + [t[2]] + t[2:],  # five
        lambda t: [t[0], t[2], t[1], *t[3:]],  # y before x
        lambda t: [t[0], TOKENS.ocr, *t[2:]],  # a marker that is no location
        lambda t: [*t[:6], *LetterTokenizer().encode(" \n")],  # no text
        lambda t: t[:6],  # cut off behind the box
        lambda t: t[:3],  # cut off within it
    ],
)
def test_a_malformed_line_is_left_out_and_counted(processor, spoil) -> None:
    spoilt = spoil(processor.line_tokens(HELLO))
    assert processor.parse_lines(spoilt) == ([], 1)
    assert processor.parse_lines([*processor.line_tokens(WORLD), *spoilt]) == ([WORLD], 1)


def test_text_before_the_first_box_is_left_out(processor) -> None:
    tokens = processor.tokenizer.encode("so ") + processor.line_tokens(HELLO)
    assert processor.parse_lines(tokens) == ([HELLO], 1)


def test_2000_random_sequences_never_raise(processor) -> None:
    rng = np.random.default_rng(0)
    usual = np.array(
        [TOKENS.box, TOKENS.box_end, TOKENS.x(3), TOKENS.y(4), TOKENS.x(9), TOKENS.y(9), 10, 20, 4]
    )
    found = 0
    for case in range(2000):
        length = rng.integers(0, 40)
        if case % 2:
            tokens = rng.choice(usual, length).tolist()
        else:
            tokens = rng.integers(0, TOKENS.vocab_size, length).tolist()
        if case % 4 == 1:  # a good line somewhere in the noise
            at = rng.integers(0, length + 1)
            tokens[at:at] = processor.line_tokens(HELLO)
        lines, malformed = processor.parse_lines(torch.tensor(tokens) if case % 3 else tokens)
        found += len(lines)
        assert malformed >= 0
        for line in lines:
            assert line.text == line.text.strip() != ""
            assert all(0 <= place < TOKENS.num_locations for place in line.box)
    assert found > 100


def test_boxes_go_to_pixels_of_the_source(processor) -> None:
    # Resized 848 x 1216 (A4), source 2480 x 3508: each axis has a factor of its own.
    picture = Picture(torch.zeros(0), 76, 53, 848, 1216, 2480, 3508)
    line = processor.to_source(ParsedLine((53, 57, 424, 608), "x"), picture, confidence=0.5)
    assert line.box == pytest.approx((53 / 848 * 2480, 57 / 1216 * 3508, 1240, 1754))
    assert (line.text, line.confidence) == ("x", 0.5)


def test_boxes_are_clipped_to_the_source(processor) -> None:
    picture = Picture(torch.zeros(0), 2, 2, 32, 32, 100, 50)
    assert processor.to_source(ParsedLine((0, 0, 60, 40), "x"), picture).box == (0, 0, 100, 50)


def test_location_step_counts_in_both_directions() -> None:
    tokens = TokenConfig(num_text_tokens=96, num_locations=64, location_step=4)
    config = Kosmos25Config(text=TextConfig(vocab_size=tokens.vocab_size), tokens=tokens)
    processor = Processor(config, LetterTokenizer())
    picture = Picture(torch.zeros(0), 16, 16, 256, 256, 256, 256)
    for pixel in (0, 4, 100, 252):
        index = processor.location(pixel)
        assert processor.to_source(ParsedLine((index,) * 4, "x"), picture).box[0] == pixel
    assert processor.location(-5.0) == 0
    assert processor.location(10_000) == 63


# -- markdown


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("# Title\n\n\n\ntext", "# Title\n\ntext"),
        ("a<br>b<br><br><br>c", "a\nb\n\nc"),
        ("  one  \n   \n two ", "one\n\ntwo"),
        ("\n\n- x\n- y\n\n", "- x\n- y"),
        ("", ""),
    ],
)
def test_markdown_is_cleaned_as_by_the_authors(processor, written: str, expected: str) -> None:
    assert processor.markdown(processor.tokenizer.encode(written)) == expected


def test_newline_tokens(processor) -> None:
    assert processor.newline_tokens == [TOKENS.first_text]


def test_published_prompt_leaves_room_for_a_page() -> None:
    assert KOSMOS_2_5.text.max_positions - (KOSMOS_2_5.num_queries + 3) - 1 == 2044
