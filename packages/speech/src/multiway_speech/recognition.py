"""Any speech recognizer of the house by its name."""

from __future__ import annotations

from pathlib import Path

import torch

from multiway_speech.asr_cascade.pipeline import CascadePipeline
from multiway_speech.asr_cascade.recognizers import BASE, TINY
from multiway_speech.vibevoice_asr.pipeline import AsrPipeline


class SpeechRecognizer:
    """Loads VibeVoice-ASR, which does all in one network, or the cascade around a Whisper."""

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        revision: str | None = None,
    ) -> AsrPipeline | CascadePipeline:
        """``bundled:whisper-tiny.en``, ``whisper-base`` (``multiway-asr[whisper]``), a folder with CTranslate2's
        ``model.bin``; every other name is a VibeVoice-ASR: ``bundled:asr-tiny``, a folder, or a hub id such as
        ``microsoft/VibeVoice-ASR``.

        Raises ModelNotFoundError, CheckpointError, ConfigError or InputError.
        """
        whisper = name in (TINY, BASE) or (Path(name) / "model.bin").is_file()
        kind = CascadePipeline if whisper else AsrPipeline
        return kind.from_pretrained(name, device=device, dtype=dtype, revision=revision)
