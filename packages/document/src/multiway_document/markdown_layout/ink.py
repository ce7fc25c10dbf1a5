"""Font weight and slant of words, and rules, measured in the page image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import cv2
import numpy as np

from multiway_document.markdown_layout.rows import PlacedWord, Row
from multiway_document.rendering.markdown_tree import Style
from multiway_document.segmentation import PreparedPage

_SEED = {"code": 1.11, "bold": 1.25, "italic": 0.10}
_GROWN = {"code": 1.07, "bold": 1.14, "italic": 0.06}
"""How far a word must stand out to begin a run of a style, and to go on with one beside it: width over what its
letters take on this page, stroke width over the usual, lean (tangent) above the usual. Set on rendered pages so
that fewer than one regular word in 300 begins a run."""

_MIN_SEED_LETTERS = 4
_SAME_ADVANCE, _MOST = 0.03, 0.5
_HEAVIER_THAN_CODE = 1.35  # bold letters are wider too

_THIN = frozenset("iljtfrI.,:;'!|()[]{}-/` ")
_STYLES: dict[tuple[bool, bool], Style] = {
    (False, False): "regular", (True, False): "bold", (False, True): "italic", (True, True): "bold_italic",
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A horizontal line drawn on the page."""

    x0: float
    x1: float
    y: float


def find_rules(prepared: PreparedPage) -> list[Rule]:
    """Straight horizontal lines longer than 12 x-heights, from top to bottom."""
    x = prepared.x_height
    dark = (prepared.grey < 215).astype(np.uint8)
    # One row above and below makes up for the last tenth of a degree of skew.
    runs = cv2.morphologyEx(
        cv2.dilate(dark, np.ones((3, 1), np.uint8)),
        cv2.MORPH_OPEN,
        np.ones((1, max(3, round(12 * x))), np.uint8),
    )
    count, _, stats, _ = cv2.connectedComponentsWithStats(runs, connectivity=8)
    rules = []
    for left, top, width, height, _ in stats[1:count]:
        if height <= 0.8 * x + 3:
            rules.append(Rule(float(left), float(left + width), float(top + height / 2)))
    return sorted(rules, key=lambda rule: rule.y)


def measure_words(rows: Sequence[Row], prepared: PreparedPage) -> list[list[tuple[float, float]]]:
    """(stroke width in x-heights, slant) of every word of every row.

    Stroke width is ink over the ink's vertical edges, which is the mean length of its horizontal runs and needs
    no threshold. Slant is the regression of the vertical on the horizontal derivative along steep edges.
    """
    grey = prepared.grey.astype(np.float32)
    result = []
    for row in rows:
        x = row.x_height
        # Only the small letters' band: capitals and ascenders would make a word look heavier.
        top, bottom = max(0, round(row.baseline - 1.05 * x)), min(len(grey), round(row.baseline + 1))
        measures = []
        for word in row.words:
            window = grey[top:bottom, max(0, int(word.x0) - 1) : int(word.x1) + 2]
            if min(window.shape) < 3:
                measures.append((0.0, 0.0))
                continue
            across = np.diff(window, axis=1)[1:-1]
            edges = float(np.abs(across).sum()) / 2
            ink = float((255 - window[1:-1]).sum())
            dx = window[1:-1, 2:] - window[1:-1, :-2]
            dy = window[2:, 1:-1] - window[:-2, 1:-1]
            steep = np.abs(dx) > 1.5 * np.abs(dy)
            energy = float((dx[steep] ** 2).sum())
            slant = float((dx[steep] * dy[steep]).sum()) / energy if energy else 0.0
            measures.append((ink / edges / x if edges else 0.0, slant))
        result.append(measures)
    return result


def letter_widths(words: Sequence[PlacedWord]) -> dict[str, float]:
    """The width of each character in the face of most of the ``words``, by ridge regression, in pixels."""
    signs = sorted({sign for word in words for sign in word.text})
    place = {sign: k for k, sign in enumerate(signs)}
    counts = np.zeros((len(words), len(signs)))
    for k, word in enumerate(words):
        for sign in word.text:
            counts[k, place[sign]] += 1
    widths = np.array([word.x1 - word.x0 for word in words])
    shape = np.array([0.5 if sign in _THIN else 1.5 if sign in "mwMW@—" else 1.3 if sign.isupper() else 1.0
                      for sign in signs])  # fmt: skip
    kept = np.ones(len(words), bool)
    solution = shape
    for _ in range(3):  # words in other faces are left out of the next round
        used, target = counts[kept], widths[kept]
        scale = float(target.sum() / max(1e-6, (used @ shape).sum()))
        prior = scale * shape
        system = used.T @ used + 2.0 * np.eye(len(signs))
        solution = prior + np.linalg.solve(system, used.T @ (target - used @ prior))
        error = np.abs(np.log(widths / np.maximum(counts @ solution, 1.0)))
        kept = error < 0.08
        if kept.sum() < 0.5 * len(words):
            break
    return dict(zip(signs, solution.tolist(), strict=True))


