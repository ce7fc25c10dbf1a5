"""Readers of a running service: their histories from the log, and the clicks that come while it runs.

Clicks are kept in memory. A restart begins again from the log.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_recsys.data.tables import Behaviors, Ragged
from multiway_recsys.serving.folder import Readers

MAX_READERS, MAX_CLICKS = 1_000_000, 1000
"""Readers that are remembered beside those of the log, and clicks of one of them, the latest."""
_SIMILAR_IDS = 3


class OnlineReaders:
    """Histories by reader, as rows of the catalogue, oldest click first."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._rows = {id_: row for row, id_ in enumerate(readers.ids) if id_}
        self._clicked: dict[str, list[int]] = {}
        self._lock = threading.Lock()

    def history(self, user: str, whose: str) -> list[int]:
        """Rows that a reader clicked. Raises InputError: there is no such reader among those of ``whose``."""
        row, clicked = self._rows.get(user), self._clicked.get(user)
        if row is None and clicked is None:
            some = ", ".join(list(self._rows)[:_SIMILAR_IDS]) or "none"
            raise InputError(
                f"no reader {user!r} among the {len(self._rows)} of {whose} (such as {some}); give a history instead"
            )
        known = [] if row is None else self._readers.histories[row].tolist()
        return [*known, *(clicked or [])]

    def click(self, user: str, rows: Sequence[int]) -> None:
        """Append clicks to a reader's history; a new reader is taken in. Raises InputError: too many new readers."""
        if not user or not user.isprintable() or len(user) > 200:
            raise InputError(f"reader {user[:80]!r}: expected a printable id of at most 200 characters")
        with self._lock:
            if user not in self._clicked and len(self._clicked) >= MAX_READERS:
                raise InputError(f"clicks of {MAX_READERS} readers are kept already; start the service again")
            kept = self._clicked.setdefault(user, [])
            kept.extend(int(row) for row in rows)
            del kept[:-MAX_CLICKS]


def clicks_as_log(rows: NDArray[np.integer], at: int) -> Behaviors:
    """Clicks at one moment as impressions of one candidate each, for statistics of popularity."""
    count = len(rows)
    return Behaviors(
        impression_ids=("",) * count,
        users=np.zeros(count, np.int32),
        user_ids=("",),
        times=np.full(count, at, np.int64),
        histories=Ragged.from_rows([[]] * count),
        candidates=Ragged(np.asarray(rows, np.int32), np.arange(count + 1, dtype=np.int64)),
        labels=np.ones(count, np.int8),
    )
