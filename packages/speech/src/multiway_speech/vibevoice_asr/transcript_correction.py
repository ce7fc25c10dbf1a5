"""Constrains what the small decoder writes to the recognized words, but for words of the context.

A decoder of a few million parameters that copies words now and then skips or doubles one, or ends too early.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from multiway_speech.result import Segment
from multiway_speech.vibevoice_asr.whisper import Word
from multiway_speech.vibevoice_asr.word_tokens import PAUSE_SECONDS

ALIKE = 0.75
"""Share of letters in common from which on a word is taken for a name of the context, spelt wrongly."""
_SLACK = 0.5
"""Seconds by which a sentence may end beside its segment."""


class TranscriptCorrector:
    """The recognized words of a recording, given to segments in their order."""

    def __init__(self, words: Sequence[Word], context: str) -> None:
        self._words = list(words)
        self._context = set(_bare(context).split())
        self._names = re.findall(r"\b[A-Z][A-Za-z'-]{4,}", context)
        self._next = 0

    def checked(self, segment: Segment) -> Segment:
        """The segment with the words recognized in it, but for names that the context has."""
        if segment.speaker is None:
            return segment
        end = self._end(segment.end)
        if end <= self._next:  # a segment that is too short still has the words that begin in it
            end = sum(word.start <= segment.end for word in self._words)
            ends = [word.end for word in self._words[self._next : end]]
            segment = replace(segment, end=max([segment.end, *ends]))
        heard = [word.text for word in self._words[self._next : end]]
        self._next = max(self._next, end)
        if not heard:
            return segment
        written = segment.text.split()
        sides = ([_bare(word) for word in heard], [_bare(word) for word in written])
        kept: list[str] = []
        for tag, a, b, c, d in SequenceMatcher(None, *sides, autojunk=False).get_opcodes():
            kept += written[c:d] if tag == "equal" else self._with_names(heard[a:b], written[c:d])
        return replace(segment, text=" ".join(self._respelt(kept)))

    def rest(self, segments: Sequence[Segment]) -> list[Segment]:
        """Sentences of the words that none of the ``segments`` took, but for those where nobody is said to speak.

        Their speaker is 0: whoever tells voices apart gives another.
        """
        left = self._words[self._next :]
        self._next = len(self._words)
        found = []
        for words in sentences_of(left):
            start, end = words[0].start, max(word.end for word in words)
            middle = (start + end) / 2
            if not any(s.speaker is None and s.start <= middle <= s.end for s in segments):
                text = " ".join(self._respelt([word.text for word in words]))
                found.append(Segment(start, end, 0, text))
        return found

    def _respelt(self, kept: list[str]) -> list[str]:
        """Words, or two in a row, that are spelt nearly like a name of the context get its spelling."""
        for name in self._names:
            bare = _bare(name)
            for count in (1, 2):
                if any(_bare(word) == bare for word in kept):
                    break
                for place in range(len(kept) - count + 1):
                    parts = [_bare(word) for word in kept[place : place + count]]
                    joined = _alike("".join(parts), bare)
                    if joined >= ALIKE and (count == 1 or joined > max(_alike(part, bare) for part in parts)):
                        mark = re.search(r"[.,?!;:]*$", kept[place + count - 1])
                        kept[place : place + count] = [name + (mark[0] if mark else "")]
                        break
        return kept

    def _with_names(self, heard: list[str], written: list[str]) -> list[str]:
        """Recognized words, of which the most alike give way to names of the context that were written instead."""
        for name in written:
            bare = _bare(name)
            if heard and bare in self._context:
                alike = [SequenceMatcher(None, _bare(word), bare).ratio() for word in heard]
                place = max(range(len(heard)), key=alike.__getitem__)
                mark = re.search(r"[.,?!;:]*$", heard[place])
                heard[place] = name.rstrip(".,?!;:") + (mark[0] if mark else "")
        return heard

    def _end(self, seconds: float) -> int:
        """How many words are over at the end of a segment: if a sentence ends nearby, up to there."""
        middles = [(word.start + word.end) / 2 for word in self._words]
        ends = [
            (abs(word.end - seconds), number + 1)
            for number, word in enumerate(self._words)
            if _ends(word) and abs(word.end - seconds) < _SLACK
        ]
        return min(ends)[1] if ends else sum(middle <= seconds for middle in middles)


def sentences_of(words: Sequence[Word], pause: float = PAUSE_SECONDS) -> list[list[Word]]:
    """The words, cut behind full stops and at pauses of so many seconds."""
    sentences: list[list[Word]] = []
    for word in words:
        new = not sentences or _ends(sentences[-1][-1]) or word.start - sentences[-1][-1].end > pause
        sentences.extend([[]] if new else [])
        sentences[-1].append(word)
    return sentences


def _ends(word: Word) -> bool:
    return word.text[-1] in ".?!"


def _bare(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def _alike(said: str, name: str) -> float:
    return SequenceMatcher(None, said, name, autojunk=False).ratio()
