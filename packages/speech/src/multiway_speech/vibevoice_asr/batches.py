"""Training batches: conversations of similar length, of real and of pseudo-features.

Shape suffixes: see :mod:`objective`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

from multiway_speech.vibevoice_asr.config import AsrTokens
from multiway_speech.vibevoice_asr.features import FRAMES, UNKNOWN, Entry
from multiway_speech.vibevoice_asr.objective import IGNORED, SPEAKERS, Batch
from multiway_speech.vibevoice_asr.prompt import write_prompt
from multiway_speech.vibevoice_asr.vocabulary import NOISE, SILENCE, write_answer
from multiway_speech.vibevoice_asr.word_tokens import WordTokens

LOST = 0.01
"""Share of words that are not recognized."""
MISJOINED = 0.1
"""Share of words that are wrongly taken for a sentence's first, or not."""
_IMAGINED = (
    "you",
    "You",
    "Thank you.",
    "Thanks for watching!",
    "I'm sorry.",
    "Bye.",
    "Okay.",
    "The",
    ". . .",
    "so",
)
_ALIKE = {
    "a": ("e", "o", "ah", "u"),
    "b": ("p", "bb"),
    "c": ("k", "s", "ck"),
    "d": ("t", "dd"),
    "e": ("a", "i", "ee", ""),
    "f": ("ph", "v"),
    "g": ("k", "gh", "j"),
    "h": ("",),
    "i": ("e", "y", "ee"),
    "j": ("g",),
    "k": ("c", "ck", "g"),
    "l": ("ll", "r"),
    "m": ("n", "mm"),
    "n": ("m", "nn"),
    "o": ("a", "u", "oe"),
    "p": ("b", "pp"),
    "q": ("k",),
    "r": ("rr", "l", ""),
    "s": ("z", "ss", "c"),
    "t": ("d", "tt"),
    "u": ("o", "oo", "a"),
    "v": ("f", "w"),
    "w": ("v", "wh"),
    "x": ("ks",),
    "y": ("i", "e"),
    "z": ("s", "ts"),
}


class Source(Protocol):
    """Conversations with their frames."""

    entries: list[Entry]

    def frames(self, place: int) -> np.ndarray:
        """Float16 (F, D)."""
        ...

    def labels(self, place: int) -> np.ndarray:
        """Uint8 (F, 2): phones of both columns."""
        ...


