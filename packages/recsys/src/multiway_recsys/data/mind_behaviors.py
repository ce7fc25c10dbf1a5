"""MIND's `behaviors.tsv`: one impression a row, read in blocks by array operations.

A row is `impression id, user, time, history, candidates`, separated by TABs, without header or quoting; ids inside a
column are separated by blanks, a candidate is `N45-1` (clicked), `N45-0` (not clicked) or, where labels are withheld,
`N45`. Rows that are plainly good are read a block at a time; every other row goes through `_parse_row`, which alone
decides what is wrong with it. Both ways give the same arrays (tested on random and on damaged rows).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.data import mind_times
from multiway_recsys.data.bad_rows import BadRows, Problem, RowLog, excerpt
from multiway_recsys.data.ids import IdTable, padded
from multiway_recsys.data.lines import BLOCK_BYTES, Block, read_blocks, utf8_column
from multiway_recsys.data.tables import NO_NEWS, Behaviors, News, Ragged

NEWS_ID = "N[0-9]+"
COLUMNS = ("impression id", "user id", "time", "history", "impressions")
_TAB, _FEED, _RETURN, _BLANK, _DASH, _ZERO = (np.uint8(ord(c)) for c in "\t\n\r -0")


def read_behaviors(
    path: Path,
    news: News,
    *,
    skip_bad_rows: bool = False,
    allow_unknown: bool = False,
    users: tuple[str, ...] | None = None,
    id_pattern: str = NEWS_ID,
) -> tuple[Behaviors, BadRows]:
    """All impressions of `path` in the order of the file.

    A history may be empty and may repeat news; news of a history that `news` does not have become row 0 and are
    counted as remarks. Rows need not be in the order of time.

    Args:
        path: a `behaviors.tsv`, labelled or not (then `labels` is None); LF or CRLF, with or without byte order mark.
        news: what the ids mean.
        skip_bad_rows: leave bad rows out and count them; more than 1 % of them is an error still.
        allow_unknown: a candidate that `news` does not have becomes row 0 rather than an error.
        users: known users; their numbers stay, new ones come behind.
        id_pattern: regular expression of a news id.

    Raises:
        DataError: the file cannot be read; or a row is bad: names file, line, character and what was expected.
    """
    reader = _Reader(Path(path), news, skip_bad_rows, allow_unknown, users, id_pattern)
    parts = list(reader.blocks(BLOCK_BYTES))
    behaviors = reader.join(parts)
    return behaviors, reader.log.finish()


def stream_behaviors(
    path: Path,
    news: News,
    *,
    skip_bad_rows: bool = False,
    allow_unknown: bool = False,
    users: tuple[str, ...] | None = None,
    id_pattern: str = NEWS_ID,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Behaviors]:
    """The impressions of `read_behaviors` in pieces, for logs larger than memory.

    What stays in memory is one block, the user ids, and the impression ids (to find repeated ones; about 100 bytes a
    row). `user_ids` of a piece holds the users met so far.

    Raises DataError as `read_behaviors`, the share of skipped rows after the last piece.
    """
    reader = _Reader(Path(path), news, skip_bad_rows, allow_unknown, users, id_pattern)
    for part in reader.blocks(block_bytes):
        yield reader.join([part])
    reader.log.finish()


class _Row(NamedTuple):
    impression: str
    user: str
    time: int
    history: list[int]
    candidates: list[int]
    labels: list[int] | None


@dataclass
class _Part:
    """The rows of one block, in their order."""

    impressions: list[str]
    users: NDArray[np.int32]
    times: NDArray[np.int64]
    histories: Ragged
    candidates: Ragged
    labels: NDArray[np.int8] | None


@dataclass
class _Reader:
    path: Path
    news: News
    skip_bad_rows: bool
    allow_unknown: bool
    users: tuple[str, ...] | None
    id_pattern: str
    log: RowLog = field(init=False)
    labelled: bool | None = field(default=None, init=False)  # None: no row told yet

    def __post_init__(self) -> None:
        self.log = RowLog(self.path, skip_bad_rows=self.skip_bad_rows)
        self._id = re.compile(self.id_pattern)
        self._table = IdTable(self.news.ids)
        self._rows = {name: row for row, name in enumerate(self.news.ids) if name}
        self._users = {name: row for row, name in enumerate(self.users or ())}
        self._seen: set[str] = set()

    def blocks(self, block_bytes: int) -> Iterator[_Part]:
        for block in read_blocks(self.path, block_bytes=block_bytes):
            yield self._read_block(block)

    def join(self, parts: list[_Part]) -> Behaviors:
        """One table of all parts; `parts` is emptied on the way, so that memory holds little twice."""
        ids = tuple(name for part in parts for name in part.impressions)
        users = _joined([part.users for part in parts], np.int32)
        times = _joined([part.times for part in parts], np.int64)
        labels = None
        if self.labelled is not False:
            labels = _joined([part.labels for part in parts if part.labels is not None], np.int8)
        histories = _joined_rows([part.histories for part in parts])
        for part in parts:
            part.histories = _NO_ROWS
        candidates = _joined_rows([part.candidates for part in parts])
        parts.clear()
        return Behaviors(ids, users, tuple(self._users), times, histories, candidates, labels)

    def _read_block(self, block: Block) -> _Part:
        buffer = padded(block.data)
        size = len(block.data)
        feeds = np.flatnonzero(buffer[:size] == _FEED)
        starts = np.concatenate([[0], feeds + 1])
        ends = np.concatenate([feeds, [size]])
        if not block.is_cut:
            starts, ends = starts[:-1], ends[:-1]
        ends = ends - ((ends > starts) & (buffer[ends - 1] == _RETURN))
        fast = _fast_rows(buffer, starts, ends, self._table, block.data.isascii())
        self.log.rows += len(starts)

        # Slow rows first: they may be bad, and the first bad row of the file is the one to name. A fast row can be
        # bad in two ways only, a repeated impression id and labels where others have none, seen to in order below.
        part_users = np.zeros(len(starts), np.int32)
        times = np.zeros(len(starts), np.int64)
        times[fast.rows] = fast.times
        impressions = [""] * len(starts)
        keep = np.ones(len(starts), np.bool_)
        is_fast = np.zeros(len(starts), np.bool_)
        is_fast[fast.rows] = True
        has_labels = np.zeros(len(starts), np.bool_)
        has_labels[fast.rows] = fast.labelled
        first_tab = np.zeros(len(starts), np.int64)
        second_tab = np.zeros(len(starts), np.int64)
        first_tab[fast.rows], second_tab[fast.rows] = fast.first_tab, fast.second_tab
        slow: list[_Row] = []
        slow_rows: list[int] = []
        data, seen, users = block.data, self._seen, self._users
        columns = zip(
            starts.tolist(), ends.tolist(), first_tab.tolist(), second_tab.tolist(), is_fast.tolist(),
            has_labels.tolist(), strict=True,
        )  # fmt: skip
        for row, (start, end, tab, next_tab, is_good, labelled) in enumerate(columns):
            line = block.first_line + row
            parsed = None
            if is_good:
                impression = data[start:tab].decode("ascii")
                user = data[tab + 1 : next_tab].decode("ascii")
            else:
                cut = block.is_cut and row == len(starts) - 1
                result = self._parse_row(line, data[start:end], is_cut=cut)
                if isinstance(result, Problem):
                    self.log.reject(line, result)
                    keep[row] = False
                    continue
                parsed = result
                impression, user, labelled = parsed.impression, parsed.user, parsed.labels is not None
            problem = None
            if impression in seen:
                problem = Problem(
                    "repeated impression", 1, f"impression id {excerpt(impression)} was there before; expected a "
                    "different one in every row"
                )  # fmt: skip
            elif labelled != self.labelled and self.labelled is not None:
                have = (
                    "has labels, the rows before have none"
                    if labelled
                    else "has no labels, the rows before have"
                )
                problem = Problem(
                    "mixed labels",
                    1,
                    f'impressions: the row {have}; expected "N45-1 N12-0" everywhere or nowhere',
                )
            if problem is not None:
                self.log.reject(line, problem)
                keep[row] = False
                continue
            self.labelled = labelled
            seen.add(impression)
            impressions[row] = impression
            part_users[row] = users.setdefault(user, len(users))
            if parsed is not None:
                slow.append(parsed)
                slow_rows.append(row)
                times[row] = parsed.time
        return self._assemble(fast, slow, slow_rows, keep, impressions, part_users, times)

    def _assemble(
        self,
        fast: _FastRows,
        slow: list[_Row],
        slow_rows: list[int],
        keep: NDArray[np.bool_],
        impressions: list[str],
        users: NDArray[np.int32],
        times: NDArray[np.int64],
    ) -> _Part:
        labels: NDArray[np.int8] | None = fast.labels if self.labelled else None
        histories, candidates = fast.histories, fast.candidates
        kept = np.flatnonzero(keep[fast.rows])
        if slow or len(kept) < len(fast.rows):
            if self.labelled:
                flat = Ragged(fast.labels.astype(np.int32), fast.candidates.offsets)
                slow_labels = Ragged.from_rows([row.labels or [] for row in slow])
                labels = _merged(flat, slow_labels, fast.rows, slow_rows, keep).values.astype(np.int8)
            histories = _merged(
                histories, Ragged.from_rows([row.history for row in slow]), fast.rows, slow_rows, keep
            )
            candidates = _merged(
                candidates, Ragged.from_rows([row.candidates for row in slow]), fast.rows, slow_rows, keep
            )
            impressions = [impressions[row] for row in np.flatnonzero(keep)]
            users, times = users[keep], times[keep]
        return _Part(impressions, users, times, histories, candidates, labels)

    def _parse_row(self, line: int, raw: bytes, *, is_cut: bool) -> _Row | Problem:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            return Problem("encoding", utf8_column(raw), "not UTF-8; expected UTF-8 text (convert the file)")
        parts = text.split("\t")
        if len(parts) != len(COLUMNS):
            end = ", and the file ends without a line end here (cut off?)" if is_cut else ""
            return Problem(
                "columns",
                1,
                f"{_count(len(parts), 'column')} in {excerpt(text)}{end}; expected {len(COLUMNS)} separated by TABs: "
                f"{', '.join(COLUMNS)}",
            )
        columns = [1]
        for part in parts[:-1]:
            columns.append(columns[-1] + len(part) + 1)
        impression, user, time, history, shown = parts
        for place, name in ((0, impression), (1, user)):
            if not name or not name.isprintable() or name != name.strip() or " " in name:
                return Problem(
                    f"{COLUMNS[place]}",
                    columns[place],
                    f"{COLUMNS[place]} {excerpt(name)}; expected one word",
                )
        seconds = mind_times.parse_time(time)
        if seconds is None:
            return Problem("time", columns[2], f"time {excerpt(time)}; expected {mind_times.EXPECTED}")
        clicked: list[int] = []
        remarks: list[Problem] = []
        for at, token in _tokens(history):
            row = self._rows.get(token)
            if row is None:
                if not self._id.fullmatch(token):
                    return self._bad_id("history", columns[3] + at, token)
                remarks.append(
                    Problem(
                        "unknown in history", columns[3] + at, f"history: {excerpt(token)} is not in the news"
                    )
                )
                row = NO_NEWS
            clicked.append(row)
        candidates: list[int] = []
        labels: list[int] = []
        for at, token in _tokens(shown):
            name, label = self._candidate(token)
            if label is None:
                return Problem(
                    "label", columns[4] + at, f'impressions: label of {excerpt(token)}; expected "-0" or "-1"'
                )
            row = self._rows.get(name)
            if row is None:
                if not self._id.fullmatch(name):
                    return self._bad_id("impressions", columns[4] + at, token)
                unknown = Problem(
                    "unknown candidate", columns[4] + at, f"impressions: {excerpt(name)} is not in the news; "
                    "expected an id of the news table (or unknown ones allowed)"
                )  # fmt: skip
                if not self.allow_unknown:
                    return unknown
                remarks.append(unknown)
                row = NO_NEWS
            if labels and (label < 0) != (labels[-1] < 0):
                return Problem(
                    "mixed labels",
                    columns[4] + at,
                    f"impressions: {excerpt(token)} {'without' if label < 0 else 'with'} a label, the one before "
                    f"{'with' if label < 0 else 'without'}; expected a label for all or for none",
                )
            candidates.append(row)
            labels.append(label)
        if not candidates:
            end = " (the file ends without a line end here: cut off?)" if is_cut else ""
            return Problem(
                "no candidates", columns[4], f"impressions: empty{end}; expected at least one news"
            )
        for remark in remarks:
            self.log.remark(line, remark)
        return _Row(impression, user, seconds, clicked, candidates, None if labels[0] < 0 else labels)

    def _candidate(self, token: str) -> tuple[str, int | None]:
        """News id and label: 0 or 1, -1 where there is none, None where it is something else."""
        name, dash, label = token.rpartition("-")
        if dash and name and label in ("0", "1"):
            return name, int(label)
        if dash and self._id.fullmatch(name) and not self._id.fullmatch(token):
            return name, None
        return token, -1

    def _bad_id(self, place: str, column: int, token: str) -> Problem:
        expected = "N and digits" if self.id_pattern == NEWS_ID else f"what matches {self.id_pattern}"
        return Problem("news id", column, f"{place}: {excerpt(token)} is no news id; expected {expected}")


class _FastRows(NamedTuple):
    """What was read of the rows (of a block) in which nothing is out of the ordinary."""

    rows: NDArray[np.int64]  # (F,) places in the block, ascending
    first_tab: NDArray[np.int64]  # (F,)
    second_tab: NDArray[np.int64]  # (F,)
    times: NDArray[np.int64]  # (F,)
    histories: Ragged  # F rows
    candidates: Ragged  # F rows
    labels: NDArray[np.int8]  # one a candidate; 0 where a row has none
    labelled: NDArray[np.bool_]  # (F,)


def _fast_rows(
    buffer: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    table: IdTable,
    is_ascii: bool,
) -> _FastRows:
    size = len(buffer) - 8
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
    return _FastRows(
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


def _merged(
    fast: Ragged, slow: Ragged, fast_rows: NDArray[np.int64], slow_rows: list[int], keep: NDArray[np.bool_]
) -> Ragged:
    """Rows of both in the order of the block, those not to keep left out."""
    both = Ragged(
        np.concatenate([fast.values, slow.values]),
        np.concatenate([fast.offsets, fast.offsets[-1] + slow.offsets[1:]]),
    )
    places = np.concatenate([fast_rows, np.asarray(slow_rows, np.int64)])
    order = np.argsort(places, kind="stable")
    return both.take(order[keep[places[order]]])


def _tokens(text: str) -> Iterator[tuple[int, str]]:
    """Words separated by blanks, each with the place where it begins."""
    at = 0
    for word in text.split(" "):
        if word:
            yield at, word
        at += len(word) + 1


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


_NO_ROWS = Ragged(np.zeros(0, np.int32), np.zeros(1, np.int64))


def _joined(parts: list[NDArray], dtype: type) -> NDArray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _joined_rows(parts: list[Ragged]) -> Ragged:
    if not parts:
        return _NO_ROWS
    values = np.concatenate([part.values for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
