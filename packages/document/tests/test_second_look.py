"""What a second look at a page tells: unread lines, lines cut in two, another order, an unknown script."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_document.draft import Draft
from multiway_document.ppocr.recogniser import CropReading
from multiway_document.second_look import (
    UNKNOWN_SCRIPT,
    UNREAD,
    as_prepared,
    disagreement,
    disorder,
    is_unread,
    page_flags,
    uncovered,
)
from multiway_document.segmentation import prepare

Place = tuple[float, float, float, float]


def quads_of(boxes: list[Place]) -> np.ndarray:
    return np.array([[[a, b], [c, b], [c, d], [a, d]] for a, b, c, d in boxes], np.float32)


LINES: list[Place] = [(50, 30.0 * row, 450, 30.0 * row + 20) for row in range(1, 13)]


def test_a_page_that_was_read_as_it_is_seen_has_nothing_to_tell() -> None:
    quads = quads_of(LINES)
    assert (uncovered(quads, LINES), disagreement(quads, LINES), disorder(quads, LINES)) == ([], 0.0, 0.0)


def test_a_line_that_was_not_read_is_counted() -> None:
    assert uncovered(quads_of(LINES), LINES[:5] + LINES[6:]) == [5]
    assert len(uncovered(quads_of(LINES), [])) == len(LINES)
    assert uncovered(quads_of([(5, 5, 15, 25)]), []) == []  # a speck is no line


def test_lines_cut_in_two_disagree() -> None:
    halves = [half for a, b, c, d in LINES for half in ((a, b, 240.0, d), (260.0, b, c, d))]
    assert uncovered(quads_of(LINES), halves) == []
    assert disagreement(quads_of(LINES), halves) == 1.0


def test_columns_read_across_are_out_of_order() -> None:
    right = [(a + 450, b, c + 450, d) for a, b, c, d in LINES]
    across = [box for pair in zip(LINES, right, strict=True) for box in pair]
    quads = quads_of(across)
    assert disorder(quads, LINES + right) == 0.0
    assert disorder(quads, across) > 0.2


def test_text_too_short_for_its_line_is_unread() -> None:
    (quad,) = quads_of([(0, 0, 400, 20)])
    assert is_unread(quad, "")
    assert is_unread(quad, "a , b")
    assert not is_unread(quad, "forty letters are what a line like this has")
    assert not is_unread(quads_of([(0, 0, 20, 20)])[0], "")


def test_flags_of_a_page() -> None:
    assert page_flags([("some words", 0.99)] * 5, 0) == ()
    assert page_flags([("some words", 0.99)] * 5, 1) == (UNREAD,)
    assert page_flags([("x", 0.9)], 4) == (UNREAD, UNKNOWN_SCRIPT)
    assert page_flags([("gibberish", 0.7)] * 4, 0) == (UNKNOWN_SCRIPT,)
    assert page_flags([], 0) == ()


def test_a_second_look_is_turned_as_the_page_was() -> None:
    picture = np.full((300, 200), 255, np.uint8)
    picture[40:60, 20:180] = 0
    turned = np.ascontiguousarray(np.rot90(picture))
    seen, scale = as_prepared(turned, prepare(turned, 3), 150)
    rows = np.flatnonzero((seen[..., 0] < 100).mean(axis=1) > 0.5) / scale
    assert scale == pytest.approx(0.5)
    assert (rows.min(), rows.max()) == pytest.approx((40, 59), abs=4)


def test_lines_of_a_draft_are_known_where_they_are_detected() -> None:
    quads = quads_of(LINES)
    readings = [CropReading(f"line {row}", 0.99, ()) for row in range(len(LINES))]
    draft = Draft(quads.astype(np.float64), readings, 0)
    assert [draft[quad + 2] for quad in quads] == readings
    assert draft[quads[0] + (0, 12)] is None
    assert draft[quads[0] + (40, 0)] is None
    assert Draft(np.zeros((0, 4, 2)), [], None)[quads[0]] is None
