"""The graph on disk: a folder of plain arrays that are memory-mapped, so that any number of processes share one copy.

    meta.json              what the graph is: counts, direction, until, rules of the chains
    indptr.npy indices.npy weights.npy
    co_readers_*.npy       indptr, indices, counts, reads (optional)
    chains.npy             (news, chains, slots) (optional)
    news_ids.txt           one id a line, the first one empty: padding (optional)

The bytes depend on the content alone: no dates, no machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core import config as configs
from multiway_core.errors import ConfigError, DataError, InputError
from multiway_core.files import replace_folder
from numpy.typing import NDArray

from multiway_recsys.graph.chains import ChainConfig
from multiway_recsys.graph.click_graph import ClickGraph, Direction
from multiway_recsys.graph.co_readers import CoReaders
from multiway_recsys.graph.pair_counts import PairCounts

SCHEMA = "multiway.click-graph/1"


@dataclass(frozen=True)
class _CoReadersMeta:
    window: int
    cap: int | None


@dataclass(frozen=True)
class _Meta:
    schema: str
    num_news: int
    num_edges: int
    direction: Direction
    min_weight: int
    until: int | None
    co_readers: _CoReadersMeta | None = None
    chains: ChainConfig | None = None
    vectors: str | None = None


@dataclass(frozen=True)
class StoredGraph:
    """A click graph and what was made of it."""

    graph: ClickGraph
    co_readers: CoReaders | None = None
    chains: NDArray[np.int32] | None = None  # (N, K, L)
    chain_config: ChainConfig | None = None
    """The rule that chose the chains."""
    vectors: str | None = None
    """What tells the news vectors that the chains were chosen with: an encoder's name or hash."""
    news_ids: tuple[str, ...] | None = None  # (N,), the first one empty

    def __post_init__(self) -> None:
        for name, rows in (
            ("co_readers", self.co_readers),
            ("chains", self.chains),
            ("news_ids", self.news_ids),
        ):
            if rows is not None and len(rows) != len(self.graph):
                raise InputError(f"{name} of {len(rows)} news for a graph of {len(self.graph)}")
        if (self.chains is None) != (self.chain_config is None):
            raise InputError("chains are kept together with the rule that chose them: give both or neither")

    def save(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write the folder, whole or not at all. Raises OutputError, also for a folder with content."""
        graph, co_readers = self.graph, self.co_readers
        meta = _Meta(
            schema=SCHEMA,
            num_news=len(graph),
            num_edges=graph.num_edges,
            direction=graph.direction,
            min_weight=graph.min_weight,
            until=graph.until,
            co_readers=None if co_readers is None else _CoReadersMeta(co_readers.window, co_readers.cap),
            chains=self.chain_config,
            vectors=self.vectors,
        )
        arrays: dict[str, NDArray[Any]] = {
            "indptr": graph.indptr,
            "indices": graph.indices,
            "weights": graph.weights,
        }
        if co_readers is not None:
            arrays |= {f"co_readers_{name}": getattr(co_readers, name) for name in _CO_READERS}
        if self.chains is not None:
            arrays["chains"] = self.chains
        with replace_folder(folder, overwrite=overwrite) as temporary:
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
            _write_texts(temporary, meta, self.news_ids)

    @classmethod
    def load(cls, folder: Path) -> StoredGraph:
        """Open what `save` wrote; arrays are mapped, read when they are used, and cannot be written.

        Raises DataError: no such folder, a missing or damaged file, arrays that do not fit each other.
        """
        folder = Path(folder)
        if not (folder / "meta.json").is_file():
            raise DataError(f"{folder}: no click graph (meta.json is missing)")
        try:
            meta = configs.load(_Meta, folder / "meta.json")
        except ConfigError as error:
            raise DataError(f"{error}; build the graph anew") from error
        if meta.schema != SCHEMA:
            raise DataError(f"{folder / 'meta.json'}: schema {meta.schema!r}, this version reads {SCHEMA!r}")
        num_news = meta.num_news
        graph = ClickGraph(
            indptr=_row_starts(folder / "indptr.npy", num_news, meta.num_edges),
            indices=_column(folder / "indices.npy", meta.num_edges, num_news),
            weights=_array(folder / "weights.npy", np.float32, (meta.num_edges,)),
            until=meta.until,
            direction=meta.direction,
            min_weight=meta.min_weight,
        )
        co_readers = None
        if meta.co_readers is not None:
            path = folder / "co_readers_indptr.npy"
            indptr = _row_starts(path, num_news, None)
            entries = int(indptr[-1])
            co_readers = CoReaders(
                indptr=indptr,
                indices=_column(folder / "co_readers_indices.npy", entries, num_news),
                counts=_array(folder / "co_readers_counts.npy", np.int32, (entries,)),
                reads=_array(folder / "co_readers_reads.npy", np.int32, (num_news,)),
                window=meta.co_readers.window,
                cap=meta.co_readers.cap,
            )
        chains = None
        if meta.chains is not None:
            shape = (num_news, meta.chains.num_chains, meta.chains.width)
            chains = _array(folder / "chains.npy", np.int32, shape)
            _check_range(folder / "chains.npy", chains, num_news)
        news_ids = None
        if (folder / "news_ids.txt").exists():
            news_ids = _lines(folder / "news_ids.txt", num_news)
        return cls(graph, co_readers, chains, meta.chains, meta.vectors, news_ids)


class GraphWriter:
    """Writes the folder of a graph piece by piece, for graphs that are not in memory: a context manager.

    First `edges` in ascending rows, then perhaps `co_readers`, then `finish`. The folder appears when the block ends.
    """

    def __init__(self, folder: Path, num_news: int, *, overwrite: bool = False) -> None:
        self._num_news = num_news
        self._replacing = replace_folder(folder, overwrite=overwrite)
        self._degrees = np.zeros(num_news, np.int64)
        self._co_readers: _CoReadersMeta | None = None

    def __enter__(self) -> GraphWriter:
        self._folder = self._replacing.__enter__()
        self._indices = _ColumnWriter(self._folder / "indices.npy", np.int32)
        self._weights = _ColumnWriter(self._folder / "weights.npy", np.float32)
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._replacing.__exit__(*error)

    def edges(
        self, rows: NDArray[np.integer], neighbours: NDArray[np.integer], weights: NDArray[Any]
    ) -> None:
        """More edges; `neighbours` and `weights` in the order of their rows."""
        self._degrees += np.bincount(rows, minlength=self._num_news)
        self._indices.write(neighbours)
        self._weights.write(weights)

    def co_readers(
        self, parts: Iterable[PairCounts], reads: NDArray[np.int32], *, window: int, cap: int | None
    ) -> None:
        """All co-readers, in ascending parts that are cut to `cap` already."""
        degrees = np.zeros(self._num_news, np.int64)
        indices = _ColumnWriter(self._folder / "co_readers_indices.npy", np.int32)
        counts = _ColumnWriter(self._folder / "co_readers_counts.npy", np.int32)
        for part in parts:
            sources = part.sources
            degrees += np.bincount(sources, minlength=self._num_news)
            indices.write(part.keys - sources * self._num_news)
            counts.write(part.counts)
        indices.finish()
        counts.finish()
        self._save("co_readers_indptr", np.concatenate([[0], np.cumsum(degrees)]))
        self._save("co_readers_reads", reads)
        self._co_readers = _CoReadersMeta(window, cap)

    def finish(
        self, *, direction: Direction, min_weight: int, until: int | None, news_ids: Sequence[str] | None
    ) -> None:
        """Write what describes the graph."""
        self._indices.finish()
        self._weights.finish()
        self._save("indptr", np.concatenate([[0], np.cumsum(self._degrees)]))
        meta = _Meta(
            schema=SCHEMA,
            num_news=self._num_news,
            num_edges=self._indices.length,
            direction=direction,
            min_weight=min_weight,
            until=until,
            co_readers=self._co_readers,
        )
        _write_texts(self._folder, meta, news_ids)

    def _save(self, name: str, array: NDArray[Any]) -> None:
        np.save(self._folder / f"{name}.npy", array, allow_pickle=False)


class _ColumnWriter:
    """A one-dimensional .npy file whose length is known at the end: the body first, then the header before it."""

    def __init__(self, path: Path, dtype: type) -> None:
        self._path, self._dtype, self.length = path, np.dtype(dtype), 0
        self._body = path.with_suffix(".body")
        self._body.touch()

    def write(self, values: NDArray[Any]) -> None:
        with self._body.open("ab") as file:
            values.astype(self._dtype).tofile(file)
        self.length += len(values)

    def finish(self) -> None:
        """Header and body, as np.save would have written them."""
        with self._path.open("wb") as file:
            header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.length,)}
            np.lib.format.write_array_header_1_0(file, header)
            with self._body.open("rb") as body:
                shutil.copyfileobj(body, file, 1 << 20)
        self._body.unlink()


def _write_texts(folder: Path, meta: _Meta, news_ids: Sequence[str] | None) -> None:
    if news_ids is not None:
        if len(news_ids) != meta.num_news:
            raise InputError(f"news_ids of {len(news_ids)} news for a graph of {meta.num_news}")
        if any("\n" in news or "\r" in news for news in news_ids):
            raise InputError("a news id with a line break cannot be kept, one id stands on each line")
        text = "".join(f"{news}\n" for news in news_ids)
        (folder / "news_ids.txt").write_text(text, encoding="utf-8", newline="")
    content = json.dumps(configs.to_dict(meta), indent=2) + "\n"
    (folder / "meta.json").write_text(content, encoding="utf-8", newline="")


_CO_READERS = ("indptr", "indices", "counts", "reads")


def _array(path: Path, dtype: type, shape: tuple[int, ...]) -> NDArray[Any]:
    array = _mapped(path)
    if array.dtype != dtype or array.shape != shape:
        raise DataError(
            f"{path}: {array.dtype} of shape {array.shape}, expected {np.dtype(dtype)} of shape {shape}"
        )
    return array


def _mapped(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, the graph is not whole; build it anew") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a whole NumPy file ({error}); build the graph anew") from error


def _row_starts(path: Path, num_news: int, entries: int | None) -> NDArray[np.int64]:
    indptr = _array(path, np.int64, (num_news + 1,))
    if indptr[0] != 0 or (np.diff(indptr) < 0).any() or (entries is not None and indptr[-1] != entries):
        raise DataError(
            f"{path}: row starts must ascend from 0 to the number of entries; build the graph anew"
        )
    return indptr


def _column(path: Path, entries: int, num_news: int) -> NDArray[np.int32]:
    indices = _array(path, np.int32, (entries,))
    _check_range(path, indices, num_news)
    return indices


def _check_range(path: Path, indices: NDArray[np.int32], num_news: int) -> None:
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < num_news:
        raise DataError(f"{path}: news outside 0 to {num_news - 1}; build the graph anew")


def _lines(path: Path, num_news: int) -> tuple[str, ...]:
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as UTF-8 text ({error})") from error
    if len(lines) != num_news + 1 or lines[-1]:
        raise DataError(f"{path}: {len(lines) - 1} ids, expected {num_news}, one a line")
    return tuple(lines[:-1])
