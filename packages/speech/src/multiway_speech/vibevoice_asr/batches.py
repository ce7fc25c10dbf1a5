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
from multiway_speech.vibevoice_asr.features import ACOUSTIC, FRAMES, Entry
from multiway_speech.vibevoice_asr.objective import IGNORED, SPEAKERS, Batch
from multiway_speech.vibevoice_asr.prompt import write_prompt
from multiway_speech.vibevoice_asr.vocabulary import NOISE, SILENCE, write_answer


class Source(Protocol):
    """Conversations with their frames."""

    entries: list[Entry]

    def frames(self, place: int) -> np.ndarray:
        """Float16 (F, D)."""
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
        return self.collate([(source.entries[place], source.frames(int(place))) for place in places])

    def collate(self, rows: Sequence[tuple[Entry, np.ndarray]]) -> Batch:
        """Sequences of several conversations."""
        sequences = [self._sequence(entry) for entry, _ in rows]
        longest = max(len(tokens) for tokens, _ in sequences)
        tokens_BT = torch.full((len(rows), longest), self.tokens.eos)
        valid_BT = torch.zeros(len(rows), longest, dtype=torch.bool)
        answer_BT = torch.full((len(rows), longest), IGNORED)
        for row, (tokens, begin) in enumerate(sequences):
            tokens_BT[row, : len(tokens)] = torch.tensor(tokens)
            valid_BT[row, : len(tokens)] = True
            answer_BT[row, begin - 1 : len(tokens) - 1] = tokens_BT[row, begin : len(tokens)]
        pieces = [self._pieces(entry) for entry, _ in rows]
        return Batch(
            tokens_BT,
            valid_BT,
            answer_BT,
            torch.from_numpy(np.concatenate([_stacked(frames) for _, frames in rows])),
            torch.tensor([len(frames) // FRAMES for _, frames in rows]),
            torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in pieces], batch_first=True).long(),
            torch.tensor([len(row) for row in pieces]),
            torch.cat([_speakers(entry) for entry, _ in rows]),
        )

    def _sequence(self, entry: Entry) -> tuple[list[int], int]:
        """Tokens of prompt and answer, and where the answer begins."""
        prompt = write_prompt(
            self.tokenizer, self.tokens, entry.frames // FRAMES, entry.seconds, entry.context
        ).tolist()
        answer = self.tokenizer.encode(write_answer(entry.segments))
        return [*prompt, self.tokens.turn_start, *answer, self.tokens.turn_end], len(prompt)

    def _pieces(self, entry: Entry) -> list[int]:
        texts = [text for *_, text in entry.segments if text not in (SILENCE, NOISE)]
        return [piece for text in texts for piece in self.tokenizer.encode(text)]


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
