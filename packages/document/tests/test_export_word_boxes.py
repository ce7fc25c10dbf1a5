"""Word boxes: reference widths, order on the page, and the snap to gaps between ink."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_document.export.direction import is_right_to_left, visual_order, visual_text
from multiway_document.export.reference_font import advance, text_width
from multiway_document.export.word_boxes import PageInk, split_line
from multiway_document.result import Line, Page
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 800, 80


def test_reference_widths_are_helveticas() -> None:
    assert [advance(c) for c in " A1il|m@"] == [278, 667, 556, 222, 222, 260, 833, 1015]
    assert advance("é") == advance("e")
    assert advance("中") == advance("😀") == 1000
    assert advance("\u0301") == advance("\u200b") == 0
    assert text_width("Ab c") == 667 + 556 + 278 + 500


def test_direction() -> None:
    assert is_right_to_left("123 שלום") is True
    assert is_right_to_left("(a שלום") is False
    assert is_right_to_left("12.5 %") is None
    assert visual_order(["a", "b", "1"]) == [0, 1, 2]
    assert visual_order(["א", "ב", "12"]) == [2, 1, 0]
    assert visual_order(["א", "hello", "world", "ב"]) == [3, 1, 2, 0]  # English inside Hebrew keeps its order
    assert visual_order(["see", "א", "ב", "here"]) == [0, 2, 1, 3]
    assert visual_order([]) == []
    assert visual_text("abc") == "abc"
    assert visual_text("אבג") == "גבא"
    assert visual_text("א-12") == "12-א"


def test_split_in_proportion() -> None:
    words = split_line(Line("ll mm", (100, 10, 300, 30), 0.7))
    scale = 200 / (2 * 222 + 278 + 2 * 833)
    assert [word.text for word in words] == ["ll", "mm"]
    assert words[0].box == pytest.approx((100, 10, 100 + 444 * scale, 30))
    assert words[1].box == pytest.approx((300 - 1666 * scale, 10, 300, 30))
    assert {word.confidence for word in words} == {0.7}


def test_split_of_nothing_and_of_one_word() -> None:
    box = (1.0, 2.0, 3.0, 4.0)
    assert split_line(Line(" \t ", box, 1.0)) == []
    (word,) = split_line(Line("  x ", box, 1.0))
    assert (word.text, word.box) == ("x", box)


def test_right_to_left_words_start_at_the_right() -> None:
    first, second = split_line(Line("שלום ab", (0, 0, 100, 10), 1.0))
    assert (first.text, first.box[2]) == ("שלום", 100)
    assert (second.text, second.box[0]) == ("ab", 0)
    assert second.box[2] < first.box[0]


def drawn(
    text: str, size: int, dark: int = 0, light: int = 255, noise: float = 0.0
) -> tuple[Image.Image, Line, list[tuple[float, float]]]:
    """A picture of justified text with uneven gaps, its line, and the words' true (x0, x1)."""
    font = ImageFont.load_default(size)
    image = Image.new("L", (WIDTH, HEIGHT), light)
    draw = ImageDraw.Draw(image)
    left, truth = 20.0, []
    for i, word in enumerate(text.split()):
        draw.text((left, 20), word, font=font, fill=dark)
        box = draw.textbbox((left, 20), word, font=font)
        truth.append((box[0], box[2]))
        left += font.getlength(word) + size * (0.35, 0.9, 0.5)[i % 3]
    box = (truth[0][0], 20.0, truth[-1][1], 20.0 + 1.2 * size)
    line = Line(text, box, 1.0)
    if noise:
        grey = np.asarray(image) + np.random.default_rng(0).normal(0, noise, (HEIGHT, WIDTH))
        image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    return image, line, truth


@pytest.mark.parametrize("size", [14, 20, 30])
@pytest.mark.parametrize(("dark", "light", "noise"), [(0, 255, 0), (40, 220, 10), (235, 30, 0)])
def test_borders_snap_to_gaps(size: int, dark: int, light: int, noise: float) -> None:
    image, line, truth = drawn("Willing ill MMM, it is WWW. 1111 ok", size, dark, light, noise)
    ink = PageInk(Page(0, WIDTH, HEIGHT, ()), image)
    snapped = np.array([word.box for word in split_line(line, ink)])[:, [0, 2]]
    guessed = np.array([word.box for word in split_line(line)])[:, [0, 2]]
    tolerance = 0.2 * size  # the font's bearings stand in the true boxes
    assert np.abs(snapped - truth).max() <= tolerance
    assert np.abs(guessed - truth).max() > tolerance  # else this shows nothing


def test_snap_on_a_picture_of_another_size() -> None:
    image, line, truth = drawn("Willing ill MMM, it is WWW.", 30)
    half = image.resize((WIDTH // 2, HEIGHT // 2))
    snapped = np.array([w.box for w in split_line(line, PageInk(Page(0, WIDTH, HEIGHT, ()), half))])[
        :, [0, 2]
    ]
    assert np.abs(snapped - truth).max() <= 6


@pytest.mark.parametrize("kind", ["blank", "underlined", "outside"])
def test_without_clear_gaps_the_proportions_stay(kind: str) -> None:
    image, line, _ = drawn("Willing ill MMM, it is WWW.", 20)
    draw = ImageDraw.Draw(image)
    if kind == "blank":
        image = Image.new("L", (WIDTH, HEIGHT), 200)
    elif kind == "underlined":
        draw.line((0, 36, WIDTH, 36), fill=0, width=3)
    else:
        line = Line(line.text, (900, 500, 1200, 520), 1.0)
    ink = PageInk(Page(0, WIDTH, HEIGHT, ()), image)
    assert split_line(line, ink) == split_line(line)


def test_words_never_overlap_or_leave_the_line() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 2, (HEIGHT, WIDTH), dtype=np.uint8) * 255)
    ink = PageInk(Page(0, WIDTH, HEIGHT, ()), image)
    for _ in range(50):
        line = Line(
            "a bb ccc dddd e", (rng.uniform(0, 300), 3, rng.uniform(310, 800), rng.uniform(5, 60)), 1.0
        )
        edges = [x for word in split_line(line, ink) for x in (word.box[0], word.box[2])]
        assert edges == sorted(edges)
        assert (edges[0], edges[-1]) == (line.box[0], line.box[2])
