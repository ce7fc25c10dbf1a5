from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from multiway_document.hallucination_filter import is_stray_reading
from multiway_document.pipeline import OcrPipeline
from multiway_document.segmentation import find_lines, lies_sideways, prepare
from PIL import Image, ImageDraw, ImageFont

ROWS = (
    "the quick brown fox jumps over a lazy dog",
    "while seventeen pages of plain English text",
    "with commas and some Capitals go through",
    "nobody expects anything but a few letters",
)


@cache
def reader() -> OcrPipeline:
    return OcrPipeline.from_pretrained("bundled:ocr-small")


def page() -> np.ndarray:
    image = Image.new("L", (700, 460), 255)
    draw = ImageDraw.Draw(image)
    for i, text in enumerate(ROWS * 2):
        draw.text((60, 40 + 50 * i), text, font=ImageFont.load_default(26), fill=0)
    return np.asarray(image).copy()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_pages_on_their_side_and_upside_down_are_read_and_boxes_lead_back(turns):
    straight = reader()(page(), engine="fast")
    turned = reader()(np.ascontiguousarray(np.rot90(page(), turns)), engine="fast")
    assert [line.text for line in turned.lines] == [line.text for line in straight.lines]
    height, width = page().shape
    for line, expected in zip(turned.lines, straight.lines, strict=True):
        x0, y0, x1, y1 = line.box
        back = {
            0: (x0, y0, x1, y1),
            1: (width - y1, x0, width - y0, x1),
            2: (width - x1, height - y1, width - x0, height - y0),
            3: (y0, height - x1, y1, height - x0),
        }[turns]
        assert np.abs(np.subtract(back, expected.box)).max() < 3


def test_a_column_of_figures_does_not_lie_sideways():
    image = Image.new("L", (300, 900), 255)
    for i in range(20):
        ImageDraw.Draw(image).text((60, 30 + 42 * i), f"{i * 37}.50", font=ImageFont.load_default(26), fill=0)
    prepared = prepare(np.asarray(image))
    assert not lies_sideways(find_lines(prepared), prepared.x_height)


@pytest.mark.parametrize(
    ("text", "confidence", "size", "mark", "stray"),
    [
        ("Total 12.50", 0.95, 1.0, False, False),
        ("Total 12.5O", 0.55, 1.0, False, False),  # hard to read, but like a line: it is kept and flagged
        ("A Title", 0.97, 2.4, False, False),
        ('Rt]a4"{', 0.61, 2.5, False, True),  # handwriting
        ("√", 0.34, 1.0, False, True),
        ("8XX18588* 5KX5K", 0.3, 1.0, False, True),  # a row of ornaments
        ("-", 0.9, 1.0, True, False),
        ("r", 0.7, 1.0, True, True),
        ("", 1.0, 1.0, False, True),
    ],
)
def test_stray_readings(text, confidence, size, mark, stray):
    region = SimpleNamespace(x_height=10.0 * size, mark=mark)
    assert is_stray_reading(text, confidence, region, 10.0) is stray


def test_a_dash_alone_in_a_cell_is_read():
    image = Image.new("L", (700, 400), 255)
    draw = ImageDraw.Draw(image)
    for row in range(7):
        for column, text in enumerate((f"Item number {row}", f"{row}.50", f"{row * 1234}")):
            cell = "-" if (row, column) == (3, 1) else text
            draw.text((60 + 230 * column, 40 + 46 * row), cell, font=ImageFont.load_default(26), fill=0)
    texts = [line.text for line in reader()(np.asarray(image), engine="fast").lines]
    assert len(texts) == 21
    assert texts[10] in ("-", "–", "—")
