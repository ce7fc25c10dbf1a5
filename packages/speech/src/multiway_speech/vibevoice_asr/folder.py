"""Model folder of a model of ours: ``config.json``, safetensors in small files, Whisper's tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from multiway_speech.speech_tokenizer import folder as tokenizers
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from multiway_speech.vibevoice_asr.objective import AsrTrainingModel
from multiway_speech.vibevoice_asr.speaker_encoder import SpeakerEncoder
from multiway_speech.vibevoice_asr.whisper import Whisper
from multiway_speech.vibevoice_asr.whisper_checkpoint import FOLDER_RULES, PIECES_FILE, save_pieces


def save(model: VibeVoiceAsr, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write config, tensors, as ``dtype`` if given, and Whisper's tokens. Raises OutputError."""
    is_whisper = isinstance(model.semantic, Whisper)
    tokenizers.write(model, model.config, folder, dtype, FOLDER_RULES if is_whisper else None)
    if isinstance(model.semantic, Whisper):
        save_pieces(model.semantic.pieces, folder / PIECES_FILE)


def assemble(
    trained: AsrTrainingModel, codec: str, whisper: Whisper, speaker: SpeakerEncoder
) -> VibeVoiceAsr:
    """A trained decoder, the codec's encoder, Whisper and a speaker encoder as one model. Raises CheckpointError."""
    model = VibeVoiceAsr(replace(trained.config, whisper=whisper.config, speaker=speaker.config))
    model.acoustic = tokenizers.load(codec).encoder
    model.semantic = whisper
    model.acoustic_connector = trained.acoustic_connector
    model.semantic_connector = trained.semantic_connector
    model.language_model = trained.language_model
    model.speaker = speaker
    return model.eval()
