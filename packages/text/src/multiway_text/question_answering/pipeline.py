"""A question and texts in, answers out: search finds passages, a span extractor reads them, the best margin wins.

    answering = QuestionAnsweringPipeline.from_pretrained("run/model")
    with answering.open(["~/notes"]) as collection:
        answering.ask(collection, "When is the rent due?").answers[0].text

All passages of a question are compared by the log-odds of their best span against no answer in the same window (the
way of SQuAD 2.0's models): probabilities of one window say nothing about another (Clark and Gardner 2018).
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from multiway_core import hub
from multiway_core.errors import DataError, InputError, OutputError
from multiway_core.files import private_cache_folder

from multiway_text.data.squad import normalized
from multiway_text.encoder.answerability import Answerability
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.result import SpanAnswer
from multiway_text.encoder.spans import MAX_QUESTION
from multiway_text.question_answering.result import Answer, Answers
from multiway_text.search import extract
from multiway_text.search.pipeline import SearchPipeline
from multiway_text.search.result import Hit
from multiway_text.search.store import DATABASE, Index, Passage

RETRIEVER = "bundled:minilm-l6"
PASSAGES, THRESHOLD = 8, 0.5
MAX_CHARACTERS = 2000
"""Of a question, before its tokens are counted."""


@dataclass(frozen=True)
class Collection:
    """Texts that can be asked: an index with the pipeline that searches it.

    ``failed``: files that could not be read, or not all of them, and why.
    """

    search: SearchPipeline
    index: Index
    failed: tuple[tuple[str, str], ...] = ()


class QuestionAnsweringPipeline:
    """A reader (an encoder that extracts spans), and how sure it must be.

    Attributes:
        answerability: from margins to probabilities.
        notes: what a user should know about the model.
    """

    def __init__(
        self,
        reader: EncoderPipeline,
        answerability: Answerability | None = None,
        *,
        retriever: str = RETRIEVER,
        device: torch.device | str = "cpu",
    ) -> None:
        self.reader, self.name, self.retriever, self.device = reader, reader.name, retriever, device
        self.answerability = answerability or Answerability()
        uncalibrated = (
            f"{self.name}: its probabilities are not calibrated; multiway-question-answering train does it"
        )
        self.notes = (*reader.notes, *(() if self.answerability.questions else (uncalibrated,)))
        self.searching = cache(lambda name: SearchPipeline.from_pretrained(name, device=device))

    @classmethod
    def from_pretrained(
        cls, name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> QuestionAnsweringPipeline:
        """By ``bundled:NAME``, ``package:NAME``, a folder or a hub id.

        Raises ModelNotFoundError, ConfigError, CheckpointError, InputError (a model that extracts no spans).
        """
        reader = EncoderPipeline.from_pretrained(name, device=device, dtype=dtype)
        next(
            reader.read([("a", "a")])
        )  # says now, not after an index was made, that the model is of another kind
        return cls(reader, Answerability.read(hub.resolve(name)), device=device)

    @contextmanager
    def open(
        self,
        paths: Sequence[str | Path],
        *,
        folder: Path | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Collection]:
        """Files and folders, or the folder of one index of ``multiway-search``.

        The index of files is kept in ``folder``, or else in the user's cache: only what changed is read the next time.
        Raises InputError (a path leads nowhere, or to no text), OutputError, ModelNotFoundError.
        """
        given = [Path(path).expanduser() for path in paths]
        if not given:
            raise InputError("name files, a folder or an index to be asked")
        indexes = [path for path in given if (path / DATABASE).is_file()]
        if indexes and len(given) > 1:
            raise InputError(f"{indexes[0]} is an index; ask it alone")
        if indexes:
            with Index(given[0]) as index:
                search = self.searching(index.settings.model)
            with search.open(given[0]) as index:
                yield Collection(search, index)
            return
        search = self.searching(self.retriever)
        with search.open(folder or _cached(given, search.version), create=True) as index:
            report = search.update(index, given, on_progress=on_progress)
            if not report.passages:
                raise InputError(_nothing(given, report.failed))
            yield Collection(search, index, (*report.failed, *report.problems))

    @contextmanager
    def texts(self, texts: Mapping[str, str]) -> Iterator[Collection]:
        """Texts by name, in an index that is gone afterwards. Raises InputError: there is no text."""
        search = self.searching(self.retriever)
        with (
            tempfile.TemporaryDirectory(prefix="multiway-") as folder,
            search.open(Path(folder, "index"), create=True) as index,
        ):
            if not search.add(index, texts):
                raise InputError("there is no text to be asked; all texts are empty")
            yield Collection(search, index)

    def ask(
        self,
        collection: Collection,
        question: str,
        *,
        passages: int = PASSAGES,
        top: int = 3,
        threshold: float = THRESHOLD,
        path: str | None = None,
    ) -> Answers:
        """The likeliest answers in a collection's texts.

        Args:
            passages: so many of the best that search finds are read.
            top: at most so many answers, all different.
            threshold: probability from which on the best is taken for an answer.
            path: only documents whose path fits this glob.

        Raises InputError: the question has no word, or is too long.
        """
        started = time.monotonic()
        question = self.checked(question)
        found = collection.search.query(collection.index, question, top=passages, path=path, highlight=False)
        readings = self.reader.read([(question, hit.passage.text) for hit in found.hits], count=top)
        spans = [
            (hit, span) for hit, reading in zip(found.hits, readings, strict=True) for span in reading.spans
        ]
        answers = [self._answer(hit, span, len(found.hits)) for hit, span in _different(spans, top)]
        answered = bool(answers) and answers[0].probability >= threshold
        seconds = time.monotonic() - started
        return Answers(
            question,
            answered,
            tuple(answers),
            threshold,
            found.passages,
            len(found.hits),
            seconds,
            found.notes,
        )

    def checked(self, question: str) -> str:
        """The question without spaces around it. Raises InputError: it has no word, or is too long."""
        text = question.encode("utf-8", "replace").decode().strip()
        if not re.search(r"\w", text):
            raise InputError("the question has no word; ask something like: When is the rent due?")
        if len(text) > MAX_CHARACTERS:
            raise InputError(f"the question has {len(text):,} characters, at most {MAX_CHARACTERS:,}")
        tokens = len(self.reader.tokenizer.encode(text))
        if tokens > MAX_QUESTION:
            raise InputError(f"the question has {tokens} tokens, the model reads {MAX_QUESTION}; ask shorter")
        return text

    def _answer(self, hit: Hit, span: SpanAnswer, read: int) -> Answer:
        passage = hit.passage
        start = passage.start + span.start
        return Answer(
            span.text,
            self.answerability.probability(span.margin, read),
            span.margin,
            passage.path,
            passage.place or _line(passage, span.start),
            start,
            start + len(span.text),
            passage.text,
            span.start,
            span.end,
            hit.score,
        )


def _different(spans: Sequence[tuple[Hit, SpanAnswer]], top: int) -> list[tuple[Hit, SpanAnswer]]:
    """The best by margin, leaving out what says the same or overlaps a better one."""
    kept: list[tuple[Hit, SpanAnswer]] = []
    for hit, span in sorted(spans, key=lambda pair: -pair[1].margin):
        if len(kept) == top:
            break
        same = (
            normalized(span.text) == normalized(other.text)
            or (hit is known and span.start < other.end and other.start < span.end)
            for known, other in kept
        )
        if not any(same):
            kept.append((hit, span))
    return kept


def _line(passage: Passage, start: int) -> str:
    """``line N`` of the place in a text file that is as it was when it was indexed; else nothing."""
    path = Path(passage.path)
    if not path.name.lower().endswith(extract.TEXT):
        return ""
    try:
        (section,) = extract.sections(path, field="text", on_problem=lambda _: None)
    except (DataError, ValueError):
        return ""
    if section.text[passage.start : passage.end] != passage.text:
        return ""
    return f"line {section.text.count(chr(10), 0, passage.start + start) + 1}"


def _cached(paths: Sequence[Path], version: str) -> Path:
    """The folder of the index of these files by this model: the same each time. Raises OutputError."""
    roots = "\n".join([version, *(os.path.realpath(path) for path in paths)])
    try:
        folder = private_cache_folder("question-answering")
    except (OSError, RuntimeError) as error:
        raise OutputError(f"no folder for the index of the files: {error}") from error
    return folder / hashlib.sha256(roots.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _nothing(paths: Sequence[Path], failed: Sequence[tuple[str, str]]) -> str:
    """Why there is nothing to ask."""
    if failed:
        path, reason = failed[0]
        return f"{path}: {reason}" + (f" (and {len(failed) - 1} more)" if len(failed) > 1 else "")
    told = ", ".join(map(str, paths))
    if any(path.is_file() for path in paths):
        return f"{told}: no text"
    return f"{told}: the folder holds no file of {', '.join(extract.SUFFIXES)} with text"
