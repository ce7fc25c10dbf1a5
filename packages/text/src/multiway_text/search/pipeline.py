"""Texts into an index, queries to it: by meaning, by words, or by both.

    search = SearchPipeline.from_pretrained("bundled:minilm-l6")
    index = search.open(Path("notes.index"), create=True)
    search.update(index, ["~/notes"])
    search.query(index, "when is the rent due?").hits[0].passage.text

Shape suffixes: N passages, E width.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.search import lexical
from multiway_text.search.chunks import Chunk, ChunkSettings, sentences, split
from multiway_text.search.extract import Section, sections
from multiway_text.search.fusion import FUSED, Mode, reciprocal_ranks, weighted_sum
from multiway_text.search.languages import unknown_language
from multiway_text.search.pictures import PICTURE, Kind, PictureEncoder, Scope, as_text_cosine
from multiway_text.search.result import Hit, Results, SimilarDocument, UpdateReport
from multiway_text.search.store import DATABASE, Index, IndexSettings, as_unit, pattern, writer_lock
from multiway_text.search.update import GROUP, OnProgress, Update, scan
from multiway_text.search.vectors import VectorSearch, extend_graph

MAX_QUERY = 10_000
"""Characters of a query."""
MIN_HIGHLIGHT = 20
"""Characters of a sentence that may be marked as the best of its passage."""
_HASHED = 64 << 20  # of a file that is digested whole


class _Documents(NamedTuple):
    version: int
    paths: list[str]
    means_NE: NDArray[np.float32]


class SearchPipeline:
    """An encoder and what is done with an index of its vectors.

    Attributes:
        name, version: of the model, and a digest of its files.
        languages: codes of those that the model knows; empty where its folder does not say.
        pictures: what makes vectors of pictures; None: files of pictures are passed over.
    """

    pictures: PictureEncoder | None = None

    def __init__(self, encoder: EncoderPipeline, *, name: str, version: str) -> None:
        self.encoder, self.name, self.version = encoder, name, version
        self.languages = encoder.sentence.settings.languages
        self._searches: WeakKeyDictionary[Index, VectorSearch] = WeakKeyDictionary()
        self._documents: WeakKeyDictionary[Index, _Documents] = WeakKeyDictionary()

    @classmethod
    def from_pretrained(
        cls, name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> SearchPipeline:
        """By ``bundled:NAME``, ``package:NAME``, a folder or a hub id; see ``EncoderPipeline``."""
        encoder = EncoderPipeline.from_pretrained(name, device=device, dtype=dtype)
        return cls(encoder, name=name, version=digest(hub.resolve(name)))

    def open(
        self,
        folder: Path,
        *,
        create: bool = False,
        tokens: int | None = None,
        overlap: int | None = None,
        field: str | None = None,
    ) -> Index:
        """The index in a folder, which must be of this model; ``create`` makes one that is not there.

        Args:
            tokens, overlap: of passages (200 and 0 where nothing is said), as ``ChunkSettings``.
            field: where the text is in rows (``text``).

        Raises InputError: none is there, or one of another model, version, passage size or field.
        """
        asked = {"chunk_tokens": tokens, "overlap": overlap, "text_field": field}
        said: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        if create and not (Path(folder) / DATABASE).is_file():
            with writer_lock(Path(folder)):
                if not (Path(folder) / DATABASE).is_file():
                    settings = IndexSettings(self.name, self.version, self.encoder.sentence.width, **said)
                    return Index.create(folder, settings)
        index = Index(folder)
        try:
            self.check(index)
            for name, value in said.items():
                if (own := getattr(index.settings, name)) != value:
                    raise InputError(
                        f"{folder}: the index was made with {name} {own}, not {value}; give a new index (-o)"
                    )
        except InputError:
            index.close()
            raise
        return index

    def check(self, index: Index) -> None:
        """Raises InputError: the index is of another model, or of other weights of this name."""
        own = index.settings
        if own.version != self.version:
            what = "another version of it" if own.model == self.name else f"the model is {self.name}"
            raise InputError(
                f"{index.folder}: the index was made with {own.model}, {what}; give that model, or a new index (-o)"
            )

    def update(
        self, index: Index, paths: Sequence[str | Path], *, on_progress: OnProgress | None = None
    ) -> UpdateReport:
        """Bring an index up to date with files and folders; without any, with those that it has.

        Raises InputError: a path leads nowhere, another process writes; OutputError.
        """
        with index.writing():
            suffixes = self._prepare_pictures(index)
            given = [Path(path).expanduser() for path in paths] or index.roots()
            found = scan(given, exclude=index.folder, suffixes=suffixes)
            work = Update(
                index, lambda section: self._split(index, section), self.embed, on_progress, self.pictures
            )
            return work.run(found)

    def _prepare_pictures(self, index: Index) -> Collection[str]:
        """Suffixes of pictures, after the index has noted by what they are encoded.

        Raises InputError: it has pictures of another encoder, or there is none now.
        """
        own, noted = self.pictures, index.meta().get("pictures")
        if own is None:
            if noted is not None and index.ids(Scope(kind=PICTURE)):
                raise InputError(
                    f"{index.folder}: the index has pictures by {noted['model']}; "
                    "install it (pip install 'multiway-search[photos]')"
                )
            return ()
        told = {
            "model": own.name,
            "version": own.version,
            "unrelated": own.unrelated,
            "related": own.related,
        }
        if noted is not None and noted["version"] != own.version and index.ids(Scope(kind=PICTURE)):
            raise InputError(
                f"{index.folder}: its pictures are by {noted['model']} of another version; give a new index (-o)"
            )
        if noted != told:
            with index.transaction():
                index.set_meta("pictures", told)
        return own.suffixes

    def add(self, index: Index, texts: Mapping[str, str]) -> int:
        """Put texts under names into an index, in place of those of the same names; how many passages they are."""
        count = 0
        with index.writing():
            names = list(texts)
            for start in range(0, len(names), GROUP):
                some = names[start : start + GROUP]
                parts = [self._split(index, Section(texts[name])) for name in some]
                vectors_NE = self.embed([chunk.text for part in parts for chunk in part])
                with index.transaction():
                    first = 0
                    for name, part in zip(some, parts, strict=True):
                        sha256 = hashlib.sha256(texts[name].encode("utf-8", "replace")).hexdigest()
                        document = index.begin(name, "text", len(texts[name]), 0, sha256, whole=True)
                        index.add(document, part, vectors_NE[first : first + len(part)])
                        index.set(document, sections=1)
                        first += len(part)
                count += first
            extend_graph(index)
        return count

    def query(
        self,
        index: Index,
        text: str,
        *,
        mode: Mode = "hybrid",
        top: int = 10,
        path: str | None = None,
        kind: Kind | None = None,
        since: str | None = None,
        until: str | None = None,
        near: tuple[float, float, float] | None = None,
        highlight: bool = True,
    ) -> Results:
        """The passages for a query, best first.

        Args:
            mode: ``dense`` by cosine of vectors, ``bm25`` by words, ``hybrid`` by a weighted sum of both, ``rrf`` by
                reciprocal rank fusion of both.
            path: only documents whose path fits this glob.
            kind: only texts, or only pictures.
            since, until: only pictures of these days (``2024-05-31``, ``2024-05`` or ``2024``), by their EXIF data.
            near: (latitude, longitude, kilometres): only pictures of this place, by their EXIF data.
            highlight: also find the sentence of each passage that is nearest to the query.

        Raises InputError: an empty or too long query.
        """
        started = time.monotonic()
        if not text.strip():
            raise InputError("the query is empty; give a few words or a question")
        if len(text) > MAX_QUERY:
            raise InputError(
                f"the query has {len(text):,} characters; at most {MAX_QUERY:,} (similar takes files)"
            )
        text = text.encode("utf-8", "replace").decode()
        scope = Scope(pattern(path), kind, since, until, near)
        depth = top if mode in ("dense", "bm25") else max(FUSED, top)
        terms = lexical.match(text)
        bm25 = {} if mode == "dense" else dict(index.lexical(terms, depth, scope))
        query_E = None if mode == "bm25" else self.embed([text], prompt="query")[0]
        cosines = {} if query_E is None else self._dense(index, query_E, depth, scope)
        if mode == "hybrid":
            scores = weighted_sum(cosines, bm25, index.best_bm25(terms))
        elif mode == "rrf":
            scores = reciprocal_ranks([list(cosines), list(bm25)])
        else:
            scores = dict(bm25 if mode == "bm25" else cosines)
        best = sorted(scores, key=lambda number: (-scores[number], number))
        passages = index.passages(best[:top], scope)
        marked = lexical.words(text)
        hits = [
            Hit(
                passages[number],
                scores[number],
                cosines.get(number),
                bm25.get(number),
                terms=tuple(spans_of(marked, passages[number].text)),
            )
            for number in best
            if number in passages
        ]
        if highlight and query_E is not None:
            hits = self._highlighted(query_E, hits)
        notes = self._notes(text) if mode != "bm25" else ()
        return Results(text, mode, tuple(hits), index.count(), time.monotonic() - started, notes)

    def similar(self, index: Index, path: Path, *, top: int = 10) -> list[SimilarDocument]:
        """Documents whose mean vector is nearest to that of a file or picture, which need not be in the index.

        Raises InputError: it has no text; DataError: it cannot be read.
        """
        whole = str(Path(path).expanduser().resolve())
        own_E = self._picture_vector(whole)
        if own_E is None:
            own_E = self._text_vector(index, path, whole)
        paths, means_NE = self.document_vectors(index)
        cosines = means_NE @ own_E
        order = [place for place in np.argsort(-cosines, kind="stable") if paths[place] != whole]
        return [SimilarDocument(paths[place], float(cosines[place])) for place in order[:top]]

    def _picture_vector(self, path: str) -> NDArray[np.float32] | None:
        """Of a picture; None of another file. Raises InputError."""
        if self.pictures is None or Path(path).suffix.lower() not in self.pictures.suffixes:
            return None
        return self.pictures.read(path).vector_E

    def _text_vector(self, index: Index, path: Path, whole: str) -> NDArray[np.float32]:
        problems: list[str] = []
        parts = sections(Path(whole), field=index.settings.text_field, on_problem=problems.append)
        texts = [chunk.text for section in parts for chunk in self._split(index, section)]
        if not texts:
            raise InputError(f"{path}: no text")
        return as_unit(self.embed(texts).mean(0))

    def document_vectors(self, index: Index) -> tuple[list[str], NDArray[np.float32]]:
        """(paths, mean vectors (documents, width) of length 1) of the documents that have passages.

        They are kept until the index changes.
        """
        version = index.version()
        kept = self._documents.get(index)
        if kept is None or kept.version != version:
            kept = self._documents[index] = _Documents(version, *self._read_documents(index))
        return kept.paths, kept.means_NE

    def _read_documents(self, index: Index) -> tuple[list[str], NDArray[np.float32]]:
        rows = index.connection.execute(
            "SELECT c.id, d.path FROM chunks c JOIN documents d ON d.id = c.document WHERE d.whole ORDER BY c.id"
        ).fetchall()
        paths = list(dict.fromkeys(path for _, path in rows))
        place = {path: number for number, path in enumerate(paths)}
        owner = {number: place[path] for number, path in rows}
        ids, vectors_NE = self._search(index).all()
        kept = [row for row, number in enumerate(ids.tolist()) if number in owner]
        means_NE = np.zeros((len(paths), index.settings.width), np.float32)
        np.add.at(means_NE, [owner[int(ids[row])] for row in kept], vectors_NE[kept])
        return paths, as_unit(means_NE)

    def embed(self, texts: Sequence[str], *, prompt: str = "passage") -> NDArray[np.float32]:
        """Vectors of length 1, (texts, width), with the model's prompt of this name if it has one."""
        if not texts:
            return np.empty((0, self.encoder.sentence.width), np.float32)
        named = prompt if prompt in self.encoder.sentence.settings.prompts else None
        return as_unit(self.encoder.embed(texts, prompt=named, windows=True).vectors)

    def unknown_language(self, text: str) -> str | None:
        """What a text seems to be written in if the model does not know that; None: nothing to say."""
        return unknown_language(text, self.languages) if self.languages else None

    def _split(self, index: Index, section: Section) -> list[Chunk]:
        return self.split(section, ChunkSettings(index.settings.chunk_tokens, index.settings.overlap))

    def split(self, section: Section, asked: ChunkSettings) -> list[Chunk]:
        """The passages of a text, no longer than the model sees."""
        limit = self.encoder.sentence.max_length - 2
        settings = ChunkSettings(min(asked.tokens, limit), min(asked.overlap, asked.tokens // 2))
        text = section.text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be stored
        return split(text, self.encoder.tokenizer, settings, section.place)

    def _search(self, index: Index) -> VectorSearch:
        return self._searches.setdefault(index, VectorSearch(index))

    def _dense(
        self, index: Index, query_E: NDArray[np.float32], depth: int, scope: Scope
    ) -> dict[int, float]:
        """Cosines of the nearest passages, best first; those of pictures as a text would have them that is as near."""
        search, noted = self._search(index), index.meta().get("pictures")
        pictures = set(index.ids(replace(scope, kind=PICTURE))) if noted and scope.kind != "text" else set()
        found: list[tuple[int, float]] = []
        if scope.kind != PICTURE:
            texts = index.ids(replace(scope, kind="text")) if scope or pictures else None
            found = search.nearest(query_E, 2 * depth, ids=texts)  # some may be of unfinished documents
        if noted and pictures:
            ends = noted["unrelated"], noted["related"]
            near = search.nearest(query_E, depth, ids=list(pictures))
            found += [(number, as_text_cosine(cosine, *ends)) for number, cosine in near]
            found.sort(key=lambda pair: (-pair[1], pair[0]))
        there = index.passages([number for number, _ in found])
        return dict([(number, cosine) for number, cosine in found if number in there][:depth])

    def _notes(self, text: str) -> tuple[str, ...]:
        unknown = self.unknown_language(text)
        if unknown is None:
            return ()
        known = ", ".join(self.languages)
        return (f"the query seems to be in {unknown}; {self.name} knows {known}: only words can be found",)

    def _highlighted(self, query_E: NDArray[np.float32], hits: Sequence[Hit]) -> list[Hit]:
        """The sentence that is nearest to the query, of passages of several."""
        spans = [[] if hit.passage.kind == PICTURE else _worded(hit.passage.text) for hit in hits]
        texts = [hit.passage.text[a:b] for hit, own in zip(hits, spans, strict=True) for a, b in own]
        cosines = self.embed(texts) @ query_E
        found, first = [], 0
        for hit, own in zip(hits, spans, strict=True):
            part = cosines[first : first + len(own)]
            first += len(own)
            found.append(replace(hit, highlight=own[int(part.argmax())]) if own else hit)
        return found


def _worded(text: str) -> list[tuple[int, int]]:
    """Sentences of some length, so that a heading or a mark is not taken for an answer; any, where none has it."""
    spans = sentences(text)
    return [(start, end) for start, end in spans if end - start >= MIN_HIGHLIGHT] or spans


def spans_of(words: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of words in a text, without regard to case; scripts with spaces: whole words.

    Neighbours without a space between them are one.
    """
    if not words:
        return []
    parts = (re.escape(word) if not word.isascii() else rf"\b{re.escape(word)}\b" for word in words)
    found: list[tuple[int, int]] = []
    for span in re.finditer("|".join(parts), text, re.I):
        if found and found[-1][1] == span.start():
            found[-1] = (found[-1][0], span.end())
        else:
            found.append(span.span())
    return found


def digest(folder: Path) -> str:
    """Of the files that decide about a model's vectors; of files over 64 MB the size and parts of them."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".json", ".safetensors", ".model", ".txt", ".bin") or not path.is_file():
            continue
        if path.name == "sha256.json" or path.name.endswith("card.txt"):
            continue
        size = path.stat().st_size
        total.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _HASHED:
                total.update(file.read())
                continue
            for place in range(64):
                file.seek(place * (size // 64))
                total.update(file.read(1 << 16))
    return total.hexdigest()


def delete_documents(index: Index, path: str, *, exact: bool = False) -> int:
    """Remove documents whose path fits a glob, or (``exact``) is this; how many they were.

    Raises InputError: another process writes.
    """
    with index.writing(), index.transaction():
        rows = index.connection.execute(
            "SELECT id FROM documents WHERE path = ? OR path GLOB ?", (path, None if exact else pattern(path))
        ).fetchall()
        for (document,) in rows:
            index.remove(document)
    return len(rows)
