"""The ``voices`` command: which voices there are, and making a voice file of a recording."""

from __future__ import annotations

from pathlib import Path

from multiway_core.app import note
from multiway_core.errors import InputError

from multiway_tts.model import PROGRAM, load_synthesizer
from multiway_tts.voice_assignment import require_consent, voice_of_recording

SUFFIX = ".safetensors"


def voice_names(model: str) -> tuple[str, ...]:
    """Of the model's own voices."""
    return load_synthesizer(model, "cpu").voices()


def make_voice(recording: Path, output: Path, model: str, *, consent: bool, device: str) -> None:
    """Encode a recording once, for ``--voice 1=FILE``. Raises InputError, OutputError."""
    if output.suffix.lower() != SUFFIX:
        raise InputError(f"{output}: voice files end in {SUFFIX}")
    if not output.parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist; make it first")
    require_consent(recording.name, consent)
    synthesizer = load_synthesizer(model, device)
    voice, remark = voice_of_recording(synthesizer, output.stem, recording)
    if remark:
        note(f"{PROGRAM}: {remark}")
    voice.save(output)
