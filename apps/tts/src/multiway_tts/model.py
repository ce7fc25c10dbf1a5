"""The text-to-speech model of a run: Kokoro, VibeVoice, or VibeVoice-Realtime behind one interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from multiway_core.errors import InputError

if TYPE_CHECKING:
    import torch
    from multiway_speech.script import Script
    from multiway_speech.vibevoice.pipeline import Speech, SpeechOptions, SpeechPiece

KOKORO, BUNDLED = "kokoro", "bundled:tts-tiny"
DEFAULT_KEY = "multiway"
"""Of the watermark: known to everybody, so that everybody can look for it."""


class Synthesizer(Protocol):
    """What commands, demo and evaluation need of a pipeline: a name, a rate, defaults, voices, a stream of sound."""

    name: str
    takes_recordings: bool
    """Whether it speaks with the voice of a recording."""

    @property
    def sample_rate(self) -> int: ...

    @property
    def defaults(self) -> SpeechOptions:
        """The model's default options."""
        ...

    def voices(self) -> tuple[str, ...]:
        """Names of the voices in the model's folder."""
        ...

    def voice(self, name: str, sound: Any = None) -> Any:
        """The model's own voice of this name, or the voice in a recording."""
        ...

    def voice_file(self, path: Path) -> Any:
        """A voice that was encoded before. Raises CheckpointError, InputError."""
        ...

    def check(self, script: Script) -> list[str]:
        """What the user should know before it is spoken. Raises InputError: what cannot be said, with its line."""
        ...

    def stream(
        self,
        script: Script | str,
        voices: Mapping[str, Any] | None = None,
        options: SpeechOptions | None = None,
    ) -> Iterator[SpeechPiece | Speech]:
        """Audio during synthesis, and the whole speech last."""
        ...


def load_synthesizer(
    name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> Synthesizer:
    """``kokoro``, ``bundled:NAME``, a folder or a hub id.

    Raises ModelNotFoundError, CheckpointError, ConfigError, InputError.
    """
    from multiway_core import config, hub
    from multiway_speech.vibevoice.pipeline import TtsPipeline
    from multiway_speech.vibevoice_realtime.checkpoint import MODEL_TYPE

    if name == KOKORO:
        from multiway_speech.kokoro.pipeline import KokoroPipeline

        return KokoroPipeline.from_pretrained(name, device=device, dtype=dtype)
    folder = Path(hub.resolve(name))
    if (folder / "kokoro-v1_0.pth").is_file():
        from multiway_speech.kokoro.pipeline import KokoroPipeline

        return KokoroPipeline.from_pretrained(str(folder), device=device, dtype=dtype)
    path = folder / "config.json"
    if path.is_file() and config.read_json(path).get("model_type") == MODEL_TYPE:
        from multiway_speech.vibevoice_realtime.pipeline import RealtimePipeline

        from multiway_tts.realtime import RealtimeSynthesizer

        return RealtimeSynthesizer(RealtimePipeline.from_pretrained(name, device=device, dtype=dtype))
    return TtsPipeline.from_pretrained(name, device=device, dtype=dtype)


def speech_options(
    synthesizer: Synthesizer,
    *,
    seed: int,
    guidance: float | None = None,
    steps: int | None = None,
    speed: float = 1.0,
    pause: float | None = None,
) -> SpeechOptions:
    """Options; what is None is as the model's makers have it. Raises ConfigError, InputError: out of range."""
    from multiway_speech.tempo import FASTEST, SLOWEST
    from multiway_speech.vibevoice.generation import SpeechGenerationConfig

    if not SLOWEST <= speed <= FASTEST:
        raise InputError(f"speed {speed:g}: from {SLOWEST:g} to {FASTEST:g} times the model's own")
    if pause is not None and not 0 <= pause <= 60:
        raise InputError(f"a pause of {pause:g} s between sentences: from 0 to 60")

    default = synthesizer.defaults
    options = replace(
        default,
        guidance=default.guidance if guidance is None else guidance,
        diffusion_steps=default.diffusion_steps if steps is None else steps,
        seed=seed,
        speed=speed,
        pause=pause,
    )
    SpeechGenerationConfig(1, guidance=options.guidance, diffusion_steps=options.diffusion_steps, seed=seed)
    return options
