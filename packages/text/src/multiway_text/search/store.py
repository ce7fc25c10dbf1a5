"""The index on disk: a folder whose SQLite file is the truth about documents, passages, words and vectors.

What changes together is one transaction, so a reader never sees half a document and a writer may be killed at any
moment. Vectors stand in the same file; ``vectors`` builds a graph of them beside it, which can be thrown away.
Documents and passages have a ``kind``: a picture is a document of one passage, whose text names what is seen.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core import files
from multiway_core.errors import InputError, OutputError, os_reason
from numpy.typing import NDArray

from multiway_text.search import lexical
from multiway_text.search.chunks import Chunk
from multiway_text.search.pictures import EVERYWHERE, PictureFacts, Scope, distance_km

FORMAT = 1
DATABASE = "index.sqlite"
CANDIDATES = 20_000
"""Passages that BM25 scores, 40 ms; where a query's words are in more, its rarest words choose them."""
_LOCK = "writer.lock"
_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE roots (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE documents (
  id INTEGER PRIMARY KEY, path TEXT NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  sha256 TEXT NOT NULL, whole INTEGER NOT NULL, sections INTEGER NOT NULL, problem TEXT, UNIQUE (path, whole));
CREATE TABLE chunks (
  id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents (id), kind TEXT NOT NULL,
  place TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, text TEXT NOT NULL);
CREATE INDEX chunks_of_document ON chunks (document);
CREATE TABLE vectors (chunk INTEGER PRIMARY KEY REFERENCES chunks (id), vector BLOB NOT NULL);
CREATE VIRTUAL TABLE words USING fts5 (body, content = '', tokenize = "{lexical.TOKENIZER}");
"""
_PICTURES = (
    "CREATE TABLE IF NOT EXISTS pictures (document INTEGER PRIMARY KEY REFERENCES documents (id), taken TEXT, "
    "latitude REAL, longitude REAL)"
)
_WORDS_OUT = (
    "INSERT INTO words (words, rowid, body) SELECT 'delete', id, indexed(text) FROM chunks WHERE document = ?"
)
_DOCUMENTS = "JOIN documents d ON d.id = c.document LEFT JOIN pictures p ON p.document = d.id"


@dataclass(frozen=True)
class IndexSettings:
    """What an index was made with; ``version`` is a digest of the model's files.

    ``text_field``: of rows. ``overlap`` and ``chunk_tokens`` as of ``ChunkSettings``.
    """

    model: str
    version: str
    width: int
    chunk_tokens: int = 200
    overlap: int = 0
    text_field: str = "text"


@dataclass(frozen=True)
class Stored:
    """What the index knows of a document. ``sections``: how many of its sections are in; ``problem``: why not all."""

    id: int
    path: str
    kind: str
    size: int
    mtime_ns: int
    sha256: str
    whole: bool
    sections: int
    problem: str | None


@dataclass(frozen=True)
class Passage:
    """A passage as it was stored: its document's path, and characters [start, end) of the section ``place``."""

    id: int
    path: str
    kind: str
    place: str
    start: int
    end: int
    text: str


class Index:
    """One index. Reading is possible at any time and from any number of processes; see :meth:`writing`.

    Raises InputError: there is no index in the folder, or not one that this version reads.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / DATABASE).is_file():
            raise InputError(
                f"{folder}: no index is here; multiway-search index FOLDER -o {folder} makes one"
            )
        try:
            self.connection = _connect(self.folder / DATABASE)
            self.connection.execute(_PICTURES)  # indexes of the first versions have no such table
            meta = self.meta()
        except sqlite3.Error as error:
            raise InputError(f"{folder}: the index cannot be read ({error}); make it again") from error
        if meta.get("format") != FORMAT:
            self.close()
            raise InputError(
                f"{folder}: an index of format {meta.get('format')}, this version reads {FORMAT}"
            )
        self.settings = IndexSettings(**meta["settings"])
        self._counted: tuple[int, int, frozenset[int]] = (-1, 0, frozenset())
        self._asked: tuple[tuple[Any, ...], dict[str, int]] = ((), {})

    @classmethod
    def create(cls, folder: Path, settings: IndexSettings) -> Index:
        """A new index in a folder without one. Raises OutputError, InputError (the folder holds something else)."""
        folder = Path(folder)
        if folder.is_dir() and any(not path.name.startswith((_LOCK, ".")) for path in folder.iterdir()):
            raise InputError(f"{folder}: the folder is not empty and holds no index; give a new folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {os_reason(error)}") from error
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(_SCHEMA)
            connection.execute(_PICTURES)
            rows = [("format", json.dumps(FORMAT)), ("settings", json.dumps(vars(settings)))]
            connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            connection.commit()
            files.write_bytes(folder / DATABASE, connection.serialize())  # whole or absent
        return cls(folder)

    def close(self) -> None:
        """Close the files."""
        self.connection.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The right to write, of one process at a time. Raises InputError: another has it; OutputError."""
        with writer_lock(self.folder):
            yield

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. Raises OutputError: no space, no permission."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            with self.connection:
                yield self.connection
        except sqlite3.OperationalError as error:
            raise OutputError(f"cannot write the index {self.folder}: {error}") from error

    # What is there

    def meta(self) -> dict[str, Any]:
        """All that is recorded of the index as a whole."""
        return {
            key: json.loads(value) for key, value in self.connection.execute("SELECT key, value FROM meta")
        }

    def set_meta(self, key: str, value: Any) -> None:
        """Inside a transaction."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def documents(self, *, whole: bool | None = True) -> Iterator[Stored]:
        """Documents by path; ``whole`` False: those of which an interrupted run left a part; None: both."""
        rows = self.connection.execute(
            "SELECT * FROM documents WHERE ?1 IS NULL OR whole = ?1 ORDER BY path", (whole,)
        )
        for row in rows:
            id, path, kind, size, mtime_ns, sha256, is_whole, sections, problem = row
            yield Stored(id, path, kind, size, mtime_ns, sha256, bool(is_whole), sections, problem)

    def count(self) -> int:
        """Passages that can be found."""
        return self._whole()[0]

    def _whole(self) -> tuple[int, frozenset[int]]:
        """(passages of whole documents, ids of those of the others), kept until the index changes."""
        version = self.version()
        if self._counted[0] != version:
            query = "SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document WHERE NOT d.whole"
            parts = frozenset(number for (number,) in self.connection.execute(query))
            count = int(self._one("SELECT count(*) FROM chunks")) - len(parts)
            self._counted = (version, count, parts)
        return self._counted[1:]

    def roots(self) -> list[str]:
        """Folders and files that were given to be indexed."""
        return [path for (path,) in self.connection.execute("SELECT path FROM roots ORDER BY path")]

    def version(self) -> int:
        """Changes when another process, or this one, has changed the index."""
        return int(self._one("PRAGMA data_version")) * (1 << 32) + self.connection.total_changes

    def passages(self, ids: Sequence[int], scope: Scope = EVERYWHERE) -> dict[int, Passage]:
        """Passages by id: those that are there, of whole documents in ``scope``."""
        found = {}
        condition, values = scope.condition()
        for start in range(0, len(ids), 500):
            some = ids[start : start + 500]
            rows = self.connection.execute(
                "SELECT c.id, d.path, c.kind, c.place, c.start, c.end, c.text FROM chunks c "
                f"{_DOCUMENTS} WHERE c.id IN ({', '.join('?' * len(some))}) AND {condition}",
                [*some, *values],
            )
            found.update({row[0]: Passage(*row) for row in rows})
        return found

    def ids(self, scope: Scope) -> list[int]:
        """Passages of whole documents in ``scope``."""
        condition, values = scope.condition()
        query = f"SELECT c.id FROM chunks c {_DOCUMENTS} WHERE {condition}"
        return [number for (number,) in self.connection.execute(query, values)]

    def vectors(
        self, *, after: int = 0, ids: Sequence[int] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """(ids, vectors (passages, width)) of passages with an id above ``after``, or of ``ids``, by id."""
        if ids is None:
            rows = self.connection.execute(
                "SELECT * FROM vectors WHERE chunk > ? ORDER BY chunk", (after,)
            ).fetchall()
        else:
            rows = []
            for start in range(0, len(ids), 500):
                some = sorted(ids)[start : start + 500]
                query = f"SELECT * FROM vectors WHERE chunk IN ({', '.join('?' * len(some))}) ORDER BY chunk"
                rows += self.connection.execute(query, some).fetchall()
        data = b"".join(vector for _, vector in rows)
        vectors_NE = np.frombuffer(data, np.float16).reshape(len(rows), self.settings.width)
        return np.array([number for number, _ in rows], np.int64), vectors_NE

    def lexical(
        self, terms: Sequence[str], top: int, scope: Scope = EVERYWHERE, *, candidates: int = CANDIDATES
    ) -> list[tuple[int, float]]:
        """(passage, BM25), best first, of passages with any of the terms that ``lexical.match`` makes of a query.

        Where the terms are in more than ``candidates`` passages, those are scored that have one of its rarest terms, or
        several of the others; a score is of all terms all the same. In a ``scope`` all are scored.
        """
        if not terms:
            return []
        hidden = self._whole()[1]
        query = "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?"
        values: list[str | int] = [" OR ".join(terms)]
        if scope:
            condition, more = scope.condition()
            # +: rows of the MATCH are looked up, not a MATCH made for each
            query += f" AND +rowid IN (SELECT c.id FROM chunks c {_DOCUMENTS} WHERE {condition})"
            values += more
        elif chosen := self._candidates(terms, top, candidates):
            part = "SELECT * FROM (SELECT rowid FROM words WHERE words MATCH ? LIMIT ?)"
            query += f" AND +rowid IN ({' UNION ALL '.join([part] * len(chosen))})"
            values += chain.from_iterable(chosen)
        query += " ORDER BY 2 DESC, rowid LIMIT ?"
        rows = self.connection.execute(query, (*values, top + len(hidden)))
        return [(number, score) for number, score in rows if number not in hidden][:top]

    def best_bm25(self, terms: Sequence[str]) -> float:
        """More than any passage can have: k1 + 1 (FTS5: 2.2) times the terms' inverse document frequencies."""
        count, parts = self._whole()
        total = count + len(parts)
        found = self._counts(terms)
        return 2.2 * sum(
            max(math.log((total - found[term] + 0.5) / (found[term] + 0.5)), 1e-6) for term in terms
        )

    def _candidates(self, terms: Sequence[str], top: int, most: int) -> list[tuple[str, int]]:
        """(expression, how many passages with it) of what is scored, ``most`` together; none: all with any term.

        The rarest terms that are in fewer; then as many of the others at once as leave ``top``, until they are in few.
        """
        if int(self._one("SELECT coalesce(max(id), 0) FROM chunks")) <= most:
            return []
        counts = self._counts(terms)
        if sum(counts.values()) <= most:
            return []
        order = sorted(terms, key=lambda term: counts[term])
        totals = list(accumulate(counts[term] for term in order))
        rare = sum(total <= most for total in totals)
        left = most - (totals[rare - 1] if rare else 0)
        common, count = order[rare], counts[order[rare]]
        for term in order[rare + 1 :]:
            both = f"{common} AND {term}"
            if count <= left or (found := self._matches(both)) < top:
                break
            common, count = both, found
        return [*([(" OR ".join(order[:rare]), most)] if rare else []), (common, left)]

    def _counts(self, terms: Sequence[str]) -> dict[str, int]:
        """Of each term, how many passages have it: of the last query, which asks for its candidates and its best."""
        key = (self.version(), *terms)
        asked, counts = self._asked
        if asked != key:
            counts = {term: self._matches(term) for term in terms}
            self._asked = (key, counts)
        return counts

    def _matches(self, expression: str) -> int:
        query = "SELECT count(*) FROM words WHERE words MATCH ?"
        return int(self.connection.execute(query, (expression,)).fetchone()[0])

    # What changes: each inside a transaction of the caller

    def begin(
        self, path: str, kind: str, size: int, mtime_ns: int, sha256: str, *, whole: bool = False
    ) -> int:
        """A new document in place of the part or (``whole``) the document of this path; its id."""
        for (number,) in self.connection.execute(
            "SELECT id FROM documents WHERE path = ? AND whole = ?", (path, whole)
        ).fetchall():
            self.remove(number)
        values = (path, kind, size, mtime_ns, sha256, whole)
        row = self.connection.execute(
            "INSERT INTO documents (path, kind, size, mtime_ns, sha256, whole, sections) VALUES (?, ?, ?, ?, ?, ?, 0)",
            values,
        )
        assert row.lastrowid is not None
        return row.lastrowid

    def add(
        self, document: int, chunks: Sequence[Chunk], vectors_NE: NDArray[Any], *, kind: str = "text"
    ) -> None:
        """Passages of a document with their vectors (passages, width) of length 1."""
        for chunk, vector in zip(chunks, vectors_NE.astype(np.float16), strict=True):
            row = self.connection.execute(
                "INSERT INTO chunks (document, kind, place, start, end, text) VALUES (?, ?, ?, ?, ?, ?)",
                (document, kind, chunk.place, chunk.start, chunk.end, chunk.text),
            )
            self.connection.execute("INSERT INTO vectors VALUES (?, ?)", (row.lastrowid, vector.tobytes()))
            self.connection.execute(
                "INSERT INTO words (rowid, body) VALUES (?, ?)", (row.lastrowid, lexical.indexed(chunk.text))
            )

    def add_facts(self, document: int, facts: PictureFacts) -> None:
        """Day and place of a picture."""
        values = (document, facts.taken, facts.latitude, facts.longitude)
        self.connection.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?)", values)

    def finish(self, document: int, problem: str | None = None) -> None:
        """The document is whole: it replaces the one that had its path."""
        (path,) = self.connection.execute("SELECT path FROM documents WHERE id = ?", (document,)).fetchone()
        for (number,) in self.connection.execute(
            "SELECT id FROM documents WHERE path = ? AND whole AND id != ?", (path, document)
        ).fetchall():
            self.remove(number)
        self.connection.execute(
            "UPDATE documents SET whole = 1, problem = ? WHERE id = ?", (problem, document)
        )

    def remove(self, document: int) -> None:
        """A document with its passages."""
        self.connection.execute(_WORDS_OUT, (document,))
        self.connection.execute(
            "DELETE FROM vectors WHERE chunk IN (SELECT id FROM chunks WHERE document = ?)", (document,)
        )
        self.connection.execute("DELETE FROM chunks WHERE document = ?", (document,))
        self.connection.execute("DELETE FROM pictures WHERE document = ?", (document,))
        self.connection.execute("DELETE FROM documents WHERE id = ?", (document,))

    def set(self, document: int, **values: Any) -> None:
        """Change columns of a document."""
        names = ", ".join(f"{name} = ?" for name in values)
        self.connection.execute(f"UPDATE documents SET {names} WHERE id = ?", [*values.values(), document])

    def _one(self, query: str) -> Any:
        return self.connection.execute(query).fetchone()[0]


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Held by the one process that writes; the system lets go of it however the process ends.

    Raises InputError: another process holds it; OutputError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            folder / _LOCK, timeout=0, isolation_level=None
        )  # a lock on every system
    except (OSError, sqlite3.Error) as error:
        raise OutputError(f"cannot write in {folder}: {error}") from error
    try:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise InputError(
                    f"{folder}: another process writes to this index; wait until it is done"
                ) from error
            raise OutputError(f"cannot write in {folder}: {error}") from error
        yield
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    connection.create_function("distance_km", 4, distance_km, deterministic=True)
    connection.create_function("indexed", 1, lexical.indexed, deterministic=True)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def as_unit(vectors_NE: NDArray[Any]) -> NDArray[np.float32]:
    """Vectors of length 1; one of zeros stays."""
    lengths_N1 = np.linalg.norm(vectors_NE, axis=-1, keepdims=True)
    return (vectors_NE / np.maximum(lengths_N1, 1e-12)).astype(np.float32)


def pattern(path: str | None) -> str | None:
    """A glob of the user's as one of whole paths: ``*.md``, ``projects/*``."""
    return path if path is None or path.startswith(("/", "*")) else f"*/{path}"
