"""Batches of conversations of like length, out of features on disk and made-up ones.

Shape suffixes: see :mod:`objective`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from multiway_speech.text_tokenizer import TextTokenizer
from multiway_speech.vibevoice_asr.config import AsrTokens
from multiway_speech.vibevoice_asr.features import ACOUSTIC, FRAMES, UNKNOWN, Entry
from multiway_speech.vibevoice_asr.objective import IGNORED, SPEAKERS, Batch
from multiway_speech.vibevoice_asr.prompt import write_prompt
from multiway_speech.vibevoice_asr.vocabulary import NOISE, SILENCE, write_answer

DELAY = 3
"""Positions."""


class Source(Protocol):
    """Conversations with their frames."""

    entries: list[Entry]

    def frames(self, place: int) -> np.ndarray:
        """Float16 (F, D)."""
        ...

    def labels(self, place: int) -> np.ndarray:
        """Uint8 (F, 2): phones of both columns."""
        ...


class Conversations:
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
        self._counts: dict[int, float] = {}

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
        return self.collate(
            [
                (source.entries[place], source.frames(int(place)), source.labels(int(place)))
                for place in places
            ]
        )

    def collate(self, rows: Sequence[tuple[Entry, np.ndarray, np.ndarray]]) -> Batch:
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
        pieces = [[piece for row in self._pieces(entry) for piece in row] for entry, *_ in rows]
        return Batch(
            tokens_BT,
            valid_BT,
            answer_BT,
            torch.from_numpy(np.concatenate([_stacked(frames) for _, frames, _ in rows])),
            torch.tensor([len(frames) // FRAMES for _, frames, _ in rows]),
            torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in pieces], batch_first=True).long(),
            torch.tensor([len(row) for row in pieces]),
            torch.cat([_speakers(entry) for entry, *_ in rows]),
            torch.from_numpy(np.concatenate([self._spoken(entry, labels) for entry, _, labels in rows])),
        )

    def _sequence(self, entry: Entry) -> tuple[list[int], int]:
        """Tokens of prompt and answer, and where the answer begins."""
        prompt = write_prompt(
            self.tokenizer, self.tokens, entry.frames // FRAMES, entry.seconds, entry.context
        ).tolist()
        answer = self.tokenizer.encode(write_answer(entry.segments))
        return [*prompt, self.tokens.turn_start, *answer, self.tokens.turn_end], len(prompt)

    def _pieces(self, entry: Entry) -> list[list[int]]:
        """Pieces of each segment that somebody says."""
        texts = ["" if text in (SILENCE, NOISE) else text for *_, text in entry.segments]
        return [self.tokenizer.encode(text) for text in texts]

    def _spoken(self, entry: Entry, labels_F2: np.ndarray) -> np.ndarray:
        """Int64 (N,): the piece that was said :data:`DELAY` positions before each, 0 in silence.

        By then the decoder, which does not look ahead, has heard how it ends.
        As many letters of the text are over as phones of the segment; where no phones are known, as its time.
        """
        labels_N = labels_F2.reshape(entry.frames // FRAMES, -1)
        spoken_N = np.zeros(len(labels_N), dtype=np.int64)
        for (start, end, *_), pieces in zip(entry.segments, self._pieces(entry), strict=True):
            first, last = (round(seconds * 25 / FRAMES) for seconds in (start, end))
            said = labels_N[first:last]
            if not pieces or not len(said):
                continue
            columns = said.reshape(-1)
            is_new = np.diff(columns, prepend=255) != 0
            moves = is_new & (columns != 0) if (columns != UNKNOWN).all() else np.ones(len(columns))
            over = np.cumsum(moves).reshape(said.shape)
            middle = (over[:, said.shape[1] // 2] - 0.5) / max(1, over[-1, -1])
            letters = np.array([self._letters(piece) for piece in pieces], dtype=np.float64)
            place = np.searchsorted(np.cumsum(letters), middle * letters.sum(), side="right")
            row = np.array(pieces)[place.clip(0, len(pieces) - 1)]
            row[(said == 0).all(axis=1)] = 0
            spoken_N[first:last] = row[: len(spoken_N) - first]
        return np.concatenate([np.zeros(DELAY, dtype=np.int64), spoken_N])[: len(spoken_N)]

    def _letters(self, piece: int) -> float:
        if piece not in self._counts:
            self._counts[piece] = sum(c.isalpha() for c in self.tokenizer.decode([piece])) + 0.1
        return self._counts[piece]


def _stacked(frames_FD: np.ndarray) -> np.ndarray:
    """(F, D) -> (F / 2, 2 D): acoustic numbers of both frames, then their semantic ones."""
    parts = (frames_FD[:, :ACOUSTIC], frames_FD[:, ACOUSTIC:])
    return np.concatenate([part.reshape(len(part) // FRAMES, -1) for part in parts], axis=1)


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
