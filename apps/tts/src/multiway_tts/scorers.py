"""Models that score speech: a recognizer for the words, GE2E for the speaker, DistillMOS for naturalness.

All take float32 samples (T,) at 16 kHz. Each is an extra of this app, and missing ones are named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from multiway_core import config, hub
from multiway_core.errors import InputError, MultiwayError
from multiway_speech.audio import SoundArray, SoundFile, read

from multiway_tts.app import APP

RATE = 16_000
GE2E_DBFS = -30.0
"""Loudness of the speech that the speaker encoder was trained with."""
Recognizer = Callable[[np.ndarray], str]
Embedder = Callable[[np.ndarray], np.ndarray]


def load_recognizer(name: str, language: str = "en") -> Recognizer:
    """What writes down speech: a VibeVoice-ASR model (``bundled:NAME``, folder), else Whisper by folder or name.

    Raises InputError: the extra is missing, or there is no such model; as the model's own errors.
    """
    if _is_asr(name):
        return _asr(name)
    try:
        from faster_whisper import WhisperModel
    except ModuleNotFoundError as error:
        raise _missing("wer", error) from error
    folder = Path(name)
    if folder.is_dir() and not (folder / "model.bin").is_file():
        raise InputError(
            f"--recognizer {name}: no model.bin in it; expected a Whisper model in CTranslate2's format"
        )
    try:
        model = WhisperModel(name, device="cpu", compute_type="int8")
    except Exception as error:  # the library's, the hub client's, the network's
        raise InputError(
            f"--recognizer {name}: no such Whisper model here, and it could not be fetched; give a folder in"
            f" CTranslate2's format ({type(error).__name__})"
        ) from error

    def listen(samples: np.ndarray) -> str:
        segments, _ = model.transcribe(
            samples.astype(np.float32),
            language=language,
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
        )
        return " ".join(segment.text.strip() for segment in segments)

    return listen


def load_embedder() -> Embedder:
    """GE2E speaker embeddings (256,), of unit length. Raises InputError without the extra."""
    try:
        from resemblyzer import VoiceEncoder
    except ModuleNotFoundError as error:
        raise _missing("similarity", error) from error
    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(samples: np.ndarray) -> np.ndarray:
        level = float(np.sqrt(np.square(samples, dtype=np.float64).mean()))
        embedding = encoder.embed_utterance(samples * (10 ** (GE2E_DBFS / 20) / max(level, 1e-6)))
        return np.asarray(embedding, dtype=np.float64)

    return embed


def load_naturalness() -> Callable[[np.ndarray], float]:
    """DistillMOS: 1 (bad) to 5 (excellent). Raises InputError without the extra."""
    try:
        import distillmos
    except ModuleNotFoundError as error:
        raise _missing("mos", error) from error
    import torch

    model = distillmos.ConvTransformerSQAModel()
    model.eval()

    def judge(samples: np.ndarray) -> float:
        with torch.no_grad():
            return float(model(torch.from_numpy(samples.astype(np.float32))[None]).reshape(-1)[0])

    return judge


def voice_embeddings(embed: Embedder, sounds: Mapping[str, Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    """The mean direction of each voice's recordings."""
    found = {}
    for voice, recordings in sounds.items():
        mean = np.mean([embed(samples) for samples in recordings], axis=0)
        found[voice] = mean / np.linalg.norm(mean)
    return found


def recordings_of(folder: Path, voices: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """What lies in a folder of each voice: ``NAME.*`` and ``NAME/*``. Raises InputError if one has nothing."""
    found = {}
    for voice in voices:
        # A voice is named by a data file: only names of this folder count.
        paths = [path for path in sorted(folder.glob("*")) if path.stem == voice and path.is_file()]
        paths += [
            path
            for inner in folder.glob("*")
            if inner.name == voice and inner.is_dir()
            for path in sorted(inner.iterdir())
            if path.is_file()
        ]
        if not paths:
            raise InputError(
                f"--recordings {folder}: nothing of voice {voice}; expected {voice}.wav or {voice}/"
            )
        found[voice] = [read(SoundFile(path), RATE, max_seconds=600) for path in paths]
    return found


def plain_words(text: str) -> str:
    """Letters, digits and apostrophes, in lower case: what is compared."""
    return " ".join(re.sub(r"[^\w' ]|_", " ", text.lower().replace("’", "'")).split())


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """Float32 (T,) at 16 kHz."""
    if not len(samples):
        return np.zeros(0, dtype=np.float32)
    return read(SoundArray(samples, rate), RATE, max_seconds=24 * 3600)


def _is_asr(name: str) -> bool:
    if not name.startswith(hub.BUNDLED_PREFIX) and not Path(name).is_dir():
        return False
    path = Path(hub.resolve(name)) / "config.json"
    try:
        found = config.read_json(path) if path.is_file() else {}
    except MultiwayError:
        return False
    # The published layouts name their type; a model of ours has the fields of VibeVoiceAsrConfig.
    return (
        str(found.get("model_type", "")).startswith("vibevoice") or {"acoustic", "semantic"} <= found.keys()
    )


def _asr(name: str) -> Recognizer:
    from multiway_speech.vibevoice_asr.pipeline import AsrPipeline

    pipeline = AsrPipeline.from_pretrained(name)

    def listen(samples: np.ndarray) -> str:
        transcript = pipeline(SoundArray(samples, RATE, "speech"))
        return " ".join(segment.text for segment in transcript.segments if segment.speaker is not None)

    return listen


def _missing(extra: str, error: ModuleNotFoundError) -> InputError:
    return InputError(f"this score needs {error.name}: pip install '{APP.program}[{extra}]'")


def word_errors(heard: str, text: str) -> tuple[int, int]:
    """Words that are wrong, missing or too many, and words of the text."""
    return _counted("process_words", heard, text)


def character_errors(heard: str, text: str) -> tuple[int, int]:
    """The same for characters."""
    return _counted("process_characters", heard, text)


def _counted(method: str, heard: str, text: str) -> tuple[int, int]:
    import jiwer

    reference = plain_words(text)
    if not reference:
        return 0, 0
    found = getattr(jiwer, method)(reference, plain_words(heard))
    wrong = found.substitutions + found.deletions
    return wrong + found.insertions, wrong + found.hits
