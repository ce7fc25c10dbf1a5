"""Audio -> transcript: the one path of commands, demo, evaluation and Python users.

Shape suffixes: B batch, T tokens or samples, F frames, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from multiway_core import generation, hub
from multiway_core.errors import InputError
from multiway_core.generation import GenerationConfig, StaticKVCache
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

from multiway_speech.audio import Loudness, Sound, SoundFile, measure
from multiway_speech.result import Segment, Transcript
from multiway_speech.speakers import limit_speakers
from multiway_speech.vibevoice_asr import checkpoint
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from multiway_speech.vibevoice_asr.output import SegmentReader
from multiway_speech.vibevoice_asr.prompt import MAX_CONTEXT, write_prompt
from multiway_speech.vibevoice_asr.repetition import find_repetition
from multiway_speech.vibevoice_asr.speaker_clustering import BREATH_SECONDS, Embeddings, SpeakerClusters
from multiway_speech.vibevoice_asr.speaker_encoder import VoiceColumns
from multiway_speech.vibevoice_asr.transcript_correction import TranscriptCorrector, sentences_of
from multiway_speech.vibevoice_asr.whisper import Word
from multiway_speech.vibevoice_asr.word_tokens import WordTokens

TOKENIZER = "Qwen/Qwen2.5-7B"
"""Where the original files, which come without tokenizer files, have their vocabulary from."""
RETRY_TEMPERATURES = (0.2, 0.3, 0.4)
"""After a loop the rest is written again from the last whole segment, each time a little freer."""
MIN_SECONDS = 0.1


@dataclass(frozen=True)
class TranscriptionOptions:
    """How to transcribe.

    Attributes:
        context: names, terms or any text that helps (hotwords: joined by commas or line breaks).
        max_new_tokens: most tokens of the transcript; less where the model's positions end.
        noise_seed: None hears the encoder's means, always the same; a number draws the noise of training.
        piece_seconds: sound that is encoded at once.
    """

    context: str = ""
    max_new_tokens: int = 32_768
    noise_seed: int | None = None
    piece_seconds: float = 10.0


class AsrPipeline:
    """Transcribes with one model."""

    def __init__(self, name: str, model: VibeVoiceAsr, tokenizer: TextTokenizer) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        revision: str | None = None,
    ) -> AsrPipeline:
        """Load ``bundled:NAME``, a local folder, or a hub id such as ``microsoft/VibeVoice-ASR``.

        ``dtype`` is float32 by default on a CPU; elsewhere the language model is bfloat16, and the encoders, whose
        sums overflow in half precision, stay float32. Raises :class:`ModelNotFoundError`, :class:`CheckpointError` or
        :class:`ConfigError`.
        """
        folder = Path(hub.resolve(name, revision=revision))
        model = checkpoint.load(folder, dtype=dtype or torch.float32, device=device)
        if dtype is None and torch.device(device).type != "cpu":
            model.language_model.to(torch.bfloat16)
        return cls(name, model, TextTokenizer.from_folder(folder, fallback=TOKENIZER))

    def max_seconds(self, context: str = "") -> float:
        """Longest recording of one pass in seconds, without room for the output."""
        config = self.model.config
        words = len(write_prompt(self.tokenizer, config.tokens, 0, 3600.0, context))
        return max(0.0, (config.text.max_positions - words) * config.hop / config.acoustic.sample_rate)

    def __call__(self, sound: Sound | Path | str, options: TranscriptionOptions | None = None) -> Transcript:
        """Transcribe one recording; see :meth:`stream`."""
        *_, transcript = self.stream(sound, options)
        assert isinstance(transcript, Transcript)
        return transcript

    def stream(
        self,
        sound: Sound | Path | str,
        options: TranscriptionOptions | None = None,
        on_heard: Callable[[float], None] | None = None,
        max_speakers: int | None = None,
    ) -> Iterator[Segment | Transcript]:
        """Yield each segment as soon as it is written, and the whole transcript last (without what was a loop).

        ``sound``: a path (audio or video) or a :class:`Sound`; it is heard twice, for its loudness and for its words.
        ``on_heard`` is told the seconds that have been encoded. Above ``max_speakers`` the most similar voices of the
        transcript are merged; voices are compared at the end, so segments before it have the model's own numbers.

        Raises :class:`InputError`: unreadable, empty, too long for the model's positions, or a context that is too
        long. What goes wrong while the model writes is in ``Transcript.problems``.
        """
        heard = SoundFile(sound) if isinstance(sound, Path | str) else sound
        options = options or TranscriptionOptions()
        check_context(options.context)
        return self._limited(self._stream(heard, options, on_heard), heard, max_speakers)

    @staticmethod
    def _limited(
        events: Iterator[Segment | Transcript], sound: Sound, max_speakers: int | None
    ) -> Iterator[Segment | Transcript]:
        for event in events:
            if isinstance(event, Transcript) and max_speakers is not None:
                event = limit_speakers(event, sound, max_speakers)
            yield event

    @torch.no_grad()
    def _stream(
        self, sound: Sound, options: TranscriptionOptions, on_heard: Callable[[float], None] | None
    ) -> Iterator[Segment | Transcript]:
        config = self.model.config
        rate = config.acoustic.sample_rate
        loudness = measure(sound, rate)
        duration = loudness.num_samples / rate
        if duration < MIN_SECONDS:
            raise InputError(
                f"{sound.name}: {duration:.2f} s of sound; there must be at least {MIN_SECONDS:g} s"
            )
        num_frames = config.num_positions(loudness.num_samples)
        prompt_T = write_prompt(self.tokenizer, config.tokens, num_frames, duration, options.context)
        free = config.text.max_positions - len(prompt_T)
        if free < 16:
            longest = (config.text.max_positions - (len(prompt_T) - num_frames)) * config.hop / rate
            raise InputError(
                f"{sound.name}: {duration / 60:.1f} minutes; this model hears at most {longest / 60:.1f} in one pass"
            )
        voices = VoiceColumns(config.speaker) if config.speaker else None
        words: list[Word] = []

        def place(recognized: Sequence[Word], positions: int) -> Tensor:
            words.extend(recognized)
            heard = WordTokens(self.tokenizer, positions, config.tokens.eos)
            heard.add_all(recognized)
            return torch.from_numpy(heard.ids_NK)

        frames_BFE = self.model.hear(
            self._waves(sound, loudness, options.piece_seconds, on_heard),
            generator=None
            if options.noise_seed is None
            else torch.Generator().manual_seed(options.noise_seed),
            place=place,
            voices=voices,
            context=options.context,
        )
        reader = SegmentReader(duration)
        embeddings = Embeddings(self.model.speaker, voices) if self.model.speaker and voices else None
        known = _corrections(embeddings, words, options.context)
        written: list[Segment] = []
        for segment in self._write(prompt_T, frames_BFE[0], min(free, options.max_new_tokens), reader):
            written.append(segment)
            yield known(segment)
        yield from known.rest(written)
        known = _corrections(embeddings, words, options.context)
        in_order = sorted(reader.segments, key=lambda s: (s.start, s.end))
        segments = [known(segment) for segment in in_order]
        segments += known.rest(in_order)
        problems = (*problems_of(loudness), *reader.problems)
        yield Transcript(sound.name, self.name, round(duration, 3), tuple(segments), problems=problems)

    def _waves(
        self, sound: Sound, loudness: Loudness, seconds: float, on_heard: Callable[[float], None] | None
    ) -> Iterator[Tensor]:
        """The sound at the loudness of the training data, (1, 1, T) each."""
        rate, weight, heard = (
            self.model.config.acoustic.sample_rate,
            next(self.model.acoustic.parameters()),
            0,
        )
        for piece in sound.pieces(rate, seconds):
            yield torch.from_numpy(np.multiply(piece, loudness.gain, dtype=np.float32))[None, None].to(weight)
            heard += len(piece)
            if on_heard is not None:
                on_heard(heard / rate)

    def _write(
        self, prompt_T: Tensor, frames_FE: Tensor, limit: int, reader: SegmentReader
    ) -> Iterator[Segment]:
        """Segments as the model writes them; loops are cut off and written again."""
        language_model = self.model.language_model
        prompt_BT = prompt_T[None].to(language_model.embedding.weight.device)
        cache = language_model.new_cache(1, len(prompt_T) + limit)
        x_BTE = self.model.embed_prompt(prompt_BT, frames_FE)
        hidden_BE = language_model.read(x_BTE, torch.ones_like(prompt_BT, dtype=torch.bool), cache)
        first_BV = language_model.logits(hidden_BE)
        reason = yield from self._continue(first_BV, cache, limit, 0.0, reader)
        for temperature in RETRY_TEMPERATURES:
            if reason != "loop":
                break
            reader.rewind(self._loop_start(reader))
            prefix = self.tokenizer.encode(reader.text)
            cache.truncate(len(prompt_T))
            if not prefix or len(prefix) >= limit:
                break
            prefix_BT = torch.tensor([prefix], device=prompt_BT.device)
            hidden_BE = language_model.read(
                language_model.embed(prefix_BT), torch.ones_like(prefix_BT, dtype=torch.bool), cache
            )
            again_BV = language_model.logits(hidden_BE)
            reason = yield from self._continue(again_BV, cache, limit - len(prefix), temperature, reader)
        if reason == "loop":
            reader.rewind(self._loop_start(reader))
            reader.problems.append("the model repeated itself, and what follows the last segment is missing")
        elif reason == "length":
            reader.problems.append("the model reached its limit of tokens before the end of the recording")
        else:
            reader.finish()

    @staticmethod
    def _loop_start(reader: SegmentReader) -> int:
        place = find_repetition(reader.text)
        return len(reader.text) if place is None else place

    def _continue(
        self, logits_BV: Tensor, cache: StaticKVCache, limit: int, temperature: float, reader: SegmentReader
    ) -> Generator[Segment, None, str]:
        """Segments of one run of the decode loop; returns why it ended: ``eos``, ``length`` or ``loop``."""
        tokens = self.model.config.tokens
        config = GenerationConfig(
            max_new_tokens=limit,
            eos_token_ids=(tokens.eos, tokens.turn_end),
            pad_token_id=tokens.eos,
            temperature=temperature,
            top_p=0.95 if temperature else 1.0,
            seed=0,
        )
        text = PartialText(self.tokenizer)
        steps = generation.stream(self.model.language_model.decode, logits_BV, cache, config)
        for event in steps:
            if bool(event.active_B[0]):
                yield from reader.feed(text.add(int(event.tokens_B[0])))
                if event.step % 16 == 15 and find_repetition(reader.text) is not None:
                    steps.close()
                    return "loop"
            if 0 in event.stopped:
                yield from reader.feed(text.rest())
                return event.stopped[0]
        return "length"


@dataclass(frozen=True)
class _Corrections:
    """What a small model's segments go through, in their order: words by those recognized, speakers by voice."""

    voices: SpeakerClusters | None
    copied: TranscriptCorrector | None

    def __call__(self, segment: Segment) -> Segment:
        segment = self.copied.checked(segment) if self.copied else segment
        return self.voices.assign(segment) if self.voices else segment

    def rest(self, segments: Sequence[Segment]) -> list[Segment]:
        """What was recognized behind the last of the segments."""
        left = self.copied.rest(segments) if self.copied else []
        return [self.voices.assign(segment) if self.voices else segment for segment in left]


