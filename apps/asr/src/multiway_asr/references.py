"""Readers of references and hypotheses: words, speakers and times of recordings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multiway_core.data_files import get, number, read_json, read_text, shown
from multiway_core.errors import ConfigError, DataError, InputError
from multiway_speech.result import SCHEMA, Segment, Transcript

SECONDS_FILE = "seconds.json"
"""Beside hypotheses: recording -> seconds of work, for the real-time factor."""
CONTEXTS_FILE = "contexts.json"
"""Beside references: recording -> names and terms, separated by commas, of which some are spoken."""


@dataclass(frozen=True)
class Annotation:
    """What a file tells of one recording.

    Attributes:
        name: the recording's, without folder and ending.
        words: segments with text, or None where only turns are known.
        turns: who spoke when (text may be empty), or None where only words are known.
        language: BCP 47 code, where it is told.
        duration: seconds of the recording, where they are told.
        audio: the recording, where it is named.
        terms: the context, names and terms given to the recognizer, whether they are spoken or not.
    """

    name: str
    words: tuple[Segment, ...] | None
    turns: tuple[Segment, ...] | None
    language: str | None = None
    duration: float | None = None
    audio: Path | None = None
    terms: tuple[str, ...] = ()

    @classmethod
    def of(cls, transcript: Transcript, name: str) -> Annotation:
        """A transcript's."""
        segments = transcript.segments
        return cls(name, segments, segments, transcript.language, transcript.duration)


