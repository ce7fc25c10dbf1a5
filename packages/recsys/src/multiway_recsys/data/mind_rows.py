"""Strict parser of one row of MIND's `behaviors.tsv`, with exact error messages.

This is the definition that the block reader of `mind_blocks` is tested against, and what it leaves every row to that is
not plainly good.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from multiway_recsys.data import mind_times
from multiway_recsys.data.bad_rows import Problem, RowLog, excerpt
from multiway_recsys.data.lines import utf8_column
from multiway_recsys.data.tables import NO_NEWS, News

NEWS_ID = "N[0-9]+"
COLUMNS = ("impression id", "user id", "time", "history", "impressions")


class Row(NamedTuple):
    """A good row; news as row numbers, `labels` None where the candidates have none."""

    impression: str
    user: str
    time: int
    history: list[int]
    candidates: list[int]
    labels: list[int] | None


class RowParser:
    """Parses rows against `news`; remarks (a row is good, but has unknown news) go to `log`."""

    def __init__(self, news: News, log: RowLog, *, allow_unknown: bool, id_pattern: str) -> None:
        self._id = re.compile(id_pattern)
        self._rows = {name: row for row, name in enumerate(news.ids) if name}
        self._log = log
        self._allow_unknown = allow_unknown
        self._id_pattern = id_pattern

    def parse(self, line: int, raw: bytes, *, is_cut: bool) -> Row | Problem:
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
                if not self._allow_unknown:
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
            self._log.remark(line, remark)
        return Row(impression, user, seconds, clicked, candidates, None if labels[0] < 0 else labels)

    def _candidate(self, token: str) -> tuple[str, int | None]:
        """News id and label: 0 or 1, -1 where there is none, None where it is something else."""
        name, dash, label = token.rpartition("-")
        if dash and name and label in ("0", "1"):
            return name, int(label)
        if dash and self._id.fullmatch(name) and not self._id.fullmatch(token):
            return name, None
        return token, -1

    def _bad_id(self, place: str, column: int, token: str) -> Problem:
        expected = "N and digits" if self._id_pattern == NEWS_ID else f"what matches {self._id_pattern}"
        return Problem("news id", column, f"{place}: {excerpt(token)} is no news id; expected {expected}")


def _tokens(text: str) -> Iterator[tuple[int, str]]:
    """Words separated by blanks, each with the place where it begins."""
    at = 0
    for word in text.split(" "):
        if word:
            yield at, word
        at += len(word) + 1


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
