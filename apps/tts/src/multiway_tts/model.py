"""The text-to-speech model of a run: VibeVoice, or VibeVoice-Realtime behind the same interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from multiway_speech.script import Script
    from multiway_speech.vibevoice.pipeline import Speech, SpeechOptions, SpeechPiece

DEFAULT_KEY = "multiway"
"""Of the watermark: known to everybody, so that everybody can look for it."""


class Synthesizer(Protocol):
    """What commands, demo and evaluation need of a pipeline: a name, a rate, defaults, voices, a stream of sound."""

    name: str

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
    """``bundled:NAME``, a folder or a hub id. Raises ModelNotFoundError, CheckpointError, ConfigError, InputError."""
    from multiway_core import config, hub
    from multiway_speech.vibevoice.pipeline import TtsPipeline
    from multiway_speech.vibevoice_realtime.checkpoint import MODEL_TYPE

    path = Path(hub.resolve(name)) / "config.json"
    if path.is_file() and config.read_json(path).get("model_type") == MODEL_TYPE:
        from multiway_speech.vibevoice_realtime.pipeline import RealtimePipeline

        from multiway_tts.realtime import RealtimeSynthesizer

        return RealtimeSynthesizer(RealtimePipeline.from_pretrained(name, device=device, dtype=dtype))
    return TtsPipeline.from_pretrained(name, device=device, dtype=dtype)


def speech_options(
    synthesizer: Synthesizer, *, seed: int, guidance: float | None = None, steps: int | None = None
) -> SpeechOptions:
    """Options; what is None is as the model's makers have it. Raises ConfigError for values out of range."""
    from multiway_speech.vibevoice.generation import SpeechGenerationConfig

    default = synthesizer.defaults
    options = replace(
        default,
        guidance=default.guidance if guidance is None else guidance,
        diffusion_steps=default.diffusion_steps if steps is None else steps,
        seed=seed,
    )
    SpeechGenerationConfig(1, guidance=options.guidance, diffusion_steps=options.diffusion_steps, seed=seed)
    return options
