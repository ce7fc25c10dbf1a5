"""A model of ours as a folder: ``config.json``, safetensors in files small enough for a repository, ``tokenizer.json``.

    python -m multiway_speech.vibevoice_asr.folder --run runs/listen --codec bundled:codec-tiny \
        --whisper whisper-tiny.en --phones phones.jsonl --speakers pretrained.pt --out asr-tiny

puts a trained decoder, the codec's encoder, Whisper and the speaker encoder together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from multiway_core import checkpoint, config
from multiway_core.model_folder import CONFIG_FILE
from multiway_core.tokenization import TOKENIZER_FILE
from multiway_core.training import load_ema_into

from multiway_speech.speech_tokenizer import folder as tokenizers
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from multiway_speech.vibevoice_asr.objective import AsrTrainingModel
from multiway_speech.vibevoice_asr.speaker_encoder import SpeakerEncoder, load_encoder
from multiway_speech.vibevoice_asr.train import TINY
from multiway_speech.vibevoice_asr.whisper import Whisper
from multiway_speech.vibevoice_asr.whisper_checkpoint import (
    PIECES_FILE,
    common_tokens,
    load_whisper,
    save_pieces,
)
from multiway_speech.vibevoice_asr.whisper_encoder import WhisperConfig


def save(model: VibeVoiceAsr, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write config, tensors, as ``dtype`` if given, and Whisper's tokens. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, folder, dtype=dtype, max_shard_bytes=tokenizers.MAX_FILE_BYTES)
    config.save(model.config, folder / CONFIG_FILE)
    if isinstance(model.semantic, Whisper):
        save_pieces(model.semantic.pieces, folder / PIECES_FILE)


def assemble(run: Path, codec: str, reader: Whisper, speaker: SpeakerEncoder) -> VibeVoiceAsr:
    """A training run's averaged decoder, the codec's encoder, Whisper, a speaker encoder. Raises CheckpointError."""
    trained = AsrTrainingModel(TINY)
    load_ema_into(trained, run)
    model = VibeVoiceAsr(replace(TINY, whisper=reader.config, speaker=speaker.config))
    model.acoustic = tokenizers.load(codec).encoder
    model.semantic = reader
    model.acoustic_connector = trained.acoustic_connector
    model.semantic_connector = trained.semantic_connector
    model.language_model = trained.language_model
    model.speaker = speaker
    return model.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Put a trained decoder, the codec's encoder, Whisper and the speaker encoder together."
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--codec", default="bundled:codec-tiny")
    parser.add_argument("--whisper", type=Path, required=True, help="folder of Whisper tiny.en")
    parser.add_argument("--phones", type=Path, required=True, help="whose texts choose Whisper's tokens")
    parser.add_argument("--speakers", type=Path, required=True, help="pretrained.pt of Resemblyzer")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    texts = [json.loads(line)["text"] for line in options.phones.read_text("utf-8").splitlines()]
    kept = common_tokens(options.whisper, texts, WhisperConfig().vocab_size - 3)
    whisper, speaker = load_whisper(options.whisper, kept), load_encoder(options.speakers)
    model = assemble(options.run, options.codec, whisper, speaker)
    save(model, options.out, dtype=torch.bfloat16)
    (options.out / TOKENIZER_FILE).write_bytes((options.run / TOKENIZER_FILE).read_bytes())


if __name__ == "__main__":
    main()
