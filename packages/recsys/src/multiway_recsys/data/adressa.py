"""Adressa, the log of a Norwegian newspaper (NTNU, Adresseavisen): JSON objects, one an event and line, a file a day.

Of an event are read: `userId`, `time` (seconds since 1970), the article's `id` (or `documentId`), and what is told of
it: `title`, `category1` (`nyheter|trondheim`: category and subcategory) and `publishtime`.
Events without an article (front pages) are no clicks, and counted as remarks. There are no impressions; `clicks` makes
them. Entities of the full edition's `profile` are not read: they have no WikiData ids.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.errors import DataError

from multiway_recsys.data.bad_rows import BadRows, Problem, RowLog, excerpt
from multiway_recsys.data.catalogue import Catalogue, reader_ids
from multiway_recsys.data.clicks import ClickLog, sort_clicks
from multiway_recsys.data.lines import read_lines, utf8_column
from multiway_recsys.data.tables import UNKNOWN_TIME


def read_clicks(source: Path, *, skip_bad_rows: bool = False) -> tuple[ClickLog, tuple[BadRows, ...]]:
    """All clicks on articles, in the order of time.

    Args:
        source: one file of events, or a folder of them (hidden files are left out).
        skip_bad_rows: leave bad lines out and count them; more than 1 % of a file is an error still.

    Raises:
        DataError: a file cannot be read or a line is bad; names file, line and character.
    """
    source = Path(source)
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
        if not files:
            raise DataError(f"{source} holds no file; expected Adressa's files of events, one a day")
    else:
        files = [source]
    catalogue = Catalogue()
    readers: dict[str, int] = {}
    users: list[int] = []
    items: list[int] = []
    times: list[int] = []
    notes = []
    for path in files:
        log = RowLog(path, skip_bad_rows=skip_bad_rows)
        for number, raw, is_cut in read_lines(path):
            if not raw.strip():
                continue
            log.rows += 1
            event = _event(raw, is_cut=is_cut)
            if isinstance(event, Problem):
                log.reject(number, event)
                continue
            if event is None:
                log.remark(number, Problem("no article", 1, "an event without an article's id; no click"))
                continue
            user, article, time, details = event
            users.append(readers.setdefault(user, len(readers)))
            items.append(catalogue.row(article, **details))
            times.append(time)
        notes.append(log.finish())
    news, original = catalogue.news()
    names = reader_ids(list(readers))
    clicks = sort_clicks(
        news, np.array(users, np.int32), names, np.array(items, np.int32), np.array(times, np.int64), original
    )
    return clicks, tuple(notes)


def _event(raw: bytes, *, is_cut: bool) -> tuple[str, str, int, dict[str, Any]] | Problem | None:
    """User, article, time and what is told of the article; None for an event that is no click on an article."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return Problem("encoding", utf8_column(raw), "not UTF-8; expected UTF-8 text (convert the file)")
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        column = error.colno if isinstance(error, json.JSONDecodeError) else 1
        end = ", and the file ends without a line end here (cut off?)" if is_cut else ""
        return Problem(
            "JSON", column, f"{excerpt(text)} is no JSON{end}; expected one event, an object, a line"
        )
    if not isinstance(event, dict):
        return Problem("JSON", 1, f"{excerpt(text)}; expected one event, an object, a line")
    article = _text(event.get("id")) or _text(event.get("documentId"))
    if not article:
        return None
    user, time = _text(event.get("userId")), event.get("time")
    if not user:
        return Problem("user", 1, f'no "userId" in {excerpt(text)}; expected the reader of the article')
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < 1e11:
        return Problem("time", 1, f'"time" {excerpt(json.dumps(time))}; expected seconds since 1970')
    category, _, subcategory = _text(event.get("category1")).partition("|")
    details = {
        "title": _text(event.get("title")),
        "category": category,
        "subcategory": subcategory,
        "published": _moment(_text(event.get("publishtime"))),
    }
    return user, article, int(time), details


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def _moment(text: str) -> int:
    try:
        date = datetime.fromisoformat(text)
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return UNKNOWN_TIME
