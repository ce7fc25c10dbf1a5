"""Vectorised parser of the well-formed rows of a block of MIND's `behaviors.tsv`.

Nothing is decided here about other rows: they are left out, and `mind_rows` reads them one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.data import mind_times
from multiway_recsys.data.ids import PADDING, IdTable
from multiway_recsys.data.mind_rows import COLUMNS
from multiway_recsys.data.tables import Ragged

_TAB, _FEED, _RETURN, _BLANK, _DASH, _ZERO = (np.uint8(ord(c)) for c in "\t\n\r -0")


def line_spans(buffer: NDArray[np.uint8], *, is_cut: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each line begins, and where it ends without its LF or CRLF; `is_cut`: the last has no line end."""
    size = len(buffer) - PADDING
    feeds = np.flatnonzero(buffer[:size] == _FEED)
    starts = np.concatenate([[0], feeds + 1])
    ends = np.concatenate([feeds, [size]])
    if not is_cut:
        starts, ends = starts[:-1], ends[:-1]
    return starts, ends - ((ends > starts) & (buffer[ends - 1] == _RETURN))


class FastRows(NamedTuple):
    """What was read of the rows (of a block) in which nothing is out of the ordinary."""

    rows: NDArray[np.int64]  # (F,) places in the block, ascending
    first_tab: NDArray[np.int64]  # (F,)
    second_tab: NDArray[np.int64]  # (F,)
    times: NDArray[np.int64]  # (F,)
    histories: Ragged  # F rows
    candidates: Ragged  # F rows
    labels: NDArray[np.int8]  # one a candidate; 0 where a row has none
    labelled: NDArray[np.bool_]  # (F,)


def fast_rows(
    buffer: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    table: IdTable,
    is_ascii: bool,
) -> FastRows:
    """The rows in which nothing is out of the ordinary.

    Args:
        buffer: a block of whole lines with `PADDING` bytes behind it.
        starts, ends: its lines (see `line_spans`).
        table: row numbers of the news ids.
        is_ascii: whether the block is ASCII throughout; if not, its lines with other characters are left out.
    """
    size = len(buffer) - PADDING
    tabs = np.flatnonzero(buffer[:size] == _TAB)
    blanks = np.flatnonzero(buffer[:size] == _BLANK)
    before = np.searchsorted(tabs, starts)
    rows = np.flatnonzero(np.searchsorted(tabs, ends) - before == len(COLUMNS) - 1)
    if not is_ascii and rows.size:
        foreign = np.concatenate([[0], np.cumsum(buffer[:size] >= 128)])
        rows = rows[foreign[ends[rows]] == foreign[starts[rows]]]
    starts, ends = starts[rows], ends[rows]
    tab_0, tab_1, tab_2, tab_3 = (tabs[before[rows] + i] for i in range(4)) if rows.size else [starts] * 4
    times, good = mind_times.parse_times(buffer, tab_1 + 1, tab_2)

    # Impression and user id: not empty, and no blank inside (the time, with its two, lies behind them).
    good &= (tab_0 > starts) & (tab_1 > tab_0 + 1)
    good &= np.searchsorted(blanks, starts) == np.searchsorted(blanks, tab_1)
    # Any other control character is left to the slow way.
    control = (buffer[:size] < 32) & (buffer[:size] != _TAB) & (buffer[:size] != _FEED)
    control = np.flatnonzero(control | (buffer[:size] == 127))
    if control.size:
        good &= np.searchsorted(control, starts) == np.searchsorted(control, ends)
    good &= ends > tab_3 + 1  # candidates

    history = _token_spans(blanks, tab_2 + 1, tab_3)
    clicked = table.rows(buffer, history.starts, history.ends - history.starts)
    good &= history.all_of(clicked > 0)

    shown = _token_spans(blanks, tab_3 + 1, ends)
    lengths = shown.ends - shown.starts
    digit = buffer[np.maximum(shown.ends - 1, 0)] - _ZERO
    suffix = (lengths > 2) & (buffer[np.maximum(shown.ends - 2, 0)] == _DASH) & (digit < 2)
    labels = np.where(suffix, digit, 0).astype(np.int8)
    candidates = table.rows(buffer, shown.starts, lengths - 2 * suffix)
    good &= shown.all_of(candidates > 0)
    labelled = shown.all_of(suffix)
    good &= labelled | shown.all_of(~suffix)

    chosen = np.flatnonzero(good)
    histories = Ragged(clicked, history.offsets)
    shown_rows = Ragged(candidates, shown.offsets)
    if len(chosen) < len(good):
        labels = Ragged(labels, shown.offsets).take(chosen).values  # type: ignore[arg-type,assignment]
        histories, shown_rows = histories.take(chosen), shown_rows.take(chosen)
    return FastRows(
        rows[chosen],
        tab_0[chosen],
        tab_1[chosen],
        times[chosen],
        histories,
        shown_rows,
        labels,
        labelled[chosen],
    )


class _Spans(NamedTuple):
    """Where the words of one column of every row begin and end."""

    starts: NDArray[np.int64]  # (words,)
    ends: NDArray[np.int64]  # (words,)
    offsets: NDArray[np.int64]  # (rows + 1,)

    def all_of(self, truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether `truth` (one a word) holds for all words of a row; true for a row without words."""
        false = np.concatenate([[0], np.cumsum(~truth)])
        return false[self.offsets[1:]] == false[self.offsets[:-1]]


def _token_spans(blanks: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> _Spans:
    """Words between single blanks; a surplus blank gives an empty word, which is no id and so not fast."""
    first, last = np.searchsorted(blanks, starts), np.searchsorted(blanks, ends)
    counts = np.where(ends > starts, last - first + 1, 0)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    filled = counts > 0
    word_starts = np.empty(offsets[-1], np.int64)
    word_ends = np.empty(offsets[-1], np.int64)
    inner = np.zeros(len(blanks) + 1, np.int64)
    inner[first[filled & (last > first)]] += 1
    inner[last[filled & (last > first)]] -= 1
    between = blanks[np.cumsum(inner)[:-1] > 0]
    is_first = np.zeros(offsets[-1], np.bool_)
    is_first[offsets[:-1][filled]] = True
    is_last = np.zeros(offsets[-1], np.bool_)
    is_last[offsets[1:][filled] - 1] = True
    word_starts[is_first], word_starts[~is_first] = starts[filled], between + 1
    word_ends[is_last], word_ends[~is_last] = ends[filled], between
    return _Spans(word_starts, word_ends, offsets)
