"""Whisper as the semantic tokenizer of a small VibeVoice-ASR: audio -> words with timestamps.

Why our own code: `transformers` takes windows of exactly 30 s, and has no fast attention with word timestamps;
faster-whisper does not give the attention weights, and wants the whole vocabulary.

VibeVoice's semantic tokenizer is trained with a decoder that predicts the transcript and is then thrown away (arXiv
2508.19205, section 2.1). Here the decoder is kept: a few hours of speech do not teach a small language model to read
the encoder's output, but it can copy words. Word timestamps are Whisper's own: dynamic time warping over the
cross-attention weights of its alignment heads.

Longer audio is cut into overlapping windows of 30 s; near a cut, each window contributes the words whose middle is on
its side. Memory is constant, and words do not depend on how the audio is split into pieces.

Shape suffixes: T samples or tokens, N columns, C hidden size, H heads, D head size, V vocabulary, A aligning heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from multiway_blocks.linear import Linear, project
from multiway_blocks.transformer import Context, Contextual, Stack
from torch import Tensor, nn

from multiway_speech.vibevoice_asr.whisper_encoder import (
    COLUMN_SAMPLES,
    WhisperConfig,
    WhisperEncoder,
    split_heads,
    whisper_layer,
)

LEADING_SILENCE = 4_000
"""Samples of silence before the beginning: a sound that is there at once loses its first consonant."""
TRAILING_SILENCE, SHORTEST_WINDOW = 96_000, 200_000
"""Samples of silence behind the end, and of all together, as far as a window holds them. The decoder knows windows of
30 s only: where too little silence is behind the last word it does not find the end, and says everything again (of
eight sentences of LJSpeech 72 % of the words were wrong with 1 s of silence, and 5 % with 6 s)."""
READ_ON, LOUD = 24_000, 0.3
"""Samples behind the last word that are read again if they are loud, as a share of how loud all is: the decoder now and
then takes a pause between two speakers for the end."""
MAX_PROMPT = 223
"""Tokens of context that go before the transcript, as in the original."""
SHORTEST_WORD = 0.03
"""Seconds that the last words must have left of the sound; what is written behind its end is the decoder's echo."""
COLUMN_SECONDS = 0.02
TOKENS_PER_SECOND = 10
"""More than anybody says; a decoder that repeats itself is stopped there."""


