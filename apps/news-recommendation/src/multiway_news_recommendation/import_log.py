"""The ``import`` command: other logs as MIND folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from multiway_core.errors import InputError

from multiway_news_recommendation.app import APP
from multiway_news_recommendation.options import LogFormat

if TYPE_CHECKING:
    from multiway_recsys.data.bad_rows import BadRows
    from multiway_recsys.data.clicks import ClickLog, ImpressionRules
    from multiway_recsys.data.tables import Behaviors

SPLITS: tuple[Literal["train", "dev", "test"], ...] = ("train", "dev", "test")
MADE = (
    "impressions are made of clicks by a rule (other candidates are drawn from what was read before): accuracy on them "
    "compares models with each other, not with figures on impressions that were really shown"
)


def import_folder(
    source: Path,
    output: Path,
    *,
    format: LogFormat = "auto",
    items: Path | None = None,
    columns: str | None = None,
    sessions: bool = False,
    negatives: int = 19,
    skip_bad_rows: bool = False,
    seed: int = 0,
) -> Iterator[str]:
    """Write ``source`` as ``output/train``, ``dev`` and ``test``; yields lines about what was made.

    Args:
        source: a CSV or Parquet file of clicks, or the folder of Adressa, EB-NeRD, MSWeb or MovieLens-100K.
        format: "auto" looks at the names of the files.
        items: titles and categories of a CSV or Parquet log.
        columns: such as ``user=reader,item=article``, for columns that are called otherwise.
        sessions: clicks without a pause of 30 minutes are one impression; otherwise every click is one.
        negatives: other candidates of each impression that is made.

    Raises:
        InputError: the output is there already, the format cannot be told, or options that do not fit it.
        DataError: a file is missing or bad.
    """
    from multiway_recsys.data import adressa, clicks, interactions, movielens, ms_web

    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"--output {output}: is there already; give a new folder")
    format = _format(source) if format == "auto" else format
    if format not in ("csv", "parquet") and (items is not None or columns is not None):
        raise InputError("--items and --columns are for CSV and Parquet logs only")
    if format == "eb-nerd":
        yield from _eb_nerd(source, output)
        return
    rules = clicks.ImpressionRules(grouping="session" if sessions else "each", negatives=negatives, seed=seed)
    if format == "msweb":
        log, first_visitors = ms_web.read_clicks(source)
        splits = ms_web.split_visitors(log, first_visitors, rules)
    elif format == "movielens":
        log = movielens.read_clicks(source)
        splits = _by_time(log, rules)
    elif format == "adressa":
        log, bad = adressa.read_clicks(source, skip_bad_rows=skip_bad_rows)
        _tell(bad)
        splits = _by_time(log, rules)
    else:
        named = None if columns is None else parse_columns(columns)
        log, bad = interactions.read_clicks(source, items, columns=named, skip_bad_rows=skip_bad_rows)
        _tell(bad)
        splits = _by_time(log, rules)
    clicks.write_splits(output, log, splits)
    yield f"{len(log):,} clicks of {len(log.user_ids):,} readers on {len(log.news) - 1:,} items"
    yield MADE
    for split, behaviors in splits.items():
        yield _line(split, behaviors)


def parse_columns(text: str) -> dict[str, str]:
    """``user=A,item=B`` as a dictionary. Raises InputError."""
    found = {}
    for pair in text.split(","):
        name, equals, column = pair.partition("=")
        if not equals or not name.strip() or not column.strip():
            raise InputError(f"--columns {text!r}: expected pairs such as user=reader_id,item=article_id")
        found[name.strip()] = column.strip()
    return found


def _by_time(log: ClickLog, rules: ImpressionRules) -> dict[str, Behaviors]:
    from multiway_recsys.data.clicks import make_impressions, split_by_time

    return split_by_time(make_impressions(log, rules))


def _eb_nerd(source: Path, output: Path) -> Iterator[str]:
    """Its impressions were really shown; EB-NeRD's validation split is our dev."""
    from multiway_recsys.data import eb_nerd
    from multiway_recsys.data.mind import write_folder

    written = 0
    folders = {"train": "train", "dev": "validation", "test": "test"}
    for split in SPLITS:
        if (source / folders[split] / eb_nerd.BEHAVIORS).is_file():
            found = eb_nerd.read_folder(source, split, allow_unknown=False)
            write_folder(output / split, found.news, found.behaviors)
            written += 1
            yield _line(split, found.behaviors)
    if not written:
        found = eb_nerd.read_folder(source)
        write_folder(output, found.news, found.behaviors)
        yield _line("one split", found.behaviors)


def _line(split: str, behaviors: Behaviors) -> str:
    return f"{split}: {len(behaviors):,} impressions, {len(behaviors.candidates.values):,} candidates"


def _tell(bad: tuple[BadRows, ...]) -> None:
    for rows in bad:
        for line in rows.table().splitlines():
            APP.note(line)


def _format(source: Path) -> LogFormat:
    if source.is_dir():
        names = {path.name for path in source.iterdir()}
        if "anonymous-msweb.data" in names:
            return "msweb"
        if names & {"u.data", "ml-100k.inter"}:
            return "movielens"
        if any(source.glob("behaviors.parquet")) or any(source.glob("*/behaviors.parquet")):
            return "eb-nerd"
    endings = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet"}
    found = endings.get(source.suffix.lower())
    if found == "csv":
        return "csv"
    if found == "parquet":
        return "parquet"
    if source.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        return "adressa"
    raise InputError(f"{source}: unknown format of the file names; give --format")
