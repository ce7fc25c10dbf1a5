"""Training sequences: voices, script and speech as one row of tokens, in the form in which they are generated.

Shape suffixes: B batch, T tokens, N frames of all rows in order, D latent size, R written tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from multiway_core.tokenization import TextTokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from multiway_speech.script import Turn
from multiway_speech.vibevoice.config import SpeechTokens
from multiway_speech.vibevoice.corpus import SpeechCorpus, Utterance
from multiway_speech.vibevoice.phone_tokenizer import as_text
from multiway_speech.vibevoice.prompt import PromptWriter

NONE = -1
POOL = 4


@dataclass(frozen=True)
class Batch:
    """Rows of tokens.

    Attributes:
        tokens_BT: int64, the frame token where a frame stands.
        valid_BT: bool, False at padding.
        latents_ND: raw latents of all frame tokens, row by row.
        written_BT: bool, where the tokens stand that are written along the speech.
        written_RT, written_valid_RT: the same tokens, one padded row for each row that has some.
        following_BT: int64, what comes next in the script where frame or script is the choice; NONE elsewhere.
        spoken_BT: bool, where a frame of speech stands (those of voice prompts are not learnt).
    """

    tokens_BT: Tensor
    valid_BT: Tensor
    latents_ND: Tensor
    written_BT: Tensor
    written_RT: Tensor
    written_valid_RT: Tensor
    following_BT: Tensor
    spoken_BT: Tensor


@dataclass(frozen=True)
class _Row:
    tokens: list[int]
    latents: list[Tensor]
    written: list[tuple[int, int]]  # place, token
    following: list[tuple[int, int]]  # place, token
    begin: int  # of the speech
    num_turns: int

    @property
    def num_frames(self) -> int:
        """Of speech."""
        return sum(len(part) for part in self.latents[-self.num_turns :])


@dataclass(frozen=True)
class SequenceConfig:
    """What sequences are made of.

    Attributes:
        frames: of speech in a batch, about.
        limits: seconds of a row, of which each batch draws one.
        voice_seconds: of a voice prompt, least and most.
        forget: share of rows that hear the speech alone, for guidance's second context.
        dialogue: chance that a further turn is another speaker's.
    """

    frames: int = 1000
    limits: tuple[float, ...] = (4.0, 6.0, 8.0, 16.0)
    voice_seconds: tuple[float, float] = (1.0, 2.0)
    forget: float = 0.1
    dialogue: float = 0.7


class Sequences:
    """Random rows of the utterances that are not held out: a batch source of the trainer.

    A voice is drawn by its weight, an utterance by chance; the voice prompt is another utterance of that voice.
    """

    def __init__(
        self,
        corpus: SpeechCorpus,
        tokenizer: TextTokenizer,
        tokens: SpeechTokens,
        weights: dict[str, float],
        config: SequenceConfig,
        *,
        frame_rate: float,
        seed: int = 0,
    ) -> None:
        self.corpus, self.tokens, self.config, self.seed = corpus, tokens, config, seed
        self.frame_rate = frame_rate
        self.prompts = PromptWriter(tokenizer, tokens)
        self.voices: dict[str, list[Utterance]] = {}
        for utterance in corpus.part(held_out=False):
            self.voices.setdefault(utterance.voice, []).append(utterance)
        self.names = list(self.voices)
        chances = np.array([weights.get(name, weights.get("*", 1.0)) for name in self.names])
        self.chances = chances / chances.sum()

    def __call__(self, step: int, shard: int, num_shards: int) -> Batch:
        rng = np.random.default_rng((self.seed, step, shard))
        limit = rng.choice(self.config.limits) * self.frame_rate
        # More rows than are needed, of which those of like lengths are taken: padding costs as much as speech.
        rows, frames = [], 0
        while frames < POOL * self.config.frames:
            rows.append(self._row(self._turns(rng, limit), rng))
            frames += rows[-1].num_frames
        rows.sort(key=lambda row: len(row.tokens))
        first = rng.integers(max(1, round(len(rows) * (1 - 1 / POOL)) + 1))
        counts = np.cumsum([row.num_frames for row in rows[first:]])
        return collate(
            rows[first : first + 1 + int(np.searchsorted(counts, self.config.frames))], self.tokens
        )

    def _turns(self, rng: np.random.Generator, limit: float) -> list[tuple[int, Utterance]]:
        """(speaker, utterance) as long as they fit ``limit`` frames; one at least."""
        speakers: list[str] = []
        turns: list[tuple[int, Utterance]] = []
        total, voice = 0, ""
        while True:
            if not turns or (rng.random() < self.config.dialogue and len(speakers) < 4):
                voice = self.names[rng.choice(len(self.names), p=self.chances)]
            utterance = self.voices[voice][rng.integers(len(self.voices[voice]))]
            if turns and total + utterance.length > limit:
                return turns
            if not turns and utterance.length > limit and rng.random() < 0.9:  # long ones are for long rows
                continue
            if voice not in speakers:
                speakers.append(voice)
            turns.append((speakers.index(voice), utterance))
            total += utterance.length

    def _row(self, turns: Sequence[tuple[int, Utterance]], rng: np.random.Generator) -> _Row:
        if rng.random() < self.config.forget:
            return self._forgetful(turns)
        one_of_each = dict(turns)
        voices = [self._voice(one_of_each[speaker], rng) for speaker in range(len(one_of_each))]
        return make_row(self.prompts, self.corpus, turns, voices)

    def _voice(self, utterance: Utterance, rng: np.random.Generator) -> Tensor:
        """Latents of a few seconds of another utterance."""
        others = self.voices[utterance.voice]
        other = others[rng.integers(len(others))]
        length = round(rng.uniform(*self.config.voice_seconds) * self.frame_rate)
        at = rng.integers(max(1, other.length - length + 1))
        return self.corpus.latents(other)[at : at + length]

    def _forgetful(self, turns: Sequence[tuple[int, Utterance]]) -> _Row:
        tokens, latents = [self.tokens.start], []
        for _, utterance in turns:
            tokens += [self.tokens.frame] * utterance.length
            latents.append(self.corpus.latents(utterance))
        return _Row([*tokens, self.tokens.end], latents, [], [], 0, len(turns))


def make_row(
    prompts: PromptWriter,
    corpus: SpeechCorpus,
    turns: Sequence[tuple[int, Utterance]],
    voices: Sequence[Tensor],
) -> _Row:
    """Prompt and speech of (speaker, utterance) pairs; ``voices``: raw latents (F, D) of each speaker's prompt."""
    ids = prompts.tokens
    tokens = prompts.write_voices([len(voice) for voice in voices]).tolist()
    begin = len(tokens) - 1
    script = [Turn(speaker, as_text(utterance.symbols)) for speaker, utterance in turns]
    reading = [*prompts.write_phone_script(script).tolist(), ids.end]
    frames = [count for _, utterance in turns for count in utterance.frames]
    written: list[tuple[int, int]] = []
    following: list[tuple[int, int]] = []
    for token, count, after in zip(reading, frames, reading[1:], strict=False):
        place = len(tokens)
        written.append((place, token))
        following += [(at, after) for at in range(place, place + count + 1)]
        tokens += [token, *[ids.frame] * count]
    latents = [*voices, *(corpus.latents(utterance) for _, utterance in turns)]
    return _Row([*tokens, ids.end, ids.eos], latents, written, following, begin, len(turns))


