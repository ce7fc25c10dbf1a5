"""MIND folders: `news.tsv`, `behaviors.tsv` and, where there is one, `entity_embedding.vec`.

Errors name file, line and character, what was found and what was expected. Two files beyond MIND's own may lie in a
folder: `published.tsv` (news id, TAB, seconds since 1970), which `write_folder` writes where publication is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError, InputError
from multiway_core.files import atomic_write
from numpy.typing import NDArray

from multiway_recsys.data.bad_rows import BadRows, excerpt
from multiway_recsys.data.lines import read_lines
from multiway_recsys.data.mind_behaviors import read_behaviors, stream_behaviors
from multiway_recsys.data.mind_news import read_news
from multiway_recsys.data.mind_rows import NEWS_ID
from multiway_recsys.data.mind_times import format_times
from multiway_recsys.data.tables import NO_NEWS, UNKNOWN_TIME, Behaviors, News
from multiway_recsys.data.vectors import read_vectors

__all__ = [
    "BEHAVIORS",
    "ENTITY_VECTORS",
    "NEWS",
    "NEWS_ID",
    "PUBLISHED",
    "MindData",
    "find_split",
    "read_behaviors",
    "read_folder",
    "read_news",
    "stream_behaviors",
    "write_folder",
]

NEWS, BEHAVIORS = "news.tsv", "behaviors.tsv"
ENTITY_VECTORS, PUBLISHED = "entity_embedding.vec", "published.tsv"
SPLITS = ("train", "dev", "test")
_ROWS_AT_ONCE = 10_000
_BREAKS = re.compile(r"[\t\n\r]+")


@dataclass(frozen=True)
class MindData:
    """A folder that was read; `entity_vectors` (entities, width) float32 stand in the order of `news.entity_ids`."""

    news: News
    behaviors: Behaviors
    entity_vectors: NDArray[np.float32] | None = None
    bad_rows: tuple[BadRows, ...] = ()


def find_split(folder: Path, split: str) -> Path:
    """The folder with the files of a split: `folder` itself, `folder/dev`, or such as `folder/MINDsmall_dev`.

    Raises DataError: there is none, or more than one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        hint = "; unpack it first" if folder.suffix == ".zip" and folder.is_file() else ""
        raise DataError(f"{folder} is no folder{hint}; expected one with {NEWS} and {BEHAVIORS}")
    if (folder / BEHAVIORS).is_file():
        return folder
    if (folder / split / BEHAVIORS).is_file():
        return folder / split
    found = sorted(item for item in folder.glob(f"*_{split}") if (item / BEHAVIORS).is_file())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(item.name for item in found)
        raise DataError(f"{folder} holds more than one {split} split ({names}); name one of them")
    raise DataError(
        f"{folder} holds no {split} split; expected {BEHAVIORS} and {NEWS} in it, in {split}/ or in MINDsmall_{split}/"
    )


def read_folder(
    folder: Path,
    split: str = "train",
    *,
    skip_bad_rows: bool = False,
    allow_unknown: bool = False,
    known: News | None = None,
    users: tuple[str, ...] | None = None,
    id_pattern: str = NEWS_ID,
    with_entity_vectors: bool = True,
) -> MindData:
    """News, impressions and entity vectors of one split.

    For a later split give the `news` and `user_ids` of the earlier one as `known` and `users`: their numbers stay.

    Args:
        folder: a MIND folder, or one that holds those of the splits (see `find_split`).
        split: `train`, `dev` or `test`; without meaning where `folder` is itself the split's.
        skip_bad_rows, allow_unknown, known, users, id_pattern: see `read_news` and `read_behaviors`.
        with_entity_vectors: read `entity_embedding.vec` where there is one; entities without vector get zeros.

    Raises:
        DataError: a file is missing or bad.
    """
    place = find_split(Path(folder), split)
    news, bad_news = read_news(place / NEWS, skip_bad_rows=skip_bad_rows, known=known, id_pattern=id_pattern)
    if (place / PUBLISHED).is_file():
        news = _with_publication(news, place / PUBLISHED)
    behaviors, bad_behaviors = read_behaviors(
        place / BEHAVIORS,
        news,
        skip_bad_rows=skip_bad_rows,
        allow_unknown=allow_unknown,
        users=users,
        id_pattern=id_pattern,
    )
    vectors = None
    if with_entity_vectors and (place / ENTITY_VECTORS).is_file():
        vectors, _ = read_vectors(place / ENTITY_VECTORS, news.entity_ids)
    return MindData(news, behaviors, vectors, (bad_news, bad_behaviors))


