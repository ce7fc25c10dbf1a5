"""Scripts for synthesis: turns with speakers, and pauses.

A line ``NAME: words`` begins a turn, where NAME is ``Speaker`` with a number or the name of a voice; a line without it
continues the turn before. ``[pause:500ms]`` or ``[pause:1.5s]`` is silence. A text without names is one speaker's.
JSON is taken as well: a list of objects with ``speaker`` and ``text``.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from multiway_core.errors import InputError

MAX_CHARACTERS = 2_000_000
MAX_WORD = 100
"""Characters of a word; no language model reads a longer one aloud in one breath."""
MAX_PAUSE_MS = 60_000

_NUMBERED = re.compile(r"speaker\s*([0-9]{1,6})", re.IGNORECASE)
_LABEL = re.compile(r"\s*([^:：\n]{1,60}?)\s*[:：]")
_NAME = re.compile(r"[^\W\d_a-z][\w'-]*")
_PAUSE = re.compile(r"\[\s*pause\s*:\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|s)\s*\]", re.IGNORECASE)
_PAUSE_LIKE = re.compile(r"\[\s*pause\b[^\]\n]{0,40}\]?", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+|(?<=[。！？])")
_PART_END = re.compile(r"(?<=[,;:—–])\s+")


@dataclass(frozen=True)
class Turn:
    """What one speaker says in a row, and the silence before it.

    Attributes:
        speaker: index into ``Script.speakers``.
        text: one line, without leading or trailing space, with something to speak in it.
        pause_ms: silence before the turn.
        line: number of the script's line (or JSON item) where it begins, from 1.
    """

    speaker: int
    text: str
    pause_ms: int = 0
    line: int = 1


@dataclass(frozen=True)
class Script:
    """A script that was read.

    Attributes:
        speakers: names in the order of their numbers, or of their first turn where they have none.
        turns: at least one.
        final_pause_ms: silence behind the last turn.
    """

    speakers: tuple[str, ...]
    turns: tuple[Turn, ...]
    final_pause_ms: int = 0

    def split(self, max_characters: int) -> Script:
        """Long turns as several of the same speaker: speech hurries in very long turns.

        They are cut behind sentences, a longer sentence behind its parts, and a longer part between words.
        """
        turns: list[Turn] = []
        for turn in self.turns:
            sentences = [
                part
                for sentence in _SENTENCE_END.split(turn.text)
                for part in _shortened(sentence, max_characters)
            ]
            for index, part in enumerate(_pack(sentences, max_characters)):
                turns.append(Turn(turn.speaker, part, 0 if index else turn.pause_ms, turn.line))
        return Script(self.speakers, tuple(turns), self.final_pause_ms)

    def sections(self) -> list[list[Turn]]:
        """The turns between pauses: what is spoken in one go."""
        found: list[list[Turn]] = []
        for turn in self.turns:
            if turn.pause_ms or not found:
                found.append([])
            found[-1].append(turn)
        return found


def parse_script(source: str, *, voices: Sequence[str] = (), max_speakers: int = 4) -> Script:
    """Read a script; ``voices`` are the names that may begin a turn beside ``Speaker N``.

    Raises :class:`InputError` naming the line: no words at all, an empty turn, a turn without anything to speak, a
    word of more than :data:`MAX_WORD` characters, a bad pause, a voice that a ``Speaker``'s number cannot mean, or more
    than ``max_speakers`` speakers.
    """
    if len(source) > MAX_CHARACTERS:
        raise InputError(f"script: {len(source):,} characters; at most {MAX_CHARACTERS:,} are read")
    source = source.lstrip("\ufeff")
    items = _json_items(source) if source.lstrip()[:1] == "[" and '"' in source else None
    if items is None:
        items = list(_text_items(source, {voice.casefold(): voice for voice in voices}))
    return _script(items, max_speakers)


_Item = tuple[int, str, str]  # line, speaker's name, text with pauses


def _text_items(source: str, voices: dict[str, str]) -> Iterable[_Item]:
    """Turns with their lines, as labels and texts, in order; a text may have line breaks."""
    number, name, lines = 0, "", []
    started = False
    for index, line in enumerate(source.splitlines(), start=1):
        label = _LABEL.match(line)
        given = _speaker_name(label[1], voices) if label else None
        if label and given is None and voices and _NAME.fullmatch(label[1]):
            known = ", ".join(voices.values())
            raise InputError(f"script, line {index}: no voice is called {label[1]!r}; there are: {known}")
        if label is None or given is None:
            if not started and line.strip():
                started, number, name = True, index, "Speaker 1"
            lines.append(line)
            continue
        if started:
            yield number, name, "\n".join(lines)
        started, number, name, lines = True, index, given, [line[label.end() :]]
    if started:
        yield number, name, "\n".join(lines)


def _speaker_name(label: str, voices: dict[str, str]) -> str | None:
    numbered = _NUMBERED.fullmatch(label)
    if numbered:
        return f"Speaker {int(numbered[1])}"
    return voices.get(label.casefold())


def _json_items(source: str) -> list[_Item] | None:
    """The turns of a JSON list, or None if the text is no JSON at all (it may begin with ``[pause:...]``)."""
    try:
        data: Any = json.loads(source)
    except (ValueError, RecursionError):
        return None
    items: list[_Item] = []
    for index, item in enumerate(data, start=1):
        if not isinstance(item, dict) or not isinstance(item.get("text"), str):
            raise InputError(
                f'script: item {index} of the JSON list is not an object with "speaker" and "text"'
            )
        speaker = item.get("speaker", 1)
        if isinstance(speaker, bool) or not isinstance(speaker, int | str) or not str(speaker).strip():
            raise InputError(f"script: item {index}: the speaker is neither a number nor a name")
        name = str(speaker).strip()
        numbered = _NUMBERED.fullmatch(name)
        if name.isascii() and name.isdigit() and len(name) <= 6:
            name = f"Speaker {int(name)}"
        elif numbered:
            name = f"Speaker {int(numbered[1])}"
        items.append((index, name, item["text"]))
    return items


def _script(items: list[_Item], max_speakers: int) -> Script:
    names = list(dict.fromkeys(name for _, name, _ in items))
    numbered = sorted(
        (name for name in names if _NUMBERED.fullmatch(name)), key=lambda name: int(name.split()[1])
    )
    speakers = (*numbered, *(name for name in names if name not in numbered))
    if len(speakers) > max_speakers:
        shown = ", ".join(speakers[: max_speakers + 1])
        raise InputError(
            f"script: {len(speakers)} speakers ({shown}{', ...' if len(speakers) > max_speakers + 1 else ''});"
            f" the model has voices for at most {max_speakers}"
        )
    turns: list[Turn] = []
    pause = 0
    for line, name, text in items:
        parts = [part for part in _parts(text, line) if part != ""]
        for part in parts:
            if isinstance(part, int):
                pause += part
            else:
                turns.append(Turn(speakers.index(name), _speakable(part, line, name), pause, line))
                pause = 0
        if not parts:
            raise InputError(f"script, line {line}: {name} says nothing; write words behind the colon")
        if pause > MAX_PAUSE_MS:
            raise InputError(
                f"script, line {line}: a pause of {pause / 1000:g} s; at most {MAX_PAUSE_MS // 1000} s"
            )
    if not turns:
        raise InputError("script: there is nothing to speak in it")
    return Script(speakers, tuple(turns), pause)


def _parts(text: str, line: int) -> Iterable[str | int]:
    """Texts and pauses (milliseconds) of a turn, in order."""
    end = 0
    for match in _PAUSE.finditer(text):
        yield _plain(text[end : match.start()], line)
        milliseconds = float(match[1]) * (1000 if match[2].lower() == "s" else 1)
        if milliseconds > MAX_PAUSE_MS:
            raise InputError(
                f"script, line {line}: a pause of {match[1]} {match[2]}; at most {MAX_PAUSE_MS // 1000} s"
            )
        yield round(milliseconds)
        end = match.end()
    yield _plain(text[end:], line)


def _plain(text: str, line: int) -> str:
    """One line without control characters; raises on what looks like a pause and is none."""
    bad = _PAUSE_LIKE.search(text)
    if bad:
        raise InputError(f"script, line {line}: {bad[0]!r} is not a pause; write [pause:500ms] or [pause:2s]")
    visible = (c if unicodedata.category(c) not in ("Cc", "Cs", "Cn", "Co") else " " for c in text)
    return " ".join("".join(visible).split())


def _speakable(text: str, line: int, name: str) -> str:
    if not _has_words(text):
        raise InputError(
            f"script, line {line}: nothing in what {name} says can be spoken; write words or numbers"
        )
    longest = max(text.split(), key=len)
    # Languages without spaces have whole sentences between two of them.
    if len(longest) > MAX_WORD and longest.isascii():
        problem = f"a word of {len(longest):,} characters; at most {MAX_WORD} can be spoken"
        raise InputError(f"script, line {line}: {problem}")
    return text


def _has_words(text: str) -> bool:
    return any(c.isalnum() for c in text)


def _shortened(sentence: str, limit: int) -> Iterable[str]:
    if len(sentence) <= limit:
        return [sentence]
    words = (
        word
        for part in _PART_END.split(sentence)
        for word in ([part] if len(part) <= limit else part.split())
    )
    return list(_pack(words, limit))


def _pack(sentences: Iterable[str], limit: int) -> Iterable[str]:
    """Sentences together while they fit ``limit`` characters; a longer sentence stays whole.

    What has nothing to speak in it (a mark left alone behind a sentence's end) stays with its neighbour.
    """
    packed = ""
    for sentence in sentences:
        if _has_words(packed) and _has_words(sentence) and len(packed) + 1 + len(sentence) > limit:
            yield packed
            packed = sentence
        else:
            packed = f"{packed} {sentence}".strip()
    if packed:
        yield packed