def set_styles(rows: Sequence[Row], prepared: PreparedPage, body: Sequence[Row], *, monospaced: bool) -> None:
    """Mark the words that are heavier, more slanted or set on wider letters than the ``body`` rows' (in place).

    On a page of a ``monospaced`` face code looks like the rest.
    """
    measures = measure_words(rows, prepared)
    normal = {id(row) for row in body}
    usual = [
        (word, *measure)
        for row, line in zip(rows, measures, strict=True)
        if id(row) in normal
        for word, measure in zip(row.words, line, strict=True)
        if len(word.text) > 2
    ]
    if len(usual) < 20:
        return
    monospaced = monospaced or len(usual) < 100  # too few words to learn the letters' widths from
    stroke = float(np.median([own for _, own, _ in usual]))
    slant = float(np.median([own for _, _, own in usual]))
    body_x = float(np.median([row.x_height for row in body]))
    widths = letter_widths([word for word, _, _ in usual])
    advances = _code_advances(rows, normal, widths)
    for row, line in zip(rows, measures, strict=True):
        in_body = id(row) in normal and not monospaced
        code = [
            (word.x1 - word.x0) / max(1.0, sum(widths.get(sign, body_x) for sign in word.text))
            if in_body
            else 1.0
            for word in row.words
        ]
        is_code = _in_company(row.words, _runs(row.words, code, "code"), advances)
        bold = _runs(row.words, [own / stroke for own, _ in line], "bold")
        italic = _runs(row.words, [own - slant for _, own in line], "italic")
        for k, word in enumerate(row.words):
            heavy = bold[k] and line[k][0] > _HEAVIER_THAN_CODE * stroke
            word.style = "code" if is_code[k] and not heavy else _STYLES[bold[k], italic[k]]


def _advance(word: PlacedWord) -> float:
    """Pixels from one letter to the next, if the word is monospaced: its ink lacks the white of one letter."""
    return (word.x1 - word.x0) / (len(word.text) - 0.15)


def _code_advances(rows: Sequence[Row], body: Set[int], widths: Mapping[str, float]) -> np.ndarray:
    """The advances, sorted, of all words of the ``body`` rows (their ids) that are wide enough to begin code."""
    found = [
        _advance(word)
        for row in rows
        if id(row) in body
        for word in row.words
        if _begins(
            word.text,
            (word.x1 - word.x0) / max(1.0, sum(widths.get(sign, 1.0) for sign in word.text)),
            "code",
        )
    ]
    return np.sort(found)


def _in_company(words: Sequence[PlacedWord], chosen: Sequence[bool], advances: np.ndarray) -> list[bool]:
    """The ``chosen`` runs whose words all stand at one advance, which most wide words of the page have too.

    Monospaced words of a page are of one face and size. A word that was read wrong is as wide by chance.
    """
    kept = [False] * len(words)
    start = 0
    while start < len(words):
        end = start
        while end < len(words) and chosen[end]:
            end += 1
        long = [_advance(word) for word in words[start:end] if len(word.text) >= _MIN_SEED_LETTERS]
        if long:
            middle = float(np.median(long))
            even = max(abs(advance / middle - 1) for advance in long) < _SAME_ADVANCE
            near = int(np.count_nonzero(np.abs(advances / middle - 1) < _SAME_ADVANCE))
            kept[start:end] = [bool(even) and near >= max(2, _MOST * len(advances))] * (end - start)
        start = max(end, start + 1)
    return kept


def _begins(text: str, score: float, style: str) -> bool:
    """Whether a word is clearly in a style, and long enough to tell."""
    letters = sum(map(str.isalnum, text))
    if letters < _MIN_SEED_LETTERS or score <= _SEED[style]:
        return False
    if style == "code":  # a letter that was not read makes a word look wider by its share
        return score > 1 + 1.3 / letters
    return sum(map(str.islower, text)) >= 3  # capitals and digits have strokes of their own


def _runs(words: Sequence[PlacedWord], scores: Sequence[float], style: str) -> list[bool]:
    """Which words are in the style: clear ones, and those beside them that are less clear."""
    chosen = [_begins(word.text, score, style) for word, score in zip(words, scores, strict=True)]
    for order in (range(1, len(words)), range(len(words) - 2, -1, -1)):
        step = -1 if order.step > 0 else 1
        for k in order:
            chosen[k] = chosen[k] or (chosen[k + step] and scores[k] > _GROWN[style])
    return chosen
