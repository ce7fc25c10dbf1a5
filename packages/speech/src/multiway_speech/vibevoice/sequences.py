"""Training sequences: script, voices and speech as one row of tokens, in the very form in which they are generated.

Shape suffixes: B batch, T tokens, N frames of all rows in order, D latent size, R written tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from multiway_speech.script import Turn
from multiway_speech.text_tokenizer import TextTokenizer
from multiway_speech.vibevoice.config import SpeechTokens
from multiway_speech.vibevoice.corpus import SpeechCorpus, Utterance
from multiway_speech.vibevoice.phone_tokenizer import reading, spoken
from multiway_speech.vibevoice.prompt import PromptWriter

NONE = -1


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


@dataclass(frozen=True)
class SequenceConfig:
    """What sequences are made of.

    Attributes:
        frames: of speech in a batch, about.
        limits: seconds of a row, of which each batch draws one.
        voice_seconds: of a voice prompt, least and most.
        forget: share of rows that hear the speech alone, for guidance's second context.
        voiceless: share of the other rows without voice prompts.
        dialogue: chance that a further turn is another speaker's.
    """

    frames: int = 1000
    limits: tuple[float, ...] = (4.0, 6.0, 8.0, 16.0)
    voice_seconds: tuple[float, float] = (1.5, 3.0)
    forget: float = 0.1
    voiceless: float = 0.0
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
        self.tokenizer, self.frame_rate = tokenizer, frame_rate
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
        rows, frames = [], 0.0
        while frames < self.config.frames:
            turns = self._turns(rng, limit)
            rows.append(self._row(turns, rng))
            frames += sum(utterance.length for _, utterance in turns)
        return collate(rows, self.tokens)

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
        voices: list[Tensor] = []
        if rng.random() >= self.config.voiceless:
            names = dict(reversed([(speaker, utterance) for speaker, utterance in turns]))
            voices = [self._voice(names[speaker], rng) for speaker in range(len(names))]
        return make_row(self.prompts, self.tokenizer, self.corpus, turns, voices)

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
        return _Row([*tokens, self.tokens.end], latents, [], [], 0)


def make_row(
    prompts: PromptWriter,
    tokenizer: TextTokenizer,
    corpus: SpeechCorpus,
    turns: Sequence[tuple[int, Utterance]],
    voices: Sequence[Tensor],
) -> _Row:
    """Prompt and speech of (speaker, utterance) pairs; ``voices``: raw latents (F, D) of each speaker's prompt."""
    ids = prompts.tokens
    script = [Turn(speaker, spoken(utterance.symbols)) for speaker, utterance in turns]
    tokens = prompts.write(script, [len(voice) for voice in voices]).tolist()
    begin = len(tokens) - 1
    latents = list(voices)
    written: list[tuple[int, int]] = []
    following: list[tuple[int, int]] = []
    script_ids = [reading(tokenizer, turn.speaker, turn.text) for turn in script]
    flat = [token for turn_ids in script_ids for token in turn_ids] + [ids.end]
    at = 0
    for turn_ids, (_, utterance) in zip(script_ids, turns, strict=True):
        for token, frames in zip(turn_ids, utterance.frames, strict=True):
            written.append((len(tokens), token))
            tokens.append(token)
            at += 1
            following += [(place, flat[at]) for place in range(len(tokens) - 1, len(tokens) + frames)]
            tokens += [ids.frame] * frames
        latents.append(corpus.latents(utterance))
    return _Row([*tokens, ids.end, ids.eos], latents, written, following, begin)


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
    written_RT = pad_sequence(written, batch_first=True, padding_value=tokens.eos) if written else tokens_BT[:0]
    counts = torch.tensor([len(ids) for ids in written])
    written_valid_RT = torch.arange(written_RT.shape[1]) < counts[:, None] if written else written_RT.bool()
    latents_ND = torch.cat([part for row in rows for part in row.latents])
    return Batch(
        tokens_BT, valid_BT, latents_ND, written_BT, written_RT, written_valid_RT, following_BT, spoken_BT
    )