class ConversationBatches:
    """A batch source of the trainer.

    Each batch comes from one of the sources, by their shares, and holds as many rows of about one length as give
    ``tokens`` positions.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Source, float]],
        tokenizer: TextTokenizer,
        tokens: AsrTokens,
        *,
        size: int = 6000,
        seed: int = 0,
    ) -> None:
        self.sources = [source for source, _ in sources]
        shares = np.array([share for _, share in sources])
        self._shares = shares / shares.sum()
        self._by_length = [
            np.argsort([entry.frames for entry in source.entries], kind="stable") for source in self.sources
        ]
        self.tokenizer, self.tokens, self.size, self.seed = tokenizer, tokens, size, seed
        (self._content,) = tokenizer.encode(',"Content":"')
        self._after = {token for text in ('"},{"Start":', '"}]') for token in tokenizer.encode(text)}
        self._tags = {token for text in (SILENCE, NOISE) for token in tokenizer.encode(text)}

    def __call__(self, step: int, shard: int, num_shards: int) -> Batch:
        rng = np.random.default_rng((self.seed, step, shard))
        chosen = int(rng.choice(len(self.sources), p=self._shares))
        source, order = self.sources[chosen], self._by_length[chosen]
        middle = int(rng.integers(len(order)))
        # A word for every six frames or so, and the request.
        rows = max(1, self.size // int(source.entries[order[middle]].frames * (1 / FRAMES + 0.3) + 40))
        first = max(0, min(middle - 2 * rows, len(order) - 4 * rows))
        near = order[first : first + 4 * rows]
        places = rng.choice(near, size=min(rows, len(near)), replace=False)
        rows_of = [
            (source.entries[place], source.frames(int(place)), source.labels(int(place))) for place in places
        ]
        return self.collate(rows_of, rng)

    def collate(
        self, rows: Sequence[tuple[Entry, np.ndarray, np.ndarray]], rng: np.random.Generator
    ) -> Batch:
        """Sequences of several conversations, each with its frames and their phones."""
        sequences = [self._sequence(entry) for entry, *_ in rows]
        longest = max(len(tokens) for tokens, _ in sequences)
        tokens_BT = torch.full((len(rows), longest), self.tokens.eos)
        valid_BT = torch.zeros(len(rows), longest, dtype=torch.bool)
        answer_BT = torch.full((len(rows), longest), IGNORED)
        for row, (tokens, begin) in enumerate(sequences):
            tokens_BT[row, : len(tokens)] = torch.tensor(tokens)
            valid_BT[row, : len(tokens)] = True
            answer_BT[row, begin - 1 : len(tokens) - 1] = tokens_BT[row, begin : len(tokens)]
        words = []
        look_BT = torch.full((len(rows), longest), IGNORED)
        for row, (entry, _, labels) in enumerate(rows):
            ids_NK, places = self.words(entry, labels, rng)
            words.append(ids_NK)
            tokens, begin = sequences[row]
            first = tokens.index(self.tokens.frame)
            for at, place in self._copied(tokens, begin, places):
                look_BT[row, at - 1] = first + place
        return Batch(
            tokens_BT,
            valid_BT,
            answer_BT,
            torch.from_numpy(np.concatenate([_stacked(frames) for _, frames, _ in rows])),
            torch.from_numpy(np.concatenate(words)),
            torch.tensor([len(frames) // FRAMES for _, frames, _ in rows]),
            torch.cat([_speakers(entry) for entry, *_ in rows]),
            look_BT,
        )

    def _sequence(self, entry: Entry) -> tuple[list[int], int]:
        """Tokens of prompt and answer, and where the answer begins."""
        prompt = write_prompt(
            self.tokenizer, self.tokens, entry.frames // FRAMES, entry.seconds, entry.context
        ).tolist()
        answer = self.tokenizer.encode(write_answer(entry.segments))
        return [*prompt, self.tokens.turn_start, *answer, self.tokens.turn_end], len(prompt)

    def words(
        self, entry: Entry, labels_F2: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, list[int | None]]:
        """Int64 (N, K): pieces of words as Whisper would place them, with errors; elsewhere the end token.

        Also, for each piece of the transcript's texts, the position at which it can be read, if it can.
        As many letters of the text are over as phones of the segment; where no phones are known, as its time.
        """
        heard = WordTokens(self.tokenizer, entry.frames // FRAMES, self.tokens.eos)
        read: list[int | None] = []
        labels_N = labels_F2.reshape(entry.frames // FRAMES, -1)
        for start, end, _, text in entry.segments:
            first, last = (round(seconds * 25 / FRAMES) for seconds in (start, end))
            said = labels_N[first:last]
            if text in (SILENCE, NOISE):
                if rng.random() < 0.5:
                    self._imagine(heard, entry.seconds, rng)
                continue
            if not len(said):
                read += [None] * len(self.tokenizer.encode(text))
                continue
            columns = said.reshape(-1)
            is_new = (np.diff(columns, prepend=255) != 0) & (columns != 0)
            moves = is_new if (columns != UNKNOWN).all() and is_new.any() else np.ones(len(columns))
            over = np.cumsum(moves) / np.sum(moves)
            spoken = [misrecognized(word, entry.names, rng) for word in text.split()]
            ends = np.cumsum([len(word) for word in spoken]) / sum(map(len, spoken))
            late = float(rng.normal(0.03, 0.08))
            for number, word in enumerate(spoken):
                right = text.split()[number]
                count = len(self.tokenizer.encode(right if number == 0 else f" {right}"))
                if rng.random() < LOST:
                    read += [None] * count
                    continue
                fraction = 0.0 if number == 0 else float(ends[number - 1])
                edges = np.searchsorted(over, (fraction, float(ends[number]))) / len(over)
                begin, finish = (start + float(edge) * (end - start) for edge in edges)
                jitter = late + float(rng.normal(0, 0.07))
                is_first = number == 0 or spoken[number - 1][-1] in ".?!"
                first_like = is_first == (rng.random() > MISJOINED)
                places = heard.add(word, begin + jitter, finish + jitter, first=first_like)
                if len(places) == count:
                    read += places
                else:
                    read += [places[0] if places else None] + [None] * (count - 1)
        return heard.ids_NK, read

    def _copied(
        self, tokens: Sequence[int], begin: int, places: Sequence[int | None]
    ) -> Iterator[tuple[int, int]]:
        """(place in the sequence, position of sound) of the answer's tokens that can be read off the sound."""
        inside, number = False, 0
        for at in range(begin, len(tokens)):
            if tokens[at] == self._content:
                inside = True
            elif tokens[at] in self._after:
                inside = False
            elif inside and tokens[at] not in self._tags and number < len(places):
                place = places[number]
                number += 1
                if place is not None:
                    yield at, place

    def _imagine(self, heard: WordTokens, seconds: float, rng: np.random.Generator) -> None:
        """What Whisper writes where nobody speaks."""
        at = float(rng.uniform(0, seconds / 2))
        for number, word in enumerate(str(rng.choice(_IMAGINED)).split()):
            heard.add(word, at, at + 0.2, first=number == 0)
            at += 0.3


def misrecognized(word: str, names: Sequence[str], rng: np.random.Generator) -> str:
    """A word as it may be recognized: of names in the context, half are spelt otherwise, as they sound."""
    bare = word.strip(".,?!;:")
    if bare not in names or rng.random() < 0.5:
        return word
    spelt = bare.lower()
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(len(spelt)))
        others = _ALIKE.get(spelt[place], (spelt[place] * 2, "", "e"))
        spelt = spelt[:place] + str(rng.choice(others)) + spelt[place + 1 :]
    spelt = spelt or bare
    return word.replace(bare, spelt.capitalize() if rng.random() < 0.7 else spelt)


def _stacked(frames_FD: np.ndarray) -> np.ndarray:
    """(F, D) -> (F / 2, 2 D)."""
    return frames_FD.reshape(len(frames_FD) // FRAMES, -1)


def _speakers(entry: Entry) -> Tensor:
    """Int64 (N,): who speaks at the middle of each position."""
    count = entry.frames // FRAMES
    speakers_F = torch.zeros(count, dtype=torch.int64)
    middles_F = (torch.arange(count) + 0.5) * FRAMES / 25
    for start, end, speaker, _ in entry.segments:
        spoken_F = (middles_F >= start) & (middles_F < end)
        if speaker is not None:
            speakers_F[spoken_F] = min(speaker, SPEAKERS - 1) + 1
    return speakers_F
