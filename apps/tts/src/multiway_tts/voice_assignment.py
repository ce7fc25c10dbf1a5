"""Assigns voices to speakers: the model's own, a voice file, or a recording, which needs consent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from multiway_core.errors import InputError
from multiway_core.files import sha256

from multiway_tts.voice_check import check_recording

if TYPE_CHECKING:
    from multiway_tts.model import Synthesizer

VOICE_SUFFIXES = (".safetensors", ".pt")
Source = Literal["model", "file", "recording", "chosen by the model"]


@dataclass(frozen=True)
class SpeakerVoice:
    """A speaker of the script and its voice.

    Attributes:
        speaker: as the script has it.
        voice: name of the model's voice, or of the file.
        source: where the voice comes from.
        sha256: of the file.
        consent: for a recording, that the user stated the speaker's consent.
    """

    speaker: str
    voice: str
    source: Source
    sha256: str | None = None
    consent: bool | None = None


@dataclass(frozen=True)
class VoiceAssignment:
    """Every speaker's voice, and the voices by speaker; no voices where the model chooses them itself."""

    parts: tuple[SpeakerVoice, ...]
    voices: Mapping[str, Any]
    remarks: tuple[str, ...] = ()


def read_assignments(given: Iterable[str]) -> dict[str, str]:
    """``1=alice.wav``, ``Alice=alice.wav`` or ``heart`` (which is speaker 1's) as speaker -> voice.

    Raises InputError: nothing on one side, or a speaker twice.
    """
    found: dict[str, str] = {}
    for item in given:
        speaker, sign, voice = item.partition("=")
        if not sign or any(c in speaker for c in "/\\"):
            speaker, voice = "1", item
        speaker, voice = speaker.strip(), voice.strip()
        if not speaker or not voice:
            raise InputError(f"--voice {item}: expected SPEAKER=VOICE, such as 1=alice.wav or 2=emma")
        number = speaker.lower().removeprefix("speaker").strip()
        if number.isascii() and number.isdigit() and len(number) <= 6:
            speaker = f"Speaker {int(number)}"
        if speaker in found:
            raise InputError(f"--voice: {speaker} has two voices, {found[speaker]} and {voice}")
        found[speaker] = voice
    return found


def names_in_scripts(synthesizer: Synthesizer, given: Mapping[str, str]) -> tuple[str, ...]:
    """The names that may begin a turn beside ``Speaker N``."""
    named = [name for name in given if not name.startswith("Speaker ")]
    return tuple(dict.fromkeys([*named, *synthesizer.voices()]))


def assign_voices(
    synthesizer: Synthesizer, names: Sequence[str], given: Mapping[str, str], *, consent: bool = False
) -> VoiceAssignment:
    """Voices for all ``names`` of a script: as given, else of the name itself, else the model's in order.

    Raises InputError: an assignment to nobody, an unknown voice, a recording without consent or that holds no voice,
    more speakers than voices; CheckpointError: a bad voice file.
    """
    known = synthesizer.voices()
    nobody = [name for name in given if name not in names]
    if nobody:
        raise InputError(f"--voice {nobody[0]}=...: the script's speakers are: {', '.join(names)}")
    chosen = {name: given.get(name) or (name if name in known else None) for name in names}
    free = [voice for voice in known if voice not in chosen.values()]
    if not known and not any(chosen.values()):
        return VoiceAssignment(tuple(SpeakerVoice(name, "", "chosen by the model") for name in names), {})
    parts: list[SpeakerVoice] = []
    voices: dict[str, Any] = {}
    remarks: list[str] = []
    for name, wanted in chosen.items():
        if wanted is None:
            if not free:
                has = f"the model has {len(known)}" if known else "the model has none of its own"
                raise InputError(f"{name} has no voice: {has}; give one: --voice {_short(name)}=FILE")
            wanted = free.pop(0)
        part, voice, remark = _voice(synthesizer, name, wanted, consent)
        parts.append(part)
        voices[name] = voice
        remarks += [remark] if remark else []
    return VoiceAssignment(tuple(parts), voices, tuple(remarks))


def _voice(
    synthesizer: Synthesizer, name: str, wanted: str, consent: bool
) -> tuple[SpeakerVoice, Any, str | None]:
    if wanted in synthesizer.voices():
        return SpeakerVoice(name, wanted, "model"), synthesizer.voice(wanted), None
    path = Path(wanted)
    if not _is_file(path):
        known = ", ".join(synthesizer.voices()) or "none"
        raise InputError(f"no voice {wanted!r}: no such file, and the model's own voices are: {known}")
    if path.suffix.lower() in VOICE_SUFFIXES:
        return SpeakerVoice(name, path.name, "file", sha256_of(path)), synthesizer.voice_file(path), None
    require_consent(path.name, consent)
    voice, remark = voice_of_recording(synthesizer, path.stem, path)
    return SpeakerVoice(name, path.name, "recording", sha256_of(path), True), voice, remark


def voice_of_recording(synthesizer: Synthesizer, name: str, path: Path) -> tuple[Any, str | None]:
    """The voice in a recording, and a remark if it may not be what it should. Raises InputError."""
    remark = (
        check_recording(path) if synthesizer.takes_recordings else None
    )  # else it says that it takes none
    return synthesizer.voice(name, path), remark


def require_consent(name: str, consent: bool) -> None:
    """Raises InputError unless the speaker's consent was stated."""
    if not consent:
        raise InputError(
            f"{name} is somebody's recording: add --consent if that person agreed to having the voice imitated"
        )


def sha256_of(path: Path) -> str:
    """Of a file's content. Raises InputError if it cannot be read."""
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _short(name: str) -> str:
    return name.removeprefix("Speaker ")
