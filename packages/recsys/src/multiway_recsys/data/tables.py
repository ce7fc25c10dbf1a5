"""News and reading behaviour as arrays: the output of every data reader and the input of every model.

Row 0 of the news is no news: padding, and what an unknown id is read as.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_NEWS = 0
UNKNOWN_TIME = int(np.iinfo(np.int64).min)  # publication that no source tells, in `News.published`


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``."""

    values: NDArray[np.int32]  # (total,)
    offsets: NDArray[np.int64]  # (rows + 1,)

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]] | Sequence[NDArray[np.int32]]) -> Ragged:
        """Rows put one behind the other."""
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        parts = [np.asarray(row, np.int32) for row in rows]
        return cls(np.concatenate(parts) if parts else np.zeros(0, np.int32), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Values of each row (rows,)."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.integer]) -> Ragged:
        """The given rows, in the given order."""
        starts, lengths = self.offsets[rows], self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, lengths)
        return Ragged(self.values[places], offsets)


@dataclass(frozen=True)
class News:
    """N news, the padding row 0 included. Names of categories and entities start with "" (unknown) as well."""

    ids: tuple[str, ...]  # (N,), ids[0] == ""
    titles: tuple[str, ...]  # (N,)
    abstracts: tuple[str, ...]  # (N,)
    categories: NDArray[np.int32]  # (N,) into category_names
    subcategories: NDArray[np.int32]  # (N,) into subcategory_names
    entities: Ragged  # N rows into entity_ids: entities of the title
    category_names: tuple[str, ...]
    subcategory_names: tuple[str, ...]
    entity_ids: tuple[str, ...]  # WikiData ids
    published: NDArray[np.int64] | None = None  # (N,) seconds since 1970, where the source tells

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Behaviors:
    """M impressions: who saw which candidates, with what history, and what was clicked."""

    impression_ids: tuple[str, ...]  # (M,)
    users: NDArray[np.int32]  # (M,) into user_ids
    user_ids: tuple[str, ...]
    times: NDArray[np.int64]  # (M,) seconds since 1970
    histories: Ragged  # M rows of news, oldest first
    candidates: Ragged  # M rows of news, as shown
    labels: NDArray[np.int8] | None  # (candidates in all,) 0 or 1; None where the file has none

    def __len__(self) -> int:
        return len(self.impression_ids)

    def take(self, rows: NDArray[np.integer]) -> Behaviors:
        """The given impressions, in the given order."""
        labels = None
        if self.labels is not None:
            labels = (
                Ragged(self.labels.astype(np.int32), self.candidates.offsets)
                .take(rows)
                .values.astype(np.int8)
            )
        return Behaviors(
            impression_ids=tuple(self.impression_ids[row] for row in rows.tolist()),
            users=self.users[rows],
            user_ids=self.user_ids,
            times=self.times[rows],
            histories=self.histories.take(rows),
            candidates=self.candidates.take(rows),
            labels=labels,
        )
