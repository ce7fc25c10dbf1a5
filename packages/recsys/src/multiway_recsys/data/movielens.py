"""MovieLens-100K as a click log: a rating of 4 or 5 is a click, a film is a news with its title, genres and entities.

Two forms of the data set are read, from a folder that the user has: GroupLens's own (`u.data`, `u.item`) and the one
that the Python package RecBole carries (`ml-100k.inter`, `ml-100k.item`, and `ml-100k.link` with Freebase entities).
The first genre is the category, the others are the subcategory. Nothing is downloaded.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError

from multiway_recsys.data.bad_rows import excerpt
from multiway_recsys.data.catalogue import Catalogue
from multiway_recsys.data.clicks import (
    DEFAULT_RULES,
    ClickLog,
    ImpressionRules,
    make_impressions,
    sort_clicks,
    split_by_time,
)
from multiway_recsys.data.lines import read_lines
from multiway_recsys.data.tables import Behaviors, News

LIKED = 4  # least rating that counts as a click
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_YEAR = re.compile(r"\s*\([0-9]{4}\)\s*$")


def read_clicks(folder: Path) -> ClickLog:
    """Liked films in the order of time.

    Raises DataError: the folder is of neither form, or a line is bad; names file and line.
    """
    folder = Path(folder)
    catalogue = Catalogue()
    if (folder / "u.data").is_file() and (folder / "u.item").is_file():
        _read_grouplens_items(folder / "u.item", catalogue)
        ratings, header = folder / "u.data", False
    elif (folder / "ml-100k.inter").is_file() and (folder / "ml-100k.item").is_file():
        _read_recbole_items(folder, catalogue)
        ratings, header = folder / "ml-100k.inter", True
    else:
        raise DataError(
            f"{folder} holds neither u.data and u.item nor ml-100k.inter and ml-100k.item (MovieLens-100K)"
        )
    known = len(catalogue)
    rows: dict[str, int] = {}
    users, items, times = [], [], []
    for number, raw, _ in read_lines(ratings):
        if header and number == 1:
            continue
        fields = raw.decode("latin-1").split("\t")
        if len(fields) != 4 or not re.fullmatch(r"[0-9]{1,12}\t[0-9]{1,12}", f"{fields[0]}\t{fields[3]}"):
            raise DataError(
                f"{ratings}:{number}:1: {excerpt(raw.decode('latin-1'))}; expected user, film, rating and seconds, "
                "separated by TABs"
            )
        if not re.fullmatch(r"[0-5](\.[0-9]+)?", fields[2]):
            raise DataError(f"{ratings}:{number}: rating {excerpt(fields[2])}; expected 1 to 5")
        film = catalogue.row(fields[1])
        if film > known:
            raise DataError(
                f"{ratings}:{number}: film {excerpt(fields[1])} is in no item file; expected a known one"
            )
        if float(fields[2]) >= LIKED:
            users.append(rows.setdefault(fields[0], len(rows)))
            items.append(film)
            times.append(int(fields[3]))
    news, original = catalogue.news()
    names = tuple(f"U{name}" for name in rows)
    return sort_clicks(
        news, np.array(users, np.int32), names, np.array(items, np.int32), np.array(times), original
    )


def read_splits(
    folder: Path,
    rules: ImpressionRules = DEFAULT_RULES,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> tuple[News, dict[str, Behaviors]]:
    """News and impressions, split by time. Raises as `read_clicks`."""
    log = read_clicks(folder)
    return log.news, split_by_time(make_impressions(log, rules), fractions)


def _read_grouplens_items(path: Path, catalogue: Catalogue) -> None:
    for number, raw, _ in read_lines(path):
        fields = raw.decode("latin-1").split("|")
        if len(fields) != 5 + len(GENRES):
            raise DataError(f"{path}:{number}:1: {len(fields)} fields between |; expected {5 + len(GENRES)}")
        genres = [genre for genre, flag in zip(GENRES, fields[5:], strict=True) if flag == "1"]
        catalogue.row(
            fields[0], title=_title(fields[1]), category=(genres or [""])[0], subcategory=" ".join(genres[1:])
        )


def _read_recbole_items(folder: Path, catalogue: Catalogue) -> None:
    entities: dict[str, str] = {}
    if (folder / "ml-100k.link").is_file():
        for number, raw, _ in read_lines(folder / "ml-100k.link"):
            item, _, entity = raw.decode("utf-8", "replace").partition("\t")
            if number > 1 and entity:
                entities[item] = entity
    path = folder / "ml-100k.item"
    for number, raw, _ in read_lines(path):
        if number == 1:
            continue
        fields = raw.decode("utf-8", "replace").split("\t")
        if len(fields) != 4:
            raise DataError(
                f"{path}:{number}:1: {len(fields)} columns; expected film, title, year and genres"
            )
        genres = fields[3].split()
        linked = entities.get(fields[0])
        catalogue.row(
            fields[0],
            title=_title(fields[1]),
            category=(genres or [""])[0],
            subcategory=" ".join(genres[1:]),
            entities=(linked,) if linked else (),
        )


def _title(text: str) -> str:
    """`Matrix, The (1999)` as `The Matrix`."""
    name = _YEAR.sub("", text)
    head, comma, article = name.rpartition(", ")
    return (
        f"{article} {head}"
        if comma and article in ("The", "A", "An", "Les", "La", "Le", "Il", "Das")
        else name
    )
