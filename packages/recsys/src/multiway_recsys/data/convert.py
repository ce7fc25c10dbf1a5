"""Any log that can be read, as a MIND folder with `train/`, `dev/` and `test/`.

EB-NeRD has impressions of its own, which stay as they are (`validation` becomes `dev`). Of the other logs, impressions
are made by the rule of `clicks`, split in time (MSWeb: by visitors, as its files are).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from multiway_core.errors import DataError, InputError
from multiway_core.files import replace_folder

from multiway_recsys.data import adressa, eb_nerd, interactions, movielens, ms_web
from multiway_recsys.data.bad_rows import BadRows
from multiway_recsys.data.clicks import (
    DEFAULT_RULES,
    ClickLog,
    ImpressionRules,
    make_impressions,
    split_by_time,
    write_splits,
)
from multiway_recsys.data.mind import write_folder
from multiway_recsys.data.tables import Behaviors

Format = Literal["auto", "csv", "parquet", "adressa", "eb-nerd", "msweb", "movielens"]


@dataclass(frozen=True)
class Conversion:
    """What was written."""

    format: str
    news: int
    clicks: int | None  # of the log; None where the source has impressions
    impressions: dict[str, int]  # by split
    bad_rows: tuple[BadRows, ...]


def convert(
    source: Path,
    output: Path,
    *,
    format: Format = "auto",
    items: Path | None = None,
    columns: Mapping[str, str] | None = None,
    rules: ImpressionRules = DEFAULT_RULES,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    skip_bad_rows: bool = False,
) -> Conversion:
    """Read `source` and write `output`, whole or not at all.

    Args:
        source: a CSV or Parquet file, or the folder of a data set.
        output: a folder that is absent or empty.
        format: of the source; `auto` tells by the ending and by the files' names.
        items, columns: see `interactions.read_clicks`; for CSV and Parquet only.
        rules: how impressions are made of clicks.
        fractions: of train, dev and test, in time.
        skip_bad_rows: leave bad rows of a log out and count them; more than 1 % is an error still.

    Raises:
        DataError: the source cannot be read, or its format cannot be told.
        InputError: the log is too small for impressions, or an option does not go with the format.
        OutputError: `output` cannot be written.
    """
    source = Path(source)
    if format not in get_args(Format):
        raise InputError(f"format {format!r}; expected one of {', '.join(get_args(Format))}")
    kind = _format_of(source) if format == "auto" else format
    if kind not in ("csv", "parquet") and (items is not None or columns):
        raise InputError(f"files of items and names of columns go with CSV and Parquet, not with {kind}")
    if kind == "eb-nerd":
        return _convert_eb_nerd(source, output)
    notes: tuple[BadRows, ...] = ()
    if kind == "msweb":
        log, first_visitors = ms_web.read_clicks(source)
        splits = ms_web.split_visitors(log, first_visitors, rules)
    else:
        if kind == "movielens":
            log = movielens.read_clicks(source)
        elif kind == "adressa":
            log, notes = adressa.read_clicks(source, skip_bad_rows=skip_bad_rows)
        else:
            log, notes = interactions.read_clicks(source, items, columns=columns, skip_bad_rows=skip_bad_rows)
        splits = split_by_time(make_impressions(log, rules), fractions)
    with replace_folder(output) as folder:
        write_splits(folder, log, splits)
    return _told(kind, log, splits, notes)


def _format_of(source: Path) -> str:
    if source.is_file():
        if source.suffix.lower() in (".csv", ".tsv"):
            return "csv"
        if source.suffix.lower() in (".parquet", ".pq"):
            return "parquet"
    elif source.is_dir():
        if (source / ms_web.DATA).is_file():
            return "msweb"
        if (source / "u.data").is_file() or (source / "ml-100k.inter").is_file():
            return "movielens"
        if any(
            (source / place / eb_nerd.BEHAVIORS).is_file() for place in ("", "train", "validation", "test")
        ):
            return "eb-nerd"
    else:
        raise DataError(f"cannot read {source}: no such file or folder")
    raise DataError(
        f"cannot tell the format of {source}; name it: {', '.join(name for name in get_args(Format) if name != 'auto')}"
    )


def _convert_eb_nerd(source: Path, output: Path) -> Conversion:
    counts: dict[str, int] = {}
    news = 0
    with replace_folder(output) as folder:
        names = {"train": "train", "dev": "validation", "test": "test"}
        if (source / eb_nerd.BEHAVIORS).is_file():
            names = {"train": ""}
        for name, place in names.items():
            if not (source / place / eb_nerd.BEHAVIORS).is_file():
                continue
            data = eb_nerd.read_folder(source, name)
            write_folder(folder / name, data.news, data.behaviors)
            counts[name], news = len(data.behaviors), len(data.news) - 1
        if not counts:
            raise DataError(
                f"{source} holds no split of EB-NeRD; expected {source / 'train' / eb_nerd.BEHAVIORS}"
            )
    return Conversion("eb-nerd", news, None, counts, ())


def _told(kind: str, log: ClickLog, splits: dict[str, Behaviors], notes: tuple[BadRows, ...]) -> Conversion:
    counts = {name: len(behaviors) for name, behaviors in splits.items()}
    return Conversion(kind, len(log.news) - 1, len(log), counts, notes)
