"""MSWeb, the anonymous web log of www.microsoft.com (UCI, February 1998): 294 titled areas, 37,711 visitors.

The files `anonymous-msweb.data` (32,711 visitors) and `anonymous-msweb.test` (5,000) hold lines `A,id,1,"title","/url"`
for areas, and for each visitor `C,"number",number` followed by `V,area,1` lines. They have no times: a visitor's visits
are taken in the order of the file, which its documentation does not explain, and visitors one after the other, a minute
apart; those of the test file come last. The two files share visitor numbers for different people.
"""

from __future__ import annotations

import csv
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
)
from multiway_recsys.data.lines import read_lines
from multiway_recsys.data.tables import Behaviors, News

DATA, TEST = "anonymous-msweb.data", "anonymous-msweb.test"
_START = 888_624_000  # 1998-02-28; any moment does, as the files tell none
_APART = 60


def read_clicks(folder: Path) -> tuple[ClickLog, int]:
    """All visits, and the number of visitors of `anonymous-msweb.data`, who come first (the others are for evaluation).

    Args:
        folder: holds `anonymous-msweb.data` and, if there is to be an evaluation split of its own, the `.test` file.

    Raises:
        DataError: a file is missing or a line is bad; names file and line.
    """
    folder = Path(folder)
    if not (folder / DATA).is_file():
        raise DataError(f"{folder} holds no {DATA}; expected the files of UCI's anonymous Microsoft web data")
    catalogue = Catalogue()
    users: list[int] = []
    items: list[int] = []
    names: list[str] = []
    first_visitors = 0
    for name in (DATA, TEST):
        if name == TEST and not (folder / name).is_file():
            continue
        _read(folder / name, catalogue, names, users, items, "U" if name == DATA else "T")
        if name == DATA:
            first_visitors = len(names)
    news, original = catalogue.news()
    reader = np.array(users, np.int64)
    times = _START + _APART * reader
    log = sort_clicks(news, reader, tuple(names), np.array(items, np.int32), times, original)
    return log, first_visitors


def read_splits(folder: Path, rules: ImpressionRules = DEFAULT_RULES) -> tuple[News, dict[str, Behaviors]]:
    """News and impressions: train are the visitors of the `.data` file, dev and test the halves of the `.test` file.

    Without the `.test` file the last tenth of the visitors is for test, the tenth before for dev. Raises as
    `read_clicks`.
    """
    log, first_visitors = read_clicks(folder)
    return log.news, split_visitors(log, first_visitors, rules)


def split_visitors(log: ClickLog, first_visitors: int, rules: ImpressionRules) -> dict[str, Behaviors]:
    """The splits of `read_splits`."""
    behaviors = make_impressions(log, rules)
    count = len(log.user_ids)
    if first_visitors < count:
        cuts = first_visitors, first_visitors + (count - first_visitors) // 2
    else:
        cuts = round(0.8 * count), round(0.9 * count)
    part = np.searchsorted(np.asarray(cuts), behaviors.users, side="right")
    return {
        name: behaviors.take(np.flatnonzero(part == i)) for i, name in enumerate(("train", "dev", "test"))
    }


def _read(
    path: Path, catalogue: Catalogue, names: list[str], users: list[int], items: list[int], prefix: str
) -> None:
    areas: dict[str, int] = {}
    visitor: int | None = None
    for number, raw, _ in read_lines(path):
        text = raw.decode("latin-1")
        kind = text[:2]
        if kind not in ("A,", "C,", "V,"):  # I, T and N lines describe the format
            if kind not in ("I,", "T,", "N,") and text.strip():
                raise DataError(
                    f"{path}:{number}:1: {excerpt(text)}; expected a line of kind A, C, V, I, T or N"
                )
            continue
        try:
            fields = next(csv.reader([text]))
        except (csv.Error, StopIteration) as error:
            raise DataError(f"{path}:{number}:1: {excerpt(text)} cannot be read ({error})") from error
        if kind == "A,":
            if len(fields) != 5 or not fields[1].isdecimal() or not fields[3].strip():
                raise DataError(f'{path}:{number}:1: {excerpt(text)}; expected A,1287,1,"title","/url"')
            areas[fields[1]] = catalogue.row(fields[1], title=fields[3])
        elif kind == "C,":
            if len(fields) != 3 or not fields[2].isdecimal():
                raise DataError(f'{path}:{number}:1: {excerpt(text)}; expected C,"10164",10164')
            visitor = len(names)
            names.append(f"{prefix}{fields[2]}")
        else:
            if visitor is None:
                raise DataError(
                    f"{path}:{number}:1: {excerpt(text)} belongs to no visitor; expected a C line before"
                )
            area = areas.get(fields[1]) if len(fields) >= 2 else None
            if area is None:
                raise DataError(
                    f"{path}:{number}:3: {excerpt(text)}: no such area; expected one of an A line"
                )
            users.append(visitor)
            items.append(area)