def _corrections(embeddings: Embeddings | None, words: Sequence[Word], context: str) -> _Corrections:
    stretches = [
        (said[0].start, max(word.end for word in said)) for said in sentences_of(words, BREATH_SECONDS)
    ]
    return _Corrections(
        SpeakerClusters(embeddings, stretches) if embeddings else None,
        TranscriptCorrector(words, context) if words else None,
    )


class PartialText:
    """Text of tokens that come one by one; bytes of an unfinished character wait."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._waiting: list[int] = []

    def add(self, token: int) -> str:
        """The text that is certain with this token."""
        self._waiting.append(token)
        text = self._tokenizer.decode(self._waiting)
        # No character has more than four bytes, and a token has at least one.
        if text.endswith("\ufffd") and len(self._waiting) < 4:
            return ""
        self._waiting.clear()
        return text

    def rest(self) -> str:
        """What still waits."""
        text = self._tokenizer.decode(self._waiting)
        self._waiting.clear()
        return text


def check_context(context: str) -> None:
    """Raises InputError for a context that is too long."""
    if len(context) > MAX_CONTEXT:
        raise InputError(f"context: {len(context):,} characters; at most {MAX_CONTEXT:,} are taken")


def problems_of(loudness: Loudness) -> Sequence[str]:
    """What is wrong with a sound, a line each."""
    problems = []
    if loudness.rms < 1e-4:
        problems.append("the recording is silent or nearly so")
    if loudness.clipped > 0.001:
        problems.append(f"{loudness.clipped:.1%} of the samples are clipped")
    return problems
