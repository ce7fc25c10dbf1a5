"""The nearest vectors of an index: exactly where they are few, by a graph (HNSW of `usearch`) where they are many.

The graph is a file beside the database, which says up to which passage it goes. Its vectors have 8 bits a number; what
it finds is compared again by the database's own. Newer passages are compared exactly, removed ones are passed over, and
an update extends the graph when either are many. The database is told of a new graph
only when its file is whole; a graph that is missing or damaged costs time, not results.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from multiway_core import files
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_text.search.store import Index

EXACT = 50_000
"""Vectors that are compared one by one; more are put into the graph."""
MAX_STALE = 0.25
"""Of a graph's passages that may be removed ones before it is built anew."""
CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 16, 128, 256
DTYPE = "i8"
CANDIDATES = 64
"""Of the graph, at least, that are compared again by their float16 vectors: 8 bits alone lose 2 % of recall@10."""
_BLOCK = 65_536
_QUERIES, _KEYS = 512, 8192  # of a block of products
Found = list[tuple[int, float]]


class VectorSearch:
    """Nearest vectors of one index; what was read stays in memory until the index changes."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._version: int | None = None
        self._graph: Any = None
        self._ids = np.empty(0, np.int64)
        self._unit_NE = np.empty((0, 0), np.float32)

    def nearest(self, query_E: NDArray[np.float32], top: int, *, ids: Sequence[int] | None = None) -> Found:
        """(passage, cosine), best first. ``ids``: only among these. The passages may belong to unfinished documents."""
        self._refresh()
        if ids is not None:
            if self._graph is not None:
                return _nearest(*self._read(ids=ids), query_E, top)
            kept = np.isin(self._ids, np.asarray(ids, np.int64))
            return _nearest(self._ids[kept], self._unit_NE[kept], query_E, top)
        found = _nearest(self._ids, self._unit_NE, query_E, top)
        if self._graph is not None:
            keys = self._graph.search(query_E, max(top, CANDIDATES)).keys
            found += _nearest(*self._read(ids=[int(key) for key in keys]), query_E, top)
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:top]

    def all(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(ids, vectors (passages, width)) of all passages."""
        return self._read()

    def _refresh(self) -> None:
        version = self.index.version()
        if version == self._version:
            return
        self._graph, last = open_graph(self.index)
        self._ids, self._unit_NE = self._read(after=last)
        self._version = version

    def _read(self, **which: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        ids, vectors_NE = self.index.vectors(**which)
        return ids, vectors_NE.astype(np.float32)


def _nearest(
    ids: NDArray[np.int64], unit_NE: NDArray[np.float32], query_E: NDArray[np.float32], top: int
) -> Found:
    cosines = unit_NE @ query_E if len(ids) else np.empty(0, np.float32)
    places = np.argpartition(-cosines, top - 1)[:top] if len(ids) > top else np.arange(len(ids))
    order = places[np.lexsort((ids[places], -cosines[places]))]
    return [(int(ids[place]), float(cosines[place])) for place in order]


def nearest_rows(
    queries_NE: NDArray[Any], keys_ME: NDArray[Any], top: int, *, exact: int = EXACT
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(places, cosines), each (N, top), of the keys nearest to each query, all of length 1; best first.

    Compared one by one up to ``exact`` keys, by a graph in memory above. ``top`` is at most the number of keys.
    """
    top = min(top, len(keys_ME))
    places_NK = np.empty((len(queries_NE), top), np.int64)
    cosines_NK = np.empty((len(queries_NE), top), np.float32)
    graph = None
    if len(keys_ME) > exact:
        graph = _graph(keys_ME.shape[1])
        graph.add(np.arange(len(keys_ME), dtype=np.uint64), keys_ME)
    for start in range(0, len(queries_NE), _QUERIES):
        block = slice(start, start + _QUERIES)
        some_QE = queries_NE[block].astype(np.float32)
        if graph is not None:
            keys = graph.search(some_QE, max(top, CANDIDATES)).keys
            near_QC = np.atleast_2d(keys).astype(np.int64)
            cosines_QC = np.einsum("qe,qce->qc", some_QE, keys_ME[near_QC].astype(np.float32))
            order_QK = np.lexsort((near_QC, -cosines_QC))[:, :top]
            places_NK[block] = np.take_along_axis(near_QC, order_QK, 1)
            cosines_NK[block] = np.take_along_axis(cosines_QC, order_QK, 1)
        else:
            places_NK[block], cosines_NK[block] = _best_of_blocks(some_QE, keys_ME, top)
    return places_NK, cosines_NK


def _best_of_blocks(
    queries_QE: NDArray[np.float32], keys_ME: NDArray[Any], top: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Block after block of keys, so that the products never need more than a block's memory."""
    best_QK: NDArray[np.int64] = np.empty((len(queries_QE), 0), np.int64)
    held_QK: NDArray[np.float32] = np.empty((len(queries_QE), 0), np.float32)
    for start in range(0, len(keys_ME), _KEYS):
        cosines_QB = queries_QE @ keys_ME[start : start + _KEYS].astype(np.float32).T
        chosen_QK = np.argpartition(-cosines_QB, min(top, cosines_QB.shape[1]) - 1)[:, :top]
        best_QK = np.concatenate([best_QK, start + chosen_QK], 1)
        held_QK = np.concatenate([held_QK, np.take_along_axis(cosines_QB, chosen_QK, 1)], 1)
        order_QK = np.lexsort((best_QK, -held_QK))[:, :top]
        best_QK = np.take_along_axis(best_QK, order_QK, 1)
        held_QK = np.take_along_axis(held_QK, order_QK, 1)
    return best_QK, held_QK


def open_graph(index: Index) -> tuple[Any, int]:
    """The graph and the last passage in it, or (None, 0)."""
    told = index.meta().get("graph")
    if told is None or told.get("dtype") != DTYPE:
        return None, 0
    path = index.folder / told["file"]
    graph = _graph(index.settings.width)
    try:
        graph.view(str(path))
        if len(graph) != told["size"]:
            return None, 0
    except Exception:  # whatever usearch raises for a file that is missing or damaged: all is in the database
        return None, 0
    return graph, int(told["last"])


def extend_graph(index: Index, *, exact: int = EXACT) -> bool:
    """Bring the graph up to date if that is due; whether it was. Call with the right to write."""
    old, last = open_graph(index)
    # Passages are counted by their small index: to count vectors all of them would be read.
    total, newest, newer = index.connection.execute(
        "SELECT (SELECT count(*) FROM chunks), (SELECT coalesce(max(chunk), 0) FROM vectors), "
        "(SELECT count(*) FROM vectors WHERE chunk > ?)",
        (last,),
    ).fetchone()
    behind = total - newer
    stale = 0 if old is None else len(old) - behind
    if total <= exact:
        told = index.meta().get("graph") is not None
        if told:
            _tell(index, None)
        return told
    if old is not None and total - behind <= exact and stale <= MAX_STALE * len(old):
        return False
    graph = _graph(index.settings.width)
    if old is not None and stale <= MAX_STALE * len(old):
        graph.load(str(index.folder / index.meta()["graph"]["file"]))
        gone = np.setdiff1d(np.asarray(graph.keys, np.int64), _ids(index, last), assume_unique=True)
        if len(gone):
            graph.remove(gone)
    else:
        last = 0
    while last < newest:
        rows = index.connection.execute(
            "SELECT * FROM vectors WHERE chunk > ? ORDER BY chunk LIMIT ?", (last, _BLOCK)
        ).fetchall()
        if not rows:
            break
        vectors_NE = np.frombuffer(b"".join(row[1] for row in rows), np.float16).reshape(len(rows), -1)
        graph.add(np.array([row[0] for row in rows], np.uint64), vectors_NE)
        last = rows[-1][0]
    name = f"vectors-{secrets.token_hex(4)}.usearch"
    with files.atomic_write(index.folder / name) as file:
        graph.save(file.name)
    _tell(index, {"file": name, "last": int(last), "size": len(graph), "dtype": DTYPE})
    return True


def _ids(index: Index, last: int) -> NDArray[np.int64]:
    rows = index.connection.execute("SELECT chunk FROM vectors WHERE chunk <= ?", (last,)).fetchall()
    return np.array([number for (number,) in rows], np.int64)


def _tell(index: Index, graph: dict[str, Any] | None) -> None:
    """Switch to another graph's file in one step, then remove the others."""
    with index.transaction():
        index.set_meta("graph", graph)
    for path in index.folder.glob("vectors-*.usearch"):
        if graph is None or path.name != graph["file"]:
            with suppress(OSError):
                path.unlink()


def _graph(width: int) -> Any:
    try:
        from usearch.index import Index as Graph
    except ModuleNotFoundError as error:
        raise InputError("a large index needs usearch: pip install 'multiway-text[search]'") from error
    return Graph(
        ndim=width,
        metric="cos",
        dtype=DTYPE,
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )
