"""EB-NeRD, the Ekstra Bladet data set of the RecSys 2024 challenge: Parquet files.

`articles.parquet` lies in the folder or beside it. A split's folder (`train`, `validation`, `test`) holds
`behaviors.parquet` (`impression_id`, `user_id`, `impression_time`, `article_ids_inview`, and `article_ids_clicked`,
which the test split lacks) and `history.parquet` (`user_id`, `article_id_fixed`, oldest first). Articles become `N<id>`
and users `U<id>`, so that the result can be written as a MIND folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
from multiway_core.errors import DataError
from numpy.typing import NDArray

from multiway_recsys.data.mind import MindData
from multiway_recsys.data.tables import NO_NEWS, UNKNOWN_TIME, Behaviors, News, Ragged

ARTICLES, BEHAVIORS, HISTORY = "articles.parquet", "behaviors.parquet", "history.parquet"
_SPLITS = {"train": "train", "dev": "validation", "validation": "validation", "test": "test"}


def read_news(path: Path) -> News:
    """The articles, in the order of the file. Title, subtitle (as abstract), category, first subcategory, time of
    publication, and `ner_clusters` as entities, where the file has them.

    Raises DataError: the file cannot be read or lacks a column, or an article comes twice.
    """
    table = _read(path, ["article_id", "title"])
    table = table.with_columns(pl.col("title").cast(pl.String))
    ids = ["", *(f"N{name}" for name in table["article_id"].to_list())]
    if len(set(ids)) < len(ids):
        raise DataError(f"{path}: an article_id comes twice; expected a row an article")
    categories, category_names = _numbered(_strings(table, "category_str", "category"))
    subcategories, subcategory_names = _numbered(_first_strings(table, "subcategory"))
    if "ner_clusters" in table.columns and isinstance(table["ner_clusters"].dtype, pl.List):
        entities, names = _lists(table["ner_clusters"].cast(pl.List(pl.String)))
        rows, entity_ids = _numbered(names)
        lengths = [0, *entities]
    else:
        rows, entity_ids, lengths = np.zeros(0, np.int32), ("",), [0] * len(ids)
    published = None
    if "published_time" in table.columns:
        seconds = _seconds(path, table["published_time"])
        published = np.concatenate([[UNKNOWN_TIME], seconds])
    return News(
        ids=tuple(ids),
        titles=("", *_strings(table, "title")),
        abstracts=("", *_strings(table, "subtitle")),
        categories=np.concatenate([[0], categories]).astype(np.int32),
        subcategories=np.concatenate([[0], subcategories]).astype(np.int32),
        entities=Ragged(rows, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
        category_names=category_names,
        subcategory_names=subcategory_names,
        entity_ids=entity_ids,
        published=published,
    )


def read_behaviors(
    folder: Path, news: News, *, allow_unknown: bool = False, users: tuple[str, ...] | None = None
) -> Behaviors:
    """The impressions of one split, in the order of the file.

    A user without history has an empty one; articles of a history that `news` does not have become row 0.

    Args:
        folder: with `behaviors.parquet` and, if there are histories, `history.parquet`.
        news: of `read_news`.
        allow_unknown: a candidate that `news` does not have becomes row 0 rather than an error.
        users: known users; their numbers stay, new ones come behind.

    Raises:
        DataError: a file cannot be read or lacks a column, an impression has no candidates, or one that is unknown.
    """
    path = Path(folder) / BEHAVIORS
    table = _read(path, ["impression_id", "user_id", "impression_time", "article_ids_inview"])
    rows = {name: row for row, name in enumerate(news.ids) if row}
    shown_lengths, shown = _lists(_list_column(path, table, "article_ids_inview"))
    if shown_lengths and min(shown_lengths) == 0:
        row = shown_lengths.index(0)
        raise DataError(f"{path}: row {row + 1}: article_ids_inview is empty; expected at least one article")
    offsets = np.concatenate([[0], np.cumsum(shown_lengths)]).astype(np.int64)
    values = np.array([rows.get(f"N{name}", NO_NEWS) for name in shown], np.int32)
    unknown = np.flatnonzero(values == NO_NEWS)
    if unknown.size and not allow_unknown:
        row = int(np.searchsorted(offsets, unknown[0], side="right"))
        raise DataError(
            f"{path}: row {row}: article {shown[unknown[0]]} is not in the articles; expected an article_id of "
            f"{ARTICLES} (or unknown ones allowed)"
        )
    labels = None
    if "article_ids_clicked" in table.columns:
        clicked_lengths, clicked = _lists(_list_column(path, table, "article_ids_clicked"))
        row_of_click = np.repeat(np.arange(len(clicked_lengths)), clicked_lengths).tolist()
        clicks = set(zip(row_of_click, clicked, strict=True))
        row_shown = np.repeat(np.arange(len(shown_lengths)), shown_lengths).tolist()
        labels = np.array([pair in clicks for pair in zip(row_shown, shown, strict=True)], np.int8)
    numbers = {name: row for row, name in enumerate(users or ())}
    who = [numbers.setdefault(f"U{name}", len(numbers)) for name in table["user_id"].to_list()]
    return Behaviors(
        impression_ids=tuple(str(name) for name in table["impression_id"].to_list()),
        users=np.array(who, np.int32),
        user_ids=tuple(numbers),
        times=_seconds(path, table["impression_time"]),
        histories=_histories(Path(folder) / HISTORY, table["user_id"].to_list(), rows),
        candidates=Ragged(values, offsets),
        labels=labels,
    )


def read_folder(
    folder: Path,
    split: str = "train",
    *,
    allow_unknown: bool = False,
    users: tuple[str, ...] | None = None,
) -> MindData:
    """Articles and impressions of a split (`train`, `dev` = `validation`, `test`), or of `folder` if it is a split's.

    Raises DataError as `read_news` and `read_behaviors`, and where files are missing.
    """
    folder = Path(folder)
    place = folder if (folder / BEHAVIORS).is_file() else folder / _SPLITS.get(split, split)
    if not (place / BEHAVIORS).is_file():
        raise DataError(f"{folder} holds no {split} split of EB-NeRD; expected {place / BEHAVIORS}")
    for articles in (place / ARTICLES, place.parent / ARTICLES):
        if articles.is_file():
            news = read_news(articles)
            return MindData(news, read_behaviors(place, news, allow_unknown=allow_unknown, users=users))
    raise DataError(f"{folder} holds no {ARTICLES}; expected it in the folder or beside it")


def _histories(path: Path, users: list[object], rows: dict[str, int]) -> Ragged:
    if not path.is_file():
        return Ragged.from_rows([[]] * len(users))
    table = _read(path, ["user_id", "article_id_fixed"])
    lengths, read = _lists(_list_column(path, table, "article_id_fixed"))
    values = np.array([rows.get(f"N{name}", NO_NEWS) for name in read], np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths), [len(values)]]).astype(
        np.int64
    )  # one empty row behind
    place = {user: row for row, user in enumerate(table["user_id"].to_list())}
    return Ragged(values, offsets).take(np.array([place.get(user, len(lengths)) for user in users], np.int64))


def _read(path: Path, needed: list[str]) -> pl.DataFrame:
    with _errors(path):
        table = pl.read_parquet(path)
    for name in needed:
        if name not in table.columns:
            raise DataError(f'{path} has no column "{name}"; it has {", ".join(table.columns[:12])}')
        if name != "title" and table[name].null_count():
            row = int(table[name].is_null().arg_max() or 0) + 1
            raise DataError(f"{path}: row {row}: {name} is missing; expected a value")
    return table


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        lines = str(error).strip().splitlines()
        raise DataError(
            f"cannot read {path}: {lines[0] if lines else 'damaged'}; expected Parquet"
        ) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # polars's own faults on damaged files; not an Exception
            raise
        raise DataError(f"cannot read {path}: the file is damaged; expected Parquet") from error


def _list_column(path: Path, table: pl.DataFrame, name: str) -> pl.Series:
    column = table[name]
    if not isinstance(column.dtype, pl.List):
        raise DataError(f'{path}: column "{name}" holds {column.dtype}; expected lists of article ids')
    return column


def _lists(column: pl.Series) -> tuple[list[int], list]:
    """Lengths of the rows and all values; gaps are no values."""
    rows = column.to_list()
    cleaned = [[value for value in row if value is not None] if row else [] for row in rows]
    return [len(row) for row in cleaned], [value for row in cleaned for value in row]


def _strings(table: pl.DataFrame, *names: str) -> list[str]:
    """The first of the columns that the table has, as single lines; "" for gaps and where it has none."""
    for name in names:
        if name in table.columns:
            return [" ".join(text.split()) if text else "" for text in table[name].cast(pl.String).to_list()]
    return [""] * len(table)


def _first_strings(table: pl.DataFrame, name: str) -> list[str]:
    if name not in table.columns:
        return [""] * len(table)
    if not isinstance(table[name].dtype, pl.List):
        return _strings(table, name)
    return [str(row[0]) if row and row[0] is not None else "" for row in table[name].to_list()]


def _seconds(path: Path, column: pl.Series) -> NDArray[np.int64]:
    if not isinstance(column.dtype, pl.Datetime):
        raise DataError(f'{path}: column "{column.name}" holds {column.dtype}; expected times')
    return column.dt.epoch("s").fill_null(UNKNOWN_TIME).to_numpy().astype(np.int64)


def _numbered(names: list[str]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    rows = {"": 0}
    numbers = [rows.setdefault(name, len(rows)) for name in names]
    return np.array(numbers, np.int32), tuple(rows)
