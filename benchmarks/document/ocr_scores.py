"""Scores of one page for one reader, in one box convention, and their summary over pages."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from multiway_document.metrics import (
    box_iou_matched,
    box_iou_union,
    character_edits,
    count_words,
    ned,
    nted,
)
from multiway_document.metrics.word_f1 import WordCounts
from multiway_document.result import Box

from benchmarks.document.ocr_pages import Case

# Of a usual text face in em, the middle of Liberation Serif and Liberation Sans.
ASCENT, DESCENT = 0.90, 0.21
X_TOP, TALL_TOP, TAIL = 0.50, 0.69, 0.21
TALL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789bdfhijklt()[]{}|/\\!?'\"“”‘’`@#$%&*^")
TAILED = frozenset("gjpqyQ,;()[]{}|/@$")

Quad = np.ndarray  # (4, 2) corners clockwise from the text's top left


def corners_of(place: Sequence[Any]) -> Quad:
    """A box [x0, y0, x1, y1] or four corners as four corners."""
    if len(place) == 4 and not isinstance(place[0], list):
        x0, y0, x1, y1 = place
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)
    return np.array(place, np.float64)


def hull(quad: Quad) -> Box:
    (x0, y0), (x1, y1) = quad.min(0), quad.max(0)
    return float(x0), float(y0), float(x1), float(y1)


def ink_extent(text: str) -> tuple[float, float]:
    """How far the ink of a text reaches above and below its base line, in em of a usual face."""
    top = TALL_TOP if TALL.intersection(text) else X_TOP
    return top, TAIL if TAILED.intersection(text) else 0.0


def stretched(quad: Quad, above: float, below: float) -> Quad:
    """The quad with its upper and lower sides moved out by shares of its height, along its own vertical."""
    up = quad[[0, 1]] - quad[[3, 2]]
    return np.concatenate([quad[[0, 1]] + above * up, quad[[2, 3]] - below * up[::-1]])


def ink_to_line(quad: Quad, text: str) -> Quad:
    """From a box close around the ink to one from font ascent to font descent."""
    top, bottom = ink_extent(text)
    height = top + bottom
    return stretched(quad, (ASCENT - top) / height, (DESCENT - bottom) / height)


def line_to_ink(quad: Quad, text: str) -> Quad:
    """The other way round."""
    top, bottom = ink_extent(text)
    height = ASCENT + DESCENT
    return stretched(quad, (top - ASCENT) / height, (bottom - DESCENT) / height)


def score(case: Case, answer: dict[str, Any], own_convention: str) -> dict[str, Any]:
    """Counts and scores of one page. ``own_convention`` is the reader's: ``line`` or ``ink``."""
    texts = [text for text, _ in answer["lines"]]
    quads = [corners_of(place) for _, place in answer["lines"]]
    read, truth = "\n".join(texts), case.text
    if case.ignore_case:
        read, truth = read.upper(), truth.upper()
    edits, characters = character_edits(read, truth)
    words = count_words(read, truth)
    scores: dict[str, Any] = {
        "edits": edits,
        "characters": characters,
        "words": [words.matched, words.predicted, words.expected],
        "ned": ned(read, truth),
    }
    if case.lines is not None:
        expected = [box for _, box in case.lines]
        convert = None
        if own_convention != case.convention:
            convert = ink_to_line if case.convention == "line" else line_to_ink
        for name, change in (("as_given", None), ("converted", convert)):
            changed = [
                change(quad, text) if change else quad for quad, text in zip(quads, texts, strict=True)
            ]
            boxes = [hull(quad) for quad in changed]
            scores[f"iou_union_{name}"] = box_iou_union(boxes, expected)
            scores[f"iou_matched_{name}"] = box_iou_matched(boxes, expected)
        scores["line_edits"], scores["line_characters"] = line_edits(case, texts, quads)
    if case.set == "markdown" and case.markdown is not None and answer.get("markdown") is not None:
        scores["markdown_ned"] = ned(answer["markdown"], case.markdown)
        scores["nted"] = nted(answer["markdown"], case.markdown)
        scores["nted_tags"] = nted(answer["markdown"], case.markdown, with_text=False)
    return scores


def line_edits(case: Case, texts: list[str], quads: list[Quad]) -> tuple[int, int]:
    """Edits and characters line by line, so that the order of lines does not count.

    Every line that was read belongs to the true line that its middle lies in (or nearest to); the pieces of one true
    line are put together from left to right. What lies more than a line's height away from every true line is all
    insertions.
    """
    true_lines = case.upright_lines or case.lines or []
    pieces: list[list[tuple[float, str]]] = [[] for _ in true_lines]
    boxes = np.array([box for _, box in true_lines], np.float64).reshape(-1, 4)
    edits = 0
    for text, quad in zip(texts, quads, strict=True):
        middle = quad.mean(0)
        if case.upright is not None:
            middle = case.upright[:, :2] @ middle + case.upright[:, 2]
        outside_x = np.maximum(0, np.maximum(boxes[:, 0] - middle[0], middle[0] - boxes[:, 2]))
        outside_y = np.abs((boxes[:, 1] + boxes[:, 3]) / 2 - middle[1])
        height = boxes[:, 3] - boxes[:, 1]
        distance = outside_x + outside_y
        nearest = int(distance.argmin()) if len(boxes) else -1
        if nearest < 0 or distance[nearest] > height[nearest]:
            edits += len(text)
        else:
            pieces[nearest].append((float(middle[0]), text))
    characters = 0
    for (truth, _), found in zip(true_lines, pieces, strict=True):
        read = " ".join(text for _, text in sorted(found))
        if case.ignore_case:
            read, truth = read.upper(), truth.upper()
        wrong, length = character_edits(read, truth)
        edits, characters = edits + wrong, characters + length
    return edits, characters


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One reader on one set: rates over pooled counts, means over pages. IOU is that of the convention, as given or
    converted, which favours the reader."""
    scores = [row["scores"] for row in rows]
    words = sum((WordCounts(*score["words"]) for score in scores), WordCounts())
    summary: dict[str, Any] = {
        "pages": len(rows),
        "word_f1": words.f1,
        "ned": statistics.fmean(score["ned"] for score in scores),
        "cer": sum(score["edits"] for score in scores) / max(1, sum(score["characters"] for score in scores)),
        "cpu_seconds": statistics.fmean(row["cpu_seconds"] for row in rows),
        "peak_rss_bytes": max(row["peak_rss_bytes"] for row in rows),
    }
    if all("line_edits" in score for score in scores):
        summary["line_cer"] = sum(score["line_edits"] for score in scores) / max(
            1, sum(score["line_characters"] for score in scores)
        )
        for kind in ("union", "matched"):
            summary[f"iou_{kind}"] = max(
                statistics.fmean(score[f"iou_{kind}_{form}"] for score in scores)
                for form in ("as_given", "converted")
            )
    for key in ("markdown_ned", "nted", "nted_tags"):
        if all(key in score for score in scores):
            summary[key] = statistics.fmean(score[key] for score in scores)
    return summary
