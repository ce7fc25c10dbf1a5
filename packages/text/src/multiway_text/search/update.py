"""An index brought up to date with files: what changed is read and embedded, what vanished is removed.

A file is looked into when its size or time differ from those recorded, and read when its SHA-256 does. Passages whose
text was there before keep their vectors; a renamed file keeps everything. Work is committed in groups of passages: a
run that was stopped anywhere goes on behind the last group, also inside a large file.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError, InputError, os_reason
from multiway_core.files import sha256
from numpy.typing import NDArray

from multiway_text.search import extract, vectors
from multiway_text.search.chunks import Chunk
from multiway_text.search.pictures import (
    PICTURE,
    Kind,
    PictureEncoder,
    PictureFacts,
    picture_place,
    picture_text,
)
from multiway_text.search.result import UpdateReport
from multiway_text.search.store import Index, Stored

GROUP = 512  # passages that are embedded and committed together
PICTURES = 64  # pictures that are committed together: each takes as long as many passages
Embed = Callable[[Sequence[str]], NDArray[np.float32]]
Split = Callable[[extract.Section], list[Chunk]]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """A file that is there."""

    path: str
    size: int
    mtime_ns: int


@dataclass
class Scan:
    """The files below paths; ``roots``: those paths; ``unread``: folders and files that could not be looked at."""

    files: dict[str, Source] = field(default_factory=dict)
    roots: list[str] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)

    def covers(self, path: str) -> bool:
        """Whether a document of this path would have been found if it were there."""
        return any(_below(path, root) for root in self.roots) and not any(
            _below(path, p) for p, _ in self.unread
        )


def scan(paths: Sequence[str | Path], *, exclude: Path | None = None, suffixes: Collection[str] = ()) -> Scan:
    """Find files with texts, or of ``suffixes``. Hidden ones, links to folders and ``exclude`` are left out.

    Raises InputError: a path leads nowhere.
    """
    found = Scan()
    skipped = None if exclude is None else os.path.realpath(exclude)
    for given in paths:
        root = os.path.realpath(given)
        if not os.path.lexists(root):
            raise InputError(f"{given}: no such file or folder")
        found.roots.append(root)
        if not Path(root).is_dir():
            _note_file(found, root)
            continue
        for parent, folders, names in os.walk(root, onerror=lambda error: _note_error(found, error)):
            folders[:] = sorted(
                name for name in folders if not name.startswith(".") and str(Path(parent, name)) != skipped
            )
            for name in sorted(names):
                if extract.is_read(name) or _has_suffix(name, suffixes):
                    _note_file(found, str(Path(parent, name)))
    return found


def _has_suffix(name: str, suffixes: Collection[str]) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in suffixes


def _note_file(found: Scan, path: str) -> None:
    try:
        path.encode()
        status = Path(path).stat()
        if not Path(path).is_file():
            raise OSError("no ordinary file")
    except UnicodeEncodeError:
        found.unread.append((path, "the file's name is not UTF-8; rename it"))
    except OSError as error:
        found.unread.append((path, f"cannot be read: {os_reason(error)}"))
    else:
        found.files[path] = Source(path, status.st_size, status.st_mtime_ns)


def _note_error(found: Scan, error: OSError) -> None:
    found.unread.append((str(error.filename), f"cannot be read: {os_reason(error)}"))


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


@dataclass
class _Group:
    """Consecutive passages of one document that are not in the index yet."""

    document: int
    chunks: list[Chunk]
    sections: int
    last: bool
    problem: str | None = None
    kind: Kind = "text"
    facts: PictureFacts | None = None


class Update:
    """One run over what ``scan`` found. Call with the right to write to the index."""

    def __init__(
        self,
        index: Index,
        split: Split,
        embed: Embed,
        on_progress: OnProgress | None = None,
        pictures: PictureEncoder | None = None,
    ) -> None:
        self.index, self.split, self.embed, self.on_progress = index, split, embed, on_progress
        self.pictures = pictures
        self.counts: Counter[str] = Counter()
        self.failed: list[tuple[str, str]] = []
        self.problems: list[tuple[str, str]] = []
        self.groups: list[_Group] = []
        self.old_vectors: dict[int, dict[str, NDArray[np.float16]]] = {}

    def run(self, found: Scan) -> UpdateReport:
        """Raises OutputError: the index cannot be written."""
        started = time.monotonic()
        index = self.index
        with index.transaction():
            for root in found.roots:
                index.connection.execute("INSERT OR IGNORE INTO roots VALUES (?)", (root,))
        known = {document.path: document for document in index.documents()}
        parts = {document.path: document for document in index.documents(whole=False)}
        gone = {path: known[path] for path in known if path not in found.files and found.covers(path)}
        by_digest = {document.sha256: document for document in gone.values()}
        self.failed += found.unread
        for number, source in enumerate(found.files.values(), 1):
            self._file(source, known.get(source.path), parts.pop(source.path, None), gone, by_digest)
            passages = sum(len(group.chunks) for group in self.groups)
            waiting = sum(group.kind == PICTURE for group in self.groups)
            if max(passages, len(self.groups)) >= GROUP or waiting >= PICTURES:
                self._commit()
            if self.on_progress is not None:
                self.on_progress(number, len(found.files))
        self._commit()
        with index.transaction():
            for document in (*gone.values(), *(part for part in parts.values() if found.covers(part.path))):
                index.remove(document.id)
        self.counts["removed"] = len(gone)
        vectors.extend_graph(index)
        count = self.counts
        return UpdateReport(
            added=count["added"],
            changed=count["changed"],
            unchanged=count["unchanged"],
            renamed=count["renamed"],
            removed=count["removed"],
            empty=count["empty"],
            failed=tuple(self.failed),
            problems=tuple(self.problems),
            documents=sum(1 for _ in index.documents()),
            passages=index.count(),
            embedded=count["embedded"],
            pictures=count["pictures"],
            seconds=time.monotonic() - started,
        )

    def _file(
        self,
        source: Source,
        old: Stored | None,
        part: Stored | None,
        gone: dict[str, Stored],
        by_digest: dict[str, Stored],
    ) -> None:
        if old is not None and (old.size, old.mtime_ns) == (source.size, source.mtime_ns):
            self._unchanged(old)
            return
        try:
            digest = sha256(Path(source.path))
        except OSError as error:
            self.failed.append((source.path, f"cannot be read: {os_reason(error)}"))
            return
        same = old if old is not None and old.sha256 == digest else by_digest.get(digest)
        if same is not None and (same is old or (old is None and same.path in gone)):
            with self.index.transaction():
                self.index.set(same.id, path=source.path, size=source.size, mtime_ns=source.mtime_ns)
            if same is old:
                self._unchanged(old)
            else:
                self.counts["renamed"] += 1
                del gone[same.path]
            return
        self._read(source, digest, old, part if part is not None and part.sha256 == digest else None)

    def _unchanged(self, old: Stored) -> None:
        if old.problem is not None and old.sections == 0:
            self.failed.append((old.path, f"{old.problem} (as before)"))
        else:
            self.counts["unchanged"] += 1

    def _read(self, source: Source, digest: str, old: Stored | None, part: Stored | None) -> None:
        """Queue a file's passages; those of a large one are committed on the way."""
        if self.pictures is not None and _has_suffix(Path(source.path).name, self.pictures.suffixes):
            self._picture(source, digest, old, self.pictures)
            return
        done = 0 if part is None else part.sections
        with self.index.transaction():
            document = (
                self.index.begin(source.path, "text", source.size, source.mtime_ns, digest)
                if part is None
                else part.id
            )
        if old is not None:
            self.old_vectors[document] = _vectors_by_text(self.index, old.id)
        problems: list[str] = []
        group = _Group(document, [], done, False)
        reason, read = None, 0
        try:
            for read, section in enumerate(
                extract.sections(
                    Path(source.path), field=self.index.settings.text_field, on_problem=problems.append
                ),
                1,
            ):
                if read <= done:
                    continue
                group.chunks += self.split(section)
                group.sections = read
                if len(group.chunks) >= GROUP:
                    self.groups.append(group)
                    self._commit()
                    group = _Group(document, [], read, False)
        except DataError as error:
            reason = str(error).removeprefix(f"{source.path}: ")
        group.last = True
        group.problem = reason or (problems[0] if problems else None)
        self.groups.append(group)
        if reason is not None and read == 0:
            self.failed.append((source.path, reason))
            return
        if told := [*([reason] if reason else []), *problems]:
            more = f" (and {len(told) - 1:,} more)" if len(told) > 1 else ""
            self.problems.append((source.path, told[0] + more))
        self.counts["changed" if old is not None else "added"] += 1
        if not group.chunks and group.sections <= max(1, done) and not done:
            self.counts["empty"] += 1

    def _picture(self, source: Source, digest: str, old: Stored | None, pictures: PictureEncoder) -> None:
        """Queue a picture: one passage, whose vector is the picture's."""
        with self.index.transaction():
            document = self.index.begin(source.path, PICTURE, source.size, source.mtime_ns, digest)
        group = _Group(document, [], 1, True, kind=PICTURE)
        self.groups.append(group)
        try:
            found = pictures.read(source.path)
        except InputError as error:
            group.sections = 0
            group.problem = str(error).removeprefix(f"{source.path}: ")
            self.failed.append((source.path, group.problem))
            return
        text = picture_text(source.path, found.tags)
        group.chunks, group.facts = [Chunk(text, 0, len(text), picture_place(found.facts))], found.facts
        self.old_vectors[document] = {text: found.vector_E.astype(np.float16)}
        self.counts["changed" if old is not None else "added"] += 1
        self.counts["pictures"] += 1

    def _commit(self) -> None:
        """Embed what waits, and put it in together."""
        groups, self.groups = self.groups, []
        if not groups:
            return
        kept = [self.old_vectors.get(group.document, {}) for group in groups]
        new = dict.fromkeys(
            chunk.text
            for group, old in zip(groups, kept, strict=True)
            for chunk in group.chunks
            if chunk.text not in old
        )
        made = dict(zip(new, self.embed(list(new)), strict=True)) if new else {}
        self.counts["embedded"] += len(made)
        with self.index.transaction():
            for group, old in zip(groups, kept, strict=True):
                rows = [old[c.text] if c.text in old else made[c.text] for c in group.chunks]
                width = self.index.settings.width
                vectors_NE = np.array(rows, np.float32).reshape(-1, width)
                self.index.add(group.document, group.chunks, vectors_NE, kind=group.kind)
                if group.facts is not None:
                    self.index.add_facts(group.document, group.facts)
                self.index.set(group.document, sections=group.sections)
                if group.last:
                    self.index.finish(group.document, group.problem)
                    self.old_vectors.pop(group.document, None)


def _vectors_by_text(index: Index, document: int) -> dict[str, NDArray[np.float16]]:
    rows: Iterator[tuple[str, bytes]] = index.connection.execute(
        "SELECT c.text, v.vector FROM chunks c JOIN vectors v ON v.chunk = c.id WHERE c.document = ?",
        (document,),
    )
    return {text: np.frombuffer(vector, np.float16) for text, vector in rows}