def read_annotations(path: Path) -> dict[str, Annotation]:
    """All recordings that a file, or the files of a folder, tell of, in order of their names.

    ``.json`` (schema multiway.asr/1), ``.stm``, ``.jsonl`` (rows ``{"audio", "text"}``), ``.txt`` (the words of the
    recording of that name) and ``.rttm`` (turns only; adds them to words that have none). Where several tell of the
    words of one recording, the first of these kinds counts. Raises DataError with file and line; InputError if there is
    no such file, or none in the folder.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in _READERS and file.is_file())
    elif path.is_file():
        files = [path]
        if path.suffix not in _READERS:
            raise InputError(
                f"{path}: cannot read {path.suffix or 'this'}; expected {', '.join(_READERS)} or a folder"
            )
    else:
        raise InputError(f"{path}: no such file or folder")
    found: dict[str, Annotation] = {}
    for suffix, reader in _READERS.items():
        for file in files:
            for annotation in reader(file) if file.suffix == suffix else ():
                _add(found, annotation, file)
    if not found:
        raise InputError(f"{path}: no transcript in it ({', '.join(_READERS)})")
    return dict(sorted(found.items()))


def _add(found: dict[str, Annotation], annotation: Annotation, file: Path) -> None:
    known = found.get(annotation.name)
    if known is None:
        found[annotation.name] = annotation
    elif annotation.words is None and known.turns is None:
        found[annotation.name] = replace(known, turns=annotation.turns)
    elif annotation.words is None and known.words is None:
        raise DataError(f"{file}: {annotation.name} has turns in another file too")
    elif file.suffix == ".json":
        raise DataError(f"{file}: there is another transcript of {annotation.name}")


def _json(file: Path) -> Iterator[Annotation]:
    data = read_json(file)
    if isinstance(data, dict) and data.get("schema") == SCHEMA:  # others, such as reports, are passed over
        try:
            yield Annotation.of(Transcript.from_json(data, where=str(file)), file.stem)
        except ConfigError as error:
            raise DataError(str(error)) from error


def _jsonl(file: Path) -> Iterator[Annotation]:
    for where, line in _lines(file):
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{where}: not JSON") from error
        audio = file.parent / get(row, "audio", str, where)
        language = get(row, "language", str, where) if "language" in row else None
        yield Annotation(audio.stem, _plain(get(row, "text", str, where)), None, language, audio=audio)


def _txt(file: Path) -> Iterator[Annotation]:
    yield Annotation(file.stem, _plain(read_text(file)), None)


def _stm(file: Path) -> Iterator[Annotation]:
    def parse(fields: list[str], where: str) -> tuple[str, str, float, float, str] | None:
        if fields[0].startswith(";;"):
            return None
        if len(fields) < 5:
            raise DataError(f"{where}: expected recording, channel, speaker, start, end, words")
        start, end = number(fields[3], where), number(fields[4], where)
        words = fields[5:]
        if words and words[0].startswith("<") and words[0].endswith(">"):
            words = words[1:]  # a label of NIST's, such as <o,f0,male>
        text = " ".join(words)
        return None if text == "IGNORE_TIME_SEGMENT_IN_SCORING" else (fields[0], fields[2], start, end, text)

    for name, segments in _sessions(file, parse).items():
        yield Annotation(name, segments, segments)


def _rttm(file: Path) -> Iterator[Annotation]:
    def parse(fields: list[str], where: str) -> tuple[str, str, float, float, str] | None:
        if fields[0] != "SPEAKER":
            return None
        if len(fields) < 8:
            raise DataError(
                f"{where}: expected SPEAKER, recording, channel, start, duration, 2 fields, speaker"
            )
        start = number(fields[3], where)
        return fields[1], fields[7], start, start + number(fields[4], where), ""

    for name, segments in _sessions(file, parse).items():
        yield Annotation(name, None, segments)


_READERS: dict[str, Callable[[Path], Iterator[Annotation]]] = {
    ".json": _json,
    ".stm": _stm,
    ".jsonl": _jsonl,
    ".txt": _txt,
    ".rttm": _rttm,
}


def _sessions(
    file: Path, parse: Callable[[list[str], str], tuple[str, str, float, float, str] | None]
) -> dict[str, tuple[Segment, ...]]:
    """Recording -> segments by start, the speakers' names as numbers in order of appearance."""
    numbers: dict[str, dict[str, int]] = {}
    found: dict[str, list[Segment]] = {}
    for where, line in _lines(file):
        parsed = parse(line.split(), where)
        if parsed is None:
            continue
        name, speaker, start, end, text = parsed
        if not 0 <= start <= end:
            raise DataError(f"{where}: from {start:g} to {end:g} s")
        known = numbers.setdefault(name, {})
        segment = Segment(start, end, known.setdefault(speaker, len(known)), text)
        found.setdefault(name, []).append(segment)
    return {name: tuple(sorted(found[name], key=lambda s: (s.start, s.end))) for name in found}


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    for index, line in enumerate(read_text(file).split("\n"), start=1):
        if line.strip():
            yield f"{file}:{index}", line


def _plain(text: str) -> tuple[Segment, ...]:
    return (Segment(0.0, 0.0, 0, " ".join(text.split())),)


def read_seconds(folder: Path) -> dict[str, float]:
    """Recording -> seconds of work, out of :data:`SECONDS_FILE`; empty if there is none. Raises DataError."""
    return {
        name: number(value, f"{folder / SECONDS_FILE}: {name}")
        for name, value in _table(folder / SECONDS_FILE)
    }


def read_terms(folder: Path) -> dict[str, tuple[str, ...]]:
    """Recording -> terms, out of :data:`CONTEXTS_FILE`; empty if there is none. Raises DataError."""
    found = {}
    for name, value in _table(folder / CONTEXTS_FILE):
        if not isinstance(value, str):
            raise DataError(f"{folder / CONTEXTS_FILE}: {name}: expected text, got {shown(value)}")
        terms = (" ".join(term.split()) for term in value.replace("\n", ",").split(","))
        found[name] = tuple(term for term in terms if term)
    return found


def _table(file: Path) -> list[tuple[str, Any]]:
    if not file.is_file():
        return []
    data = read_json(file)
    if not isinstance(data, dict):
        raise DataError(f"{file}: expected an object with a value for each recording, got {shown(data)}")
    return list(data.items())
