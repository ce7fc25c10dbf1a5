"""A news table made item by item, for sources that are not MIND's, and MIND ids for their ids."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from multiway_recsys.data.tables import UNKNOWN_TIME, News, Ragged

_MIND_ID = re.compile("N[0-9]+")
_DIGITS = re.compile("[0-9]+")


def mind_ids(names: Sequence[str]) -> tuple[str, ...]:
    """MIND's form of item ids: `N17` as it is, `17` as `N17`; if others are among them, all are numbered from N1."""
    if all(map(_MIND_ID.fullmatch, names)):
        return tuple(names)
    if all(map(_DIGITS.fullmatch, names)):
        return tuple(f"N{name}" for name in names)
    return tuple(f"N{number}" for number in range(1, len(names) + 1))


def reader_ids(names: Sequence[str]) -> tuple[str, ...]:
    """Ids of readers as they are if each is one printable word, otherwise numbered from U1."""
    if all(name and name.isprintable() and not re.search(r"\s", name) for name in names):
        return tuple(names)
    return tuple(f"U{number}" for number in range(1, len(names) + 1))


class Catalogue:
    """Collects items; an item that comes again keeps what was told first, and gaps are filled."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._fields: list[list[str]] = []  # title, abstract, category, subcategory
        self._published: list[int] = []
        self._entities: list[tuple[str, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def row(
        self,
        name: str,
        *,
        title: str = "",
        abstract: str = "",
        category: str = "",
        subcategory: str = "",
        published: int = UNKNOWN_TIME,
        entities: tuple[str, ...] = (),
    ) -> int:
        """The row (1 and up) of the item with this id in its source."""
        told = (title, abstract, category, subcategory)
        place = self._rows.get(name)
        if place is None:
            place = self._rows[name] = len(self._rows)
            self._fields.append([_line(text) for text in told])
            self._published.append(published)
            self._entities.append(entities)
            return place + 1
        fields = self._fields[place]
        if any(told) and not all(fields):
            for i, text in enumerate(told):
                fields[i] = fields[i] or _line(text)
        if self._published[place] == UNKNOWN_TIME:
            self._published[place] = published
        self._entities[place] = self._entities[place] or entities
        return place + 1

    def news(self) -> tuple[News, tuple[str, ...] | None]:
        """The table with MIND ids, and the source's ids by row where they differ."""
        names = list(self._rows)
        ids = mind_ids(names)
        titles, abstracts, categories, subcategories = zip(("",) * 4, *self._fields, strict=True)
        category_rows, category_names = _numbered(categories)
        subcategory_rows, subcategory_names = _numbered(subcategories)
        entity_rows, entity_ids = _numbered([name for row in self._entities for name in row])
        lengths = [0, *map(len, self._entities)]
        published = np.array([UNKNOWN_TIME, *self._published], np.int64)
        news = News(
            ids=("", *ids),
            titles=titles,
            abstracts=abstracts,
            categories=category_rows,
            subcategories=subcategory_rows,
            entities=Ragged(entity_rows, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
            category_names=category_names,
            subcategory_names=subcategory_names,
            entity_ids=entity_ids,
            published=published if (published != UNKNOWN_TIME).any() else None,
        )
        return news, None if tuple(names) == ids else ("", *names)


def _numbered(names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    rows = {"": 0}
    numbers = np.array([rows.setdefault(name, len(rows)) for name in names], np.int32)
    return numbers, tuple(rows)


def _line(text: str) -> str:
    return " ".join(text.split())
