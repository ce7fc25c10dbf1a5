"""A model of ours as a folder: ``config.json``, safetensors in files small enough for a repository, ``tokenizer.json``.

    python -m multiway_speech.vibevoice_asr.folder --run runs/listen --codec bundled:codec-tiny \
        --whisper whisper-tiny.en/model.bin --head phones.safetensors --out asr-tiny

puts a trained decoder and the frozen encoders together.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from multiway_core import checkpoint, config
from multiway_core.model_folder import CONFIG_FILE
from multiway_core.training import load_ema_into

from multiway_speech.speech_tokenizer import folder as tokenizers
from multiway_speech.text_tokenizer import TOKENIZER_FILE
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from multiway_speech.vibevoice_asr.objective import Listener
from multiway_speech.vibevoice_asr.phone_head import load_head
from multiway_speech.vibevoice_asr.train import PIECES, TINY
from multiway_speech.vibevoice_asr.whisper_encoder import WhisperEncoder, WhisperEncoderConfig
from multiway_speech.vibevoice_asr.whisper_weights import load_whisper_encoder


def save(model: VibeVoiceAsr, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write config and tensors, as ``dtype`` if given. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, folder, dtype=dtype, max_shard_bytes=tokenizers.MAX_FILE_BYTES)
    config.save(model.config, folder / CONFIG_FILE)


def put_together(run: Path, codec: str, whisper: Path, head: Path) -> VibeVoiceAsr:
    """The averaged decoder of a training run behind both encoders. Raises CheckpointError."""
    listener = Listener(TINY, PIECES)
    load_ema_into(listener, run)
    model = VibeVoiceAsr(TINY)
    model.acoustic = tokenizers.load(codec).encoder
    encoder = WhisperEncoder(TINY.whisper or WhisperEncoderConfig())
    encoder.load_state_dict(load_whisper_encoder(whisper).state_dict(), strict=False)
    encoder.phones = load_head(head)
    model.semantic = encoder
    model.acoustic_connector = listener.acoustic_connector
    model.semantic_connector = listener.semantic_connector
    model.language_model = listener.language_model
    return model.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Put a trained decoder and the frozen encoders together.")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--codec", default="bundled:codec-tiny")
    parser.add_argument("--whisper", type=Path, required=True, help="model.bin of Whisper tiny.en")
    parser.add_argument("--head", type=Path, required=True, help="what vibevoice_asr.phone_head trained")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    save(
        put_together(options.run, options.codec, options.whisper, options.head),
        options.out,
        dtype=torch.bfloat16,
    )
    (options.out / TOKENIZER_FILE).write_bytes((options.run / TOKENIZER_FILE).read_bytes())


if __name__ == "__main__":
    main()
