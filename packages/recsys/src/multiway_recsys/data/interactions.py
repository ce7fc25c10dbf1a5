"""Click logs of any portal, CSV or Parquet: one row a click, with columns `user`, `item` and `time`.

What is known of an item may stand in the same rows or in a second file with a row an item: `title`, `abstract`,
`category`, `subcategory`, `published`. Columns of other names are named by the caller. `clicks` makes impressions of
the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from multiway_core.errors import DataError, InputError, os_reason
from numpy.typing import NDArray

from multiway_recsys.data.bad_rows import BadRows, Problem, RowLog, excerpt
from multiway_recsys.data.catalogue import Catalogue, reader_ids
from multiway_recsys.data.clicks import ClickLog, sort_clicks
from multiway_recsys.data.mind_times import parse_time
from multiway_recsys.data.tables import UNKNOWN_TIME

LOG_COLUMNS = ("user", "item", "time")
ITEM_COLUMNS = ("title", "abstract", "category", "subcategory", "published")
EXPECTED_TIME = "seconds or milliseconds since 1970, or a date such as 2024-05-01T12:30:00"
_NUMBER = re.compile(r"[0-9]{1,13}(\.[0-9]*)?")
_MILLISECONDS = 100_000_000_000  # from here on (the year 5138 in seconds) a number is taken for milliseconds


def read_clicks(
    path: Path,
    items: Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
) -> tuple[ClickLog, tuple[BadRows, ...]]:
    """A log, sorted by time (rows of one moment keep their order).

    Args:
        path: CSV (comma, semicolon or TAB; quoted as usual; with a header) or Parquet with user, item and time of a
            click a row. Times are seconds or milliseconds since 1970, or ISO dates, which are UTC if they name no zone.
        items: a second file of the same kinds with a row an item: `item` and any of `title`, `abstract`, `category`,
            `subcategory`, `published`. The log may have these columns too.
        columns: our name -> name in the files, for columns that are called otherwise.
        skip_bad_rows: leave rows without user, item or readable time out and count them; more than 1 % is an error.

    Raises:
        DataError: a file cannot be read, lacks a column, or has a bad row; names file and row (the first is 1).
    """
    names = dict(columns or {})
    unknown = set(names) - {*LOG_COLUMNS, *ITEM_COLUMNS}
    if unknown:
        raise InputError(
            f"no column is called {sorted(unknown)[0]!r} here; expected one of {', '.join(LOG_COLUMNS + ITEM_COLUMNS)}"
        )
    catalogue = Catalogue()
    notes = []
    if items is not None:
        notes.append(_add_items(Path(items), names, catalogue, skip_bad_rows=skip_bad_rows))
    table = _read_table(Path(path), names, LOG_COLUMNS)
    log = RowLog(Path(path), skip_bad_rows=skip_bad_rows)
    log.rows = len(table)
    times, good = _times(table["time"])
    users, item_names = _texts(table["user"]), _texts(table["item"])
    told: dict[str, Any] = {name: _texts(table[name]) for name in ITEM_COLUMNS[:-1] if name in table.columns}
    published = _times(table["published"])[0] if "published" in table.columns else None
    readers: dict[str, int] = {}
    kept: list[int] = []
    rows: list[int] = []
    who: list[int] = []
    for row, (user, item) in enumerate(zip(users, item_names, strict=True)):
        if not user or not item or not good[row]:
            log.reject(row + 1, _bad_click(user, item, table["time"][row]))
            continue
        moment = int(published[row]) if published is not None else UNKNOWN_TIME
        rows.append(catalogue.row(item, published=moment, **_row_of(told, row)))
        who.append(readers.setdefault(user, len(readers)))
        kept.append(row)
    notes.append(log.finish())
    news, original = catalogue.news()
    clicks = sort_clicks(
        news,
        np.array(who, np.int32),
        reader_ids(list(readers)),
        np.array(rows, np.int32),
        times[kept],
        original,
    )
    return clicks, tuple(notes)


def _add_items(path: Path, names: dict[str, str], catalogue: Catalogue, *, skip_bad_rows: bool) -> BadRows:
    table = _read_table(path, names, ("item",))
    log = RowLog(path, skip_bad_rows=skip_bad_rows)
    log.rows = len(table)
    told: dict[str, Any] = {name: _texts(table[name]) for name in ITEM_COLUMNS[:-1] if name in table.columns}
    if not told:
        raise DataError(
            f"{path} tells nothing of its items; expected one of the columns {', '.join(ITEM_COLUMNS)}"
        )
    published = _times(table["published"])[0] if "published" in table.columns else None
    for row, item in enumerate(_texts(table["item"])):
        if not item:
            log.reject(row + 1, Problem("item", 1, "no item; expected its id"))
            continue
        moment = int(published[row]) if published is not None else UNKNOWN_TIME
        catalogue.row(item, published=moment, **_row_of(told, row))
    return log.finish()


def _row_of(columns: dict[str, list[str]], row: int) -> dict[str, Any]:
    return {name: texts[row] for name, texts in columns.items()}


def _bad_click(user: str, item: str, time: object) -> Problem:
    if not user:
        return Problem("user", 1, "no user; expected an id")
    if not item:
        return Problem("item", 1, "no item; expected an id")
    return Problem("time", 1, f"time {excerpt(str(time))}; expected {EXPECTED_TIME}")


def _read_table(path: Path, names: dict[str, str], needed: tuple[str, ...]) -> pl.DataFrame:
    if not path.is_file():
        raise DataError(f"cannot read {path}: no such file")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pl.read_parquet(path)
        else:
            table = pl.read_csv(path, separator=_separator(path), infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"cannot read {path}: {reason}; expected CSV with a header, or Parquet") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # polars's own faults on damaged files; not an Exception
            raise
        raise DataError(
            f"cannot read {path}: the file is damaged; expected CSV with a header, or Parquet"
        ) from error
    present = {ours: names.get(ours, ours) for ours in (*LOG_COLUMNS, *ITEM_COLUMNS)}
    for ours in needed:
        if present[ours] not in table.columns:
            have = ", ".join(table.columns[:12])
            raise DataError(f'{path} has no column "{present[ours]}" ({ours}); it has {have}')
    chosen = {ours: theirs for ours, theirs in present.items() if theirs in table.columns}
    return table.select(pl.col(theirs).alias(ours) for ours, theirs in chosen.items())


def _separator(path: Path) -> str:
    """What the header is separated by most."""
    try:
        with path.open("rb") as file:
            header = file.readline(1 << 16)
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}") from error
    return max(",;\t", key=lambda mark: header.count(mark.encode()))


def _texts(column: pl.Series) -> list[str]:
    """Texts of a column of any kind, "" for a gap."""
    if column.dtype == pl.String:
        texts = column
    elif column.dtype.is_float() and bool((column.drop_nulls().is_finite()).all()):
        whole = (column.drop_nulls() == column.drop_nulls().round()).all()
        texts = (column.cast(pl.Int64, strict=False) if whole else column).cast(pl.String)
    elif isinstance(column.dtype, pl.List | pl.Array | pl.Struct | pl.Object | pl.Binary):
        raise DataError(f'column "{column.name}" holds {column.dtype}; expected texts or numbers')
    else:
        texts = column.cast(pl.String)
    return [text.strip() if text else "" for text in texts.to_list()]


def _times(column: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Seconds since 1970 (`UNKNOWN_TIME` where there is none) and which are readable."""
    if column.dtype.is_temporal():
        if column.dtype not in (pl.Datetime, pl.Date):
            raise DataError(f'column "{column.name}" holds {column.dtype}; expected {EXPECTED_TIME}')
        if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        seconds = column.cast(pl.Datetime("us")).dt.epoch("s")
        found = seconds.to_list()
    elif column.dtype.is_numeric():
        found = [_seconds(value) for value in column.cast(pl.Float64, strict=False).to_list()]
    else:
        found = [_parsed(text) for text in _texts(column)]
    good = np.array([value is not None for value in found], np.bool_)
    return np.array([UNKNOWN_TIME if value is None else value for value in found], np.int64), good


def _seconds(value: float | None) -> int | None:
    if value is None or not 0 <= value < _MILLISECONDS * 1000:
        return None
    return int(value // 1000 if value >= _MILLISECONDS else value)


def _parsed(text: str) -> int | None:
    if _NUMBER.fullmatch(text):
        return _seconds(float(text))
    moment = parse_time(text)  # MIND's own form
    if moment is not None:
        return moment
    try:
        date = datetime.fromisoformat(text)
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None
