"""The ``voices`` command: list voices, and make a voice file of a recording."""

from __future__ import annotations

from pathlib import Path

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError

from multiway_tts.app import APP
from multiway_tts.voice_assignment import require_consent, voice_of_recording

SUFFIX = ".safetensors"


def voice_names(model: ModelOptions) -> tuple[str, ...]:
    """Of the model's own voices."""
    return load_pipeline(APP, model).voices()


def make_voice(recording: Path, output: Path, model: ModelOptions, *, consent: bool) -> None:
    """Encode a recording once, for ``--voice 1=FILE``. Raises InputError, OutputError."""
    if output.suffix.lower() != SUFFIX:
        raise InputError(f"{output}: voice files end in {SUFFIX}")
    if not output.parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist; make it first")
    require_consent(recording.name, consent)
    synthesizer = load_pipeline(APP, model)
    voice, remark = voice_of_recording(synthesizer, output.stem, recording)
    if remark:
        APP.note(remark)
    voice.save(output)
