"""Voice prompts: a few seconds of speech as acoustic latents, encoded once, kept in a file.

Shape suffixes: F frames, D latent size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from multiway_core import checkpoint
from multiway_core.errors import CheckpointError, InputError
from torch import Tensor

from multiway_speech import audio
from multiway_speech.speech_tokenizer.model import AcousticTokenizer, split_waveform

VOICE_FOLDER = "voices"
"""In a model folder: the voices that come with it, ``NAME.safetensors`` each."""
MIN_SECONDS = 1.0
MAX_SECONDS = 60.0
SILENCE = 1e-4
"""Root mean square (full scale at 1) under which a voice prompt holds no voice."""


@dataclass(frozen=True)
class Voice:
    """A voice prompt.

    Attributes:
        name: what a script may call it.
        latents_FD: raw acoustic latents, float32 on the CPU.
    """

    name: str
    latents_FD: Tensor

    def save(self, path: Path) -> None:
        """Write the latents as safetensors. Raises :class:`OutputError`."""
        checkpoint.save({"latents": self.latents_FD}, path.parent, filename=path.name)

    @classmethod
    def load(cls, path: Path, latent_size: int, name: str | None = None) -> Voice:
        """Read what :meth:`save` wrote; the name is the file's unless given. Raises :class:`CheckpointError`."""
        latents_FD = checkpoint.read(path).get("latents")
        if latents_FD is None or latents_FD.ndim != 2 or latents_FD.shape[1] != latent_size:
            raise CheckpointError(
                f"{path}: not a voice of this model (latents of {latent_size} numbers a frame)"
            )
        return cls(name or path.stem, latents_FD.float())


@torch.no_grad()
def encode_voice(tokenizer: AcousticTokenizer, sound: audio.Sound, name: str) -> Voice:
    """The voice in a recording, brought to the loudness of the training data.

    Raises :class:`InputError`: unreadable, silent, shorter than one second or longer than a minute.
    """
    rate = tokenizer.config.sample_rate
    samples = audio.read(sound, rate, max_seconds=MAX_SECONDS)
    seconds = len(samples) / rate
    if seconds < MIN_SECONDS:
        wanted = f"give {MIN_SECONDS:g} to {MAX_SECONDS:g} s of speech"
        raise InputError(f"voice {name}: {sound.name} has {seconds:.1f} s of sound; {wanted}")
    loudness = audio.measure(audio.SoundArray(samples, rate, sound.name), rate)
    if loudness.rms < SILENCE:
        raise InputError(f"voice {name}: {sound.name} is silent")
    weight = next(tokenizer.encoder.parameters())
    wave_11T = torch.from_numpy(np.multiply(samples, loudness.gain, dtype=np.float32))[None, None].to(weight)
    pieces = split_waveform(wave_11T, tokenizer.config)
    return Voice(name, torch.cat(list(tokenizer.encode_stream(pieces)), dim=1)[0].float().cpu())