def write_folder(
    folder: Path, news: News, behaviors: Behaviors, *, entity_vectors: NDArray[np.float32] | None = None
) -> None:
    """Write a MIND folder that `read_folder` reads back; each file is whole or absent.

    MIND has no place for line ends and TABs in texts (they become blanks) and for unknown news in histories (they are
    left out).

    Args:
        folder: made where absent; files of the same names are replaced.
        news, behaviors: what to write; all news but row 0.
        entity_vectors: (entities, width) in the order of `news.entity_ids`.

    Raises:
        InputError: an id is empty or not one word, or an impression has an unknown candidate.
        OutputError: it cannot be written.
    """
    folder = Path(folder)
    _check_words("news id", news.ids[1:])
    _check_words("user id", behaviors.user_ids)
    _check_words("impression id", behaviors.impression_ids)
    if (behaviors.candidates.values == NO_NEWS).any():
        place = int(np.flatnonzero(behaviors.candidates.values == NO_NEWS)[0])
        row = int(np.searchsorted(behaviors.candidates.offsets, place, side="right")) - 1
        raise InputError(
            f"impression {behaviors.impression_ids[row]} has an unknown candidate; only known news can be written"
        )
    _write_lines(folder / NEWS, _news_lines(news))
    _write_lines(folder / BEHAVIORS, _behavior_lines(news, behaviors))
    if news.published is not None:
        known = np.flatnonzero(news.published != UNKNOWN_TIME)
        _write_lines(folder / PUBLISHED, (f"{news.ids[row]}\t{news.published[row]}" for row in known if row))
    if entity_vectors is not None:
        _write_lines(
            folder / ENTITY_VECTORS,
            (
                "\t".join([name, *(repr(float(value)) for value in vector)])
                for name, vector in zip(news.entity_ids, entity_vectors, strict=True)
                if name
            ),
        )


def _with_publication(news: News, path: Path) -> News:
    published = np.full(len(news), UNKNOWN_TIME, np.int64)
    if news.published is not None:
        published[:] = news.published
    rows = {name: row for row, name in enumerate(news.ids)}
    for number, line, _ in read_lines(path):
        name, tab, seconds = line.decode("utf-8", "replace").partition("\t")
        if not tab or not re.fullmatch(r"-?[0-9]{1,18}", seconds):
            raise DataError(
                f"{path}:{number}:1: {excerpt(name + tab + seconds)}; expected news id, TAB, seconds"
            )
        row = rows.get(name, NO_NEWS)
        if row != NO_NEWS:
            published[row] = int(seconds)
    return replace(news, published=published)


def _news_lines(news: News) -> Iterable[str]:
    for row in range(1, len(news)):
        entities = [
            {
                "Label": "",
                "Type": "",
                "WikidataId": news.entity_ids[entity],
                "Confidence": 1.0,
                "OccurrenceOffsets": [],
                "SurfaceForms": [],
            }
            for entity in news.entities[row]
        ]
        fields = (
            news.ids[row],
            news.category_names[news.categories[row]],
            news.subcategory_names[news.subcategories[row]],
            news.titles[row],
            news.abstracts[row],
            "",
            json.dumps(entities),
            "[]",
        )
        yield "\t".join(_BREAKS.sub(" ", text) for text in fields)


def _behavior_lines(news: News, behaviors: Behaviors) -> Iterable[str]:
    labels = behaviors.labels
    # One table of all texts that a candidate can have: news 0 not clicked, news 0 clicked, news 1 not clicked, ...
    shown = list(news.ids) if labels is None else [f"{name}-{label}" for name in news.ids for label in "01"]
    for start in range(0, len(behaviors), _ROWS_AT_ONCE):
        rows = range(start, min(start + _ROWS_AT_ONCE, len(behaviors)))
        times = format_times(behaviors.times[rows.start : rows.stop])
        for row, time in zip(rows, times, strict=True):
            history = behaviors.histories[row]
            first, last = behaviors.candidates.offsets[row : row + 2]
            places = behaviors.candidates.values[first:last]
            if labels is not None:
                places = places * 2 + labels[first:last]
            yield "\t".join(
                (
                    behaviors.impression_ids[row],
                    behaviors.user_ids[behaviors.users[row]],
                    time,
                    " ".join([news.ids[item] for item in history.tolist() if item != NO_NEWS]),
                    " ".join([shown[place] for place in places.tolist()]),
                )
            )


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with atomic_write(path) as file:
        gathered: list[str] = []
        for line in lines:
            gathered.append(line)
            if len(gathered) >= _ROWS_AT_ONCE:
                file.write(("\n".join(gathered) + "\n").encode("utf-8", "replace"))
                gathered.clear()
        if gathered:
            file.write(("\n".join(gathered) + "\n").encode("utf-8", "replace"))


def _check_words(what: str, names: tuple[str, ...]) -> None:
    for name in names:
        if not name or not name.isprintable() or " " in name:
            raise InputError(f"{what} {excerpt(name)}; expected one printable word without blanks")
