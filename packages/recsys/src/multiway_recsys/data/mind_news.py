"""MIND's `news.tsv`: one news a row, without header and without quoting.

A row is `news id, category, subcategory, title, abstract, URL, entities of the title, entities of the abstract`,
separated by TABs; the last two are JSON lists of objects with a `WikidataId`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from multiway_recsys.data.bad_rows import BadRows, Problem, RowLog, excerpt
from multiway_recsys.data.lines import read_lines, utf8_column
from multiway_recsys.data.mind_rows import NEWS_ID
from multiway_recsys.data.tables import UNKNOWN_TIME, News, Ragged

COLUMNS = (
    "news id",
    "category",
    "subcategory",
    "title",
    "abstract",
    "URL",
    "title entities",
    "abstract entities",
)
_REMARKS = ("no title", "other text")  # problems for which no row is left out


def read_news(
    path: Path,
    *,
    skip_bad_rows: bool = False,
    known: News | None = None,
    id_pattern: str = NEWS_ID,
) -> tuple[News, BadRows]:
    """All news of `path`, numbered from 1 in the order of the file.

    A news without title, category or abstract is kept (a missing title is counted as a remark). The same news twice
    is taken once.

    Args:
        path: a `news.tsv`.
        skip_bad_rows: leave bad rows out and count them; more than 1 % of them is an error still.
        known: news whose rows, categories and entities keep their numbers; those of `path` come behind. A news that
            is known already stays as it is, and a remark counts where its text differs.
        id_pattern: regular expression of a news id.

    Raises:
        DataError: the file cannot be read; or a row is bad: names file, line, character and what was expected.
    """
    log = RowLog(Path(path), skip_bad_rows=skip_bad_rows)
    table = _Table(known)
    is_id = re.compile(id_pattern).fullmatch
    start = len(table.ids)
    for number, raw, is_cut in read_lines(Path(path)):
        log.rows += 1
        problem = _add_row(table, raw, is_cut, is_id, id_pattern, start)
        if problem is None:
            continue
        if problem.kind in _REMARKS:
            log.remark(number, problem)
        else:
            log.reject(number, problem)
    return table.news(), log.finish()


def _add_row(
    table: _Table, raw: bytes, is_cut: bool, is_id: Any, id_pattern: str, start: int
) -> Problem | None:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return Problem("encoding", utf8_column(raw), "not UTF-8; expected UTF-8 text (convert the file)")
    columns = text.split("\t")
    if len(columns) != len(COLUMNS):
        end = ", and the file ends without a line end here (cut off?)" if is_cut else ""
        count = f"{len(columns)} column" + ("" if len(columns) == 1 else "s")
        return Problem(
            "columns",
            1,
            f"{count} in {excerpt(text)}{end}; expected {len(COLUMNS)} separated by TABs: {', '.join(COLUMNS)}",
        )
    name, category, subcategory, title, abstract, _, in_title, in_abstract = columns
    if not is_id(name):
        expected = "N and digits" if id_pattern == NEWS_ID else f"what matches {id_pattern}"
        return Problem("news id", 1, f"{excerpt(name)} is no news id; expected {expected}")
    entities: list[str] = []
    for place, json_list in ((6, in_title), (7, in_abstract)):
        found, message = _wikidata_ids(json_list)
        if message is not None:
            column = sum(map(len, columns[:place])) + place + 1
            return Problem("entities", column, f"{COLUMNS[place]}: {message} in {excerpt(json_list)}; expected a "
                           'JSON list such as [{"WikidataId": "Q42"}], or nothing')  # fmt: skip
        if place == 6:
            entities = found
    row = table.rows.get(name)
    if row is not None:
        if table.text_of(row) == (title, abstract, category, subcategory):
            return None
        if row < start:
            return Problem(
                "other text", 1, f"{excerpt(name)} is known with another text; kept as it was known"
            )
        return Problem("repeated news", 1, f"{excerpt(name)} was there before with another text or category; "
                       "expected a different id in every row")  # fmt: skip
    table.add(name, title, abstract, category, subcategory, entities)
    if not title.strip():
        column = len(name) + len(category) + len(subcategory) + 4
        return Problem("no title", column, f"title: {excerpt(name)} has none; kept without")
    return None


def _wikidata_ids(text: str) -> tuple[list[str], str | None]:
    """Ids in the order of the list, or what is wrong with it."""
    if not text or text == "[]":
        return [], None
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else "too deep or too large"
        return [], f"bad JSON ({what})"
    if not isinstance(items, list):
        return [], "no list"
    names = []
    for item in items:
        name = item.get("WikidataId") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            return [], 'an entity without "WikidataId"'
        names.append(name)
    return names, None


class _Names:
    """Names numbered as they come, "" first."""

    def __init__(self, names: tuple[str, ...] = ("",)) -> None:
        self.names = list(names)
        self._rows = {name: row for row, name in enumerate(names)}

    def row(self, name: str) -> int:
        row = self._rows.get(name)
        if row is None:
            row = self._rows[name] = len(self.names)
            self.names.append(name)
        return row


class _Table:
    """News that grow row by row."""

    def __init__(self, known: News | None) -> None:
        self.published = known.published if known else None
        self.ids = list(known.ids) if known else [""]
        self.titles = list(known.titles) if known else [""]
        self.abstracts = list(known.abstracts) if known else [""]
        self.categories: list[int] = known.categories.tolist() if known else [0]
        self.subcategories: list[int] = known.subcategories.tolist() if known else [0]
        self.category_names = _Names(known.category_names) if known else _Names()
        self.subcategory_names = _Names(known.subcategory_names) if known else _Names()
        self.entity_ids = _Names(known.entity_ids) if known else _Names()
        self.entities: list[list[int]] = [[]]
        if known:
            self.entities = [known.entities[row].tolist() for row in range(len(known))]
        self.rows = {name: row for row, name in enumerate(self.ids) if row}

    def add(
        self, name: str, title: str, abstract: str, category: str, subcategory: str, entities: list[str]
    ) -> None:
        self.rows[name] = len(self.ids)
        self.ids.append(name)
        self.titles.append(title)
        self.abstracts.append(abstract)
        self.categories.append(self.category_names.row(category))
        self.subcategories.append(self.subcategory_names.row(subcategory))
        self.entities.append([self.entity_ids.row(entity) for entity in entities])

    def text_of(self, row: int) -> tuple[str, str, str, str]:
        category = self.category_names.names[self.categories[row]]
        subcategory = self.subcategory_names.names[self.subcategories[row]]
        return self.titles[row], self.abstracts[row], category, subcategory

    def news(self) -> News:
        published = self.published
        if published is not None:
            added = np.full(len(self.ids) - len(published), UNKNOWN_TIME, np.int64)
            published = np.concatenate([published, added])
        return News(
            ids=tuple(self.ids),
            titles=tuple(self.titles),
            abstracts=tuple(self.abstracts),
            categories=np.array(self.categories, np.int32),
            subcategories=np.array(self.subcategories, np.int32),
            entities=Ragged.from_rows(self.entities),
            category_names=tuple(self.category_names.names),
            subcategory_names=tuple(self.subcategory_names.names),
            entity_ids=tuple(self.entity_ids.names),
            published=published,
        )