def collate(rows: Sequence[_Row], tokens: SpeechTokens) -> Batch:
    """Rows padded on the right."""
    lengths = [len(row.tokens) for row in rows]
    tokens_BT = torch.full((len(rows), max(lengths)), tokens.eos)
    valid_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
    written_BT, spoken_BT = torch.zeros_like(valid_BT), torch.zeros_like(valid_BT)
    following_BT = torch.full_like(tokens_BT, NONE)
    written: list[Tensor] = []
    for index, row in enumerate(rows):
        row_T = torch.tensor(row.tokens)
        tokens_BT[index, : len(row_T)] = row_T
        valid_BT[index, : len(row_T)] = True
        spoken_BT[index, row.begin : len(row_T)] = row_T[row.begin :] == tokens.frame
        if row.written:
            places, ids = (torch.tensor(items) for items in zip(*row.written, strict=True))
            written_BT[index, places] = True
            written.append(ids)
            places, ids = (torch.tensor(items) for items in zip(*row.following, strict=True))
            following_BT[index, places] = ids
    written_RT = (
        pad_sequence(written, batch_first=True, padding_value=tokens.eos) if written else tokens_BT[:0]
    )
    counts = torch.tensor([len(ids) for ids in written])
    written_valid_RT = torch.arange(written_RT.shape[1]) < counts[:, None] if written else written_RT.bool()
    latents_ND = torch.cat([part for row in rows for part in row.latents])
    return Batch(
        tokens_BT, valid_BT, latents_ND, written_BT, written_RT, written_valid_RT, following_BT, spoken_BT
    )
