"""Training data of the ``smoke`` presets: a minute of the toy teacher's speech, made offline in a second or two."""

from __future__ import annotations

import random
from pathlib import Path

from multiway_speech.speech_tokenizer.synthesize import synthesize
from multiway_speech.speech_tokenizer.toy_teacher import VOICES, ToyTeacher
from multiway_speech.vibevoice_asr.sentences import made_sentence

_NAMES = ("Draney", "Zambrana", "Mesner", "Kovacs")


def smoke_speech(folder: Path) -> Path:
    """The folder, with files and manifest as ``multiway-tts data synthesize`` writes them."""
    rng = random.Random(0)
    sentences = [made_sentence(rng, _NAMES) for _ in range(60)]
    synthesize(ToyTeacher(), sentences, VOICES, folder, seconds=60.0)
    return folder
