"""MIND's `behaviors.tsv`: one impression a row, read in blocks by array operations.

A row is `impression id, user, time, history, candidates`, separated by TABs, without header or quoting; ids inside a
column are separated by blanks, a candidate is `N45-1` (clicked), `N45-0` (not clicked) or, where labels are withheld,
`N45`. Rows that are plainly good are read a block at a time (`mind_blocks`); every other row goes through
`mind_rows`, which alone decides what is wrong with it. Both ways give the same arrays (tested on random and on damaged
rows).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.data.bad_rows import BadRows, Problem, RowLog, excerpt
from multiway_recsys.data.ids import IdTable, padded
from multiway_recsys.data.lines import BLOCK_BYTES, Block, read_blocks
from multiway_recsys.data.mind_blocks import FastRows, fast_rows, line_spans
from multiway_recsys.data.mind_rows import NEWS_ID, Row, RowParser
from multiway_recsys.data.tables import Behaviors, News, Ragged


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
    log = RowLog(Path(path), skip_bad_rows=skip_bad_rows)
    reader = _Reader(news, log, allow_unknown=allow_unknown, users=users, id_pattern=id_pattern)
    parts = list(reader.parts(Path(path), BLOCK_BYTES))
    behaviors = reader.join(parts)
    return behaviors, log.finish()


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
    log = RowLog(Path(path), skip_bad_rows=skip_bad_rows)
    reader = _Reader(news, log, allow_unknown=allow_unknown, users=users, id_pattern=id_pattern)
    for part in reader.parts(Path(path), block_bytes):
        yield reader.join([part])
    log.finish()


@dataclass
class _Part:
    """The rows of one block, in their order."""

    impressions: list[str]
    users: NDArray[np.int32]
    times: NDArray[np.int64]
    histories: Ragged
    candidates: Ragged
    labels: NDArray[np.int8] | None


class _Numbering(dict[str, int]):
    """Numbers names as they are asked for."""

    def __missing__(self, name: str) -> int:
        number = self[name] = len(self)
        return number


class _Reader:
    def __init__(
        self,
        news: News,
        log: RowLog,
        *,
        allow_unknown: bool,
        users: tuple[str, ...] | None,
        id_pattern: str,
    ) -> None:
        self._log = log
        self._parser = RowParser(news, log, allow_unknown=allow_unknown, id_pattern=id_pattern)
        self._table = IdTable(news.ids)
        self._users = _Numbering((name, row) for row, name in enumerate(users or ()))
        self._seen: set[str] = set()  # impression ids
        self._labelled: bool | None = None  # None: no row told yet

    def parts(self, path: Path, block_bytes: int) -> Iterator[_Part]:
        for block in read_blocks(path, block_bytes=block_bytes):
            buffer = padded(block.data)
            starts, ends = line_spans(buffer, is_cut=block.is_cut)
            fast = fast_rows(buffer, starts, ends, self._table, is_ascii=block.data.isascii())
            self._log.rows += len(starts)
            text = block.data.decode("latin-1")  # a character a byte; the parts of fast rows are ASCII
            names = list(map(slice, starts[fast.rows].tolist(), fast.first_tab.tolist()))
            impressions = list(map(text.__getitem__, names))
            names = list(map(slice, (fast.first_tab + 1).tolist(), fast.second_tab.tolist()))
            users = list(map(text.__getitem__, names))
            part = self._plain_part(fast, impressions, users) if len(fast.rows) == len(starts) else None
            yield part or self._mixed_part(block, starts, ends, fast, impressions, users)

    def _plain_part(self, fast: FastRows, impressions: list[str], users: list[str]) -> _Part | None:
        """All rows are fast ones, and fit each other and the rows before; else None."""
        labelled = bool(fast.labelled[0])
        if (fast.labelled != labelled).any() or self._labelled not in (None, labelled):
            return None
        new = set(impressions)
        if len(new) < len(impressions) or not self._seen.isdisjoint(new):
            return None
        self._labelled = labelled
        self._seen |= new
        numbers = np.fromiter(map(self._users.__getitem__, users), np.int32, len(users))
        labels = fast.labels if labelled else None
        return _Part(impressions, numbers, fast.times, fast.histories, fast.candidates, labels)

    def _mixed_part(
        self,
        block: Block,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        fast: FastRows,
        impressions: list[str],
        users: list[str],
    ) -> _Part:
        """Row by row in their order, so that in a strict reading the first bad row is the one that is named."""
        place = np.full(len(starts), -1, np.int64)
        place[fast.rows] = np.arange(len(fast.rows))
        kept_fast: list[int] = []  # places in `fast`
        slow: list[Row] = []
        order: list[int] = []  # of the kept rows: place in `fast`, or -1 - place in `slow`
        names: list[str] = []
        numbers: list[int] = []
        for row, at in enumerate(place.tolist()):
            line = block.first_line + row
            parsed: Row | None = None
            if at >= 0:
                impression, user, labelled = impressions[at], users[at], bool(fast.labelled[at])
            else:
                raw = block.data[starts[row] : ends[row]]
                result = self._parser.parse(line, raw, is_cut=block.is_cut and row == len(starts) - 1)
                if isinstance(result, Problem):
                    self._log.reject(line, result)
                    continue
                parsed = result
                impression, user, labelled = parsed.impression, parsed.user, parsed.labels is not None
            problem = self._conflict(impression, labelled)
            if problem is not None:
                self._log.reject(line, problem)
                continue
            self._labelled = labelled
            self._seen.add(impression)
            names.append(impression)
            numbers.append(self._users[user])
            if parsed is None:
                order.append(len(kept_fast))
                kept_fast.append(at)
            else:
                order.append(-1 - len(slow))
                slow.append(parsed)
        return _merged(fast, kept_fast, slow, order, names, numbers, bool(self._labelled))

    def _conflict(self, impression: str, labelled: bool) -> Problem | None:
        """What does not go with the rows before."""
        if impression in self._seen:
            return Problem(
                "repeated impression",
                1,
                f"impression id {excerpt(impression)} was there before; expected a different one in every row",
            )
        if self._labelled not in (None, labelled):
            have = (
                "has labels, the rows before have none" if labelled else "has no labels, the rows before have"
            )
            return Problem(
                "mixed labels",
                1,
                f'impressions: the row {have}; expected "N45-1 N12-0" everywhere or nowhere',
            )
        return None

    def join(self, parts: list[_Part]) -> Behaviors:
        """One table of all parts; `parts` is emptied on the way, so that memory holds little twice."""
        ids = tuple(chain.from_iterable(part.impressions for part in parts))
        users = _joined([part.users for part in parts], np.int32)
        times = _joined([part.times for part in parts], np.int64)
        labels = None
        if self._labelled is not False:
            labels = _joined([part.labels for part in parts if part.labels is not None], np.int8)
        histories = _joined_rows([part.histories for part in parts])
        for part in parts:
            part.histories = _NO_ROWS
        candidates = _joined_rows([part.candidates for part in parts])
        parts.clear()
        return Behaviors(ids, users, tuple(self._users), times, histories, candidates, labels)


def _merged(
    fast: FastRows,
    kept_fast: list[int],
    slow: list[Row],
    order: list[int],
    names: list[str],
    numbers: list[int],
    labelled: bool,
) -> _Part:
    chosen = np.asarray(kept_fast, np.int64)
    places = np.asarray(order, np.int64)
    places = np.where(places < 0, len(chosen) - 1 - places, places)
    times = np.concatenate([fast.times[chosen], np.array([row.time for row in slow], np.int64)])

    def both(from_fast: Ragged, from_slow: list[list[int]]) -> Ragged:
        return _joined_rows([from_fast.take(chosen), Ragged.from_rows(from_slow)]).take(places)

    labels = None
    if labelled:
        of_fast = Ragged(fast.labels.astype(np.int32), fast.candidates.offsets)
        labels = both(of_fast, [row.labels or [] for row in slow]).values.astype(np.int8)
    return _Part(
        impressions=names,
        users=np.array(numbers, np.int32),
        times=times[places],
        histories=both(fast.histories, [row.history for row in slow]),
        candidates=both(fast.candidates, [row.candidates for row in slow]),
        labels=labels,
    )


_NO_ROWS = Ragged(np.zeros(0, np.int32), np.zeros(1, np.int64))


def _joined(parts: list[NDArray], dtype: type) -> NDArray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _joined_rows(parts: list[Ragged]) -> Ragged:
    if not parts:
        return _NO_ROWS
    values = np.concatenate([part.values for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