@dataclass(frozen=True)
class Word:
    """A recognized word with its marks, and its times in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Decoded:
    """What was written of a window, and the mean log-probability of its tokens, the end among them."""

    words: list[Word]
    log_probability: float


class WhisperCache:
    """What decoding keeps of a window, by layer.

    ``text`` and ``sound``: keys and values (H, T, D) of the tokens so far and (H, N, D) of the columns; ``weights``:
    where the newest token looked in the sound, (H, N).
    """

    def __init__(self) -> None:
        self.text: dict[int, tuple[Tensor, Tensor]] = {}
        self.sound: dict[int, tuple[Tensor, Tensor]] = {}
        self.weights: dict[int, Tensor] = {}

    def update(self, layer: int, key_HTD: Tensor, value_HTD: Tensor) -> tuple[Tensor, Tensor]:
        """Take new keys and values of the text, give all."""
        if layer in self.text:
            key_HTD, value_HTD = (
                torch.cat(parts, dim=1) for parts in zip(self.text[layer], (key_HTD, value_HTD), strict=True)
            )
        self.text[layer] = key_HTD, value_HTD
        return key_HTD, value_HTD


class SoundAttention(Contextual):
    """Attention from tokens (T, C) to the columns of a window, ``context.memory_BME`` (N, C)."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(hidden_size, hidden_size)
        self.kv = Linear(hidden_size, 2 * hidden_size)
        self.output = Linear(hidden_size, hidden_size)

    def forward(self, x_TC: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(T, C) -> (T, C); the cache takes what is wanted later."""
        cache: WhisperCache = context.cache
        if layer not in cache.sound:
            key_NC, value_NC = self.kv(context.memory_BME).chunk(2, dim=-1)
            cache.sound[layer] = split_heads(key_NC, self.num_heads), split_heads(value_NC, self.num_heads)
        key_HND, value_HND = cache.sound[layer]
        query_HTD = split_heads(self.query(x_TC), self.num_heads)
        scores_HTN = query_HTD @ key_HND.transpose(1, 2) * query_HTD.shape[-1] ** -0.5
        weights_HTN = scores_HTN.softmax(-1)
        cache.weights[layer] = weights_HTN[:, -1]
        return self.output((weights_HTN @ value_HND).transpose(0, 1).flatten(1))


class Whisper(Stack):
    """Encoder and decoder. Of the vocabulary it has a part, in any order, behind three control tokens.

    ``pieces`` holds the bytes of each token; it is set by whoever loads the model (:func:`read_pieces`).
    """

    END, START, NO_TIMES = 0, 1, 2

    def __init__(self, config: WhisperConfig) -> None:
        size, heads = config.hidden_size, config.num_heads
        layers = (whisper_layer(config, SoundAttention(size, heads)) for _ in range(config.num_layers))
        super().__init__(layers, nn.LayerNorm(size))
        self.config = config
        self.encoder = WhisperEncoder(config)
        self.embedding = nn.Embedding(config.vocab_size, size)
        self.text_positions = nn.Parameter(torch.zeros(config.text_positions, size))
        self.prompt_start = nn.Parameter(torch.zeros(size))
        """Embedding of the token that begins what is known before the transcript; it is never written."""
        self.pieces: tuple[bytes, ...] = ()

    def prompt(self, context: str) -> list[int]:
        """Tokens of a context, :data:`MAX_PROMPT` at most: of each place the longest piece that fits."""
        by_bytes = {piece: token for token, piece in enumerate(self.pieces) if piece}
        longest = max(map(len, by_bytes), default=0)
        rest = f" {' '.join(context.split())}".encode() if context.strip() else b""
        tokens: list[int] = []
        while rest and len(tokens) < MAX_PROMPT:
            size = next((n for n in range(min(longest, len(rest)), 0, -1) if rest[:n] in by_bytes), 0)
            if size:
                tokens.append(by_bytes[rest[:size]])
            rest = rest[size or 1 :]
        return tokens

    def window(self, waveform_T: Tensor, samples: int, prompt: Sequence[int] = ()) -> list[Word]:
        """Words of one window of whole columns, ``samples`` of which are sound and the rest silence."""
        return self.decode_window(waveform_T, samples, prompt).words

    @torch.no_grad()
    def decode_window(
        self, waveform_T: Tensor, samples: int, prompt: Sequence[int] = (), temperature: float = 0.0
    ) -> Decoded:
        """Words of one window as in :meth:`window`; above temperature 0 tokens are drawn, with a fixed seed."""
        columns_NC = self.encoder(waveform_T[None, None])[0]
        limit = int(TOKENS_PER_SECOND * samples / 16_000) + 8
        tokens, weights_TAN, log_probability = self._write(columns_NC, limit, prompt, temperature)
        heard = -(-samples // COLUMN_SAMPLES)
        times = align(weights_TAN[:, :, :heard].float().numpy()) if tokens else np.zeros(1)
        words: list[Word] = []
        begin = 0
        for place in range(1, len(tokens) + 1):
            if place < len(tokens) and not self.pieces[tokens[place]].startswith(b" "):
                continue
            text = b"".join(self.pieces[token] for token in tokens[begin:place]).decode("utf-8", "replace")
            start, end = float(times[begin]), float(times[min(place, len(times) - 1)])
            if text.strip():
                # What is before the first word and behind a last one is silence, and not theirs.
                longest = 0.2 + 0.1 * len(text.strip())
                start = start if words else max(start, end - longest)
                if words and start > COLUMN_SECONDS * heard - SHORTEST_WORD:
                    break
                words.append(Word(text.strip(), start, min(max(start, end), start + longest)))
            begin = place
        return Decoded(words, log_probability)

    def _write(
        self, columns_NC: Tensor, limit: int, prompt: Sequence[int], temperature: float = 0.0
    ) -> tuple[list[int], Tensor, float]:
        """Tokens, the aligning heads' weights (T + 1, A, N) as each of them, and the end, was written, and how
        probable they are."""
        generator = torch.Generator(device=columns_NC.device).manual_seed(0)
        total = 0.0
        cache = WhisperCache()
        context = Context(cache=cache, memory_BME=columns_NC)
        tokens: list[int] = []
        alignments: list[Tensor] = []
        new = [*prompt, self.START, self.NO_TIMES]
        limit = min(limit, self.config.text_positions - len(new) - 2)
        at = 0
        while True:
            x_TC = self.embedding(torch.tensor(new, device=columns_NC.device))
            if prompt and not at:
                x_TC = torch.cat([self.prompt_start[None], x_TC])
            x_TC = x_TC + self.text_positions[at : at + len(x_TC)]
            at += len(x_TC)
            x_TC = self(x_TC, context)
            weights = [cache.weights[layer][head] for layer, head in self.config.alignment_heads]
            alignments.append(torch.stack(weights))
            logits_V = project(x_TC[-1:], self.embedding.weight)[0]
            logits_V[self.START] = logits_V[self.NO_TIMES] = float("-inf")
            if temperature:
                token = int((logits_V.float() / temperature).softmax(-1).multinomial(1, generator=generator))
            else:
                token = int(logits_V.argmax())
            total += float(logits_V[token] - logits_V.logsumexp(-1))
            if token == self.END or len(tokens) == limit or _repeats(tokens):
                return tokens, torch.stack(alignments), total / (len(tokens) + 1)
            tokens.append(token)
            new = [token]


def _repeats(tokens: list[int]) -> bool:
    """Whether the last three tokens or more came five times in a row."""
    return any(
        len(tokens) >= 5 * period and tokens[-4 * period :] == tokens[-5 * period : -period]
        for period in range(3, 20)
    )


def align(weights_TAN: np.ndarray) -> np.ndarray:
    """Seconds (T,) at which each token begins, by dynamic time warping over standardized, smoothed weights."""
    mean, spread = weights_TAN.mean(axis=0), weights_TAN.std(axis=0) + 1e-6
    standard_TAN = (weights_TAN - mean) / spread
    padded = np.pad(standard_TAN, ((0, 0), (0, 0), (3, 3)), mode="edge")
    smooth_TAN = np.median(np.lib.stride_tricks.sliding_window_view(padded, 7, axis=-1), axis=-1)
    cost_TN = -smooth_TAN.mean(axis=1)
    rows, columns = cost_TN.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    trace = np.zeros((rows + 1, columns + 1), dtype=np.int8)
    for row in range(1, rows + 1):
        above, here, costs = total[row - 1].tolist(), [np.inf], cost_TN[row - 1].tolist()
        steps = trace[row]
        for column in range(1, columns + 1):
            both, up, left = above[column - 1], above[column], here[column - 1]
            best = min(both, up, left)
            here.append(costs[column - 1] + best)
            steps[column] = 0 if best == both else 1 if best == up else 2
        total[row] = here
    begins = np.zeros(rows)
    # The decoder need not have come to the end of the sound.
    row, column = rows, 1 + int(total[rows, 1:].argmin())
    while row > 0 and column > 0:
        begins[row - 1] = column - 1
        step = trace[row, column]
        row, column = row - (step != 2), column - (step != 1)
    return begins * COLUMN_SECONDS


class WhisperStream:
    """Sound that comes in pieces of any length; its words are those of the whole.

    ``context``: names and terms that may be said, or any text that could stand before the transcript.
    """

    def __init__(self, reader: Whisper, context: str = "") -> None:
        self.reader = reader
        self._prompt = reader.prompt(context)
        self._window = reader.config.positions * COLUMN_SAMPLES
        self._margin = reader.config.margin * COLUMN_SAMPLES
        self._waiting: Tensor | None = None
        self._begin = -LEADING_SILENCE
        self.words: list[Word] = []

    def feed(self, waveform_T: Tensor) -> None:
        """Take a piece, and read the windows that are full with it."""
        before_T = waveform_T.new_zeros(LEADING_SILENCE) if self._waiting is None else self._waiting
        self._waiting = torch.cat([before_T, waveform_T])
        while len(self._waiting) > self._window:
            self._read(self._waiting[: self._window], self._window, self._window - self._margin)
            step = self._window - 2 * self._margin
            self._waiting = self._waiting[step:].clone()
            self._begin += step

    def finish(self) -> list[Word]:
        """Read the rest, behind which silence stands: Whisper's own windows also end in it. All words of the sound."""
        if self._waiting is not None:
            samples = len(self._waiting)
            whole = -(-samples // COLUMN_SAMPLES) * COLUMN_SAMPLES
            padded = self._with_silence(whole)
            self._read(nn.functional.pad(self._waiting, (0, padded - samples)), samples, whole)
        self._waiting = None
        return self.words

    def _with_silence(self, samples: int) -> int:
        """Samples of a last stretch and the silence behind it, as far as a window holds them."""
        return min(max(samples + TRAILING_SILENCE, SHORTEST_WINDOW), self._window)

    def _read(self, waveform_T: Tensor, samples: int, end: int) -> None:
        kept = (self._margin if self._begin > 0 else 0) / self.reader.config.sample_rate
        until = end / self.reader.config.sample_rate
        shift = self._begin / self.reader.config.sample_rate
        for word in self._words_of(waveform_T, samples):
            if kept <= (word.start + word.end) / 2 < until or (samples == end and word.start >= kept):
                moments = (max(0.0, moment + shift) for moment in (word.start, word.end))
                self.words.append(Word(word.text, *moments))

    def _words_of(self, waveform_T: Tensor, samples: int) -> list[Word]:
        """Words of a window to its end."""
        words = self.reader.window(waveform_T, samples, self._prompt)
        loud = _level(waveform_T[:samples])
        while words:
            first = int(words[-1].end * self.reader.config.sample_rate)
            rest_T = waveform_T[first:samples]
            if len(rest_T) < READ_ON or _level(rest_T) < LOUD * loud:
                break
            size = LEADING_SILENCE + -(-len(rest_T) // COLUMN_SAMPLES) * COLUMN_SAMPLES
            behind = self._with_silence(size) - LEADING_SILENCE - len(rest_T)
            padded_T = nn.functional.pad(rest_T, (LEADING_SILENCE, behind))
            shift = (first - LEADING_SILENCE) / self.reader.config.sample_rate
            more = self.reader.window(padded_T, LEADING_SILENCE + len(rest_T), self._prompt)
            more = [Word(word.text, word.start + shift, word.end + shift) for word in more]
            if not more or more[-1].end <= words[-1].end:
                break
            words += more
        return words


def _level(waveform_T: Tensor) -> float:
    """Root mean square of the louder tenth of the columns."""
    columns_NT = waveform_T[: len(waveform_T) // COLUMN_SAMPLES * COLUMN_SAMPLES].unflatten(
        0, (-1, COLUMN_SAMPLES)
    )
    return float(columns_NT.square().mean(dim=1).sqrt().quantile(0.9)) if len(columns_NT) else 0.0
