"""A model of ours as a folder: ``config.json``, safetensors in files small enough for a repository, tokenizer, voices.

    python -m multiway_speech.vibevoice.folder runs/tts/model tts-tiny

writes a trained model as it is bundled: in bfloat16, with its voices, without the codec, which is bundled by itself.
Published models have layouts of their own, which ``checkpoint`` reads and writes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from multiway_core import checkpoint, config, files
from multiway_core.errors import ConfigError
from multiway_core.model_folder import CONFIG_FILE
from multiway_core.tokenization import TOKENIZER_FILE

from multiway_speech.speech_tokenizer import folder as tokenizer_folder
from multiway_speech.speech_tokenizer.folder import MAX_FILE_BYTES
from multiway_speech.vibevoice.config import TINY, VibeVoiceConfig
from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice.phone_tokenizer import new_tokenizer
from multiway_speech.vibevoice.voices import VOICE_FOLDER, Voice

_CODEC = ("acoustic.{rest*}",)


def is_ours(folder: Path) -> bool:
    """Whether the folder's config is that of a :class:`VibeVoiceConfig` and not a published one."""
    return "model_type" not in config.read_json(folder / CONFIG_FILE)


def save(model: VibeVoice, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write config, tensors (as ``dtype`` if given) and tokenizer, without the codec if that has a name of its own.

    Raises OutputError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = model.state_dict()
    if model.config.codec:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("acoustic.")}
    checkpoint.save(tensors, folder, dtype=dtype, max_shard_bytes=MAX_FILE_BYTES)
    config.save(model.config, folder / CONFIG_FILE)
    files.write_text(folder / TOKENIZER_FILE, new_tokenizer().to_str(pretty=True) + "\n")


def load(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> VibeVoice:
    """The model in a folder that :func:`save` wrote, in evaluation mode. Raises ConfigError, CheckpointError."""
    own = config.load(VibeVoiceConfig, folder / CONFIG_FILE)
    if not own.reads_along:
        raise ConfigError(
            f"{folder / CONFIG_FILE}: reads_along is false; such models have a published layout"
        )
    with checkpoint.on_meta():
        model = VibeVoice(own)
    if own.codec:
        model.acoustic = tokenizer_folder.load(own.codec, dtype=dtype, device=device)
        if model.acoustic.config != own.acoustic:
            raise ConfigError(
                f"{folder / CONFIG_FILE}: {own.codec} has other sizes than the model's acoustic tokenizer"
            )
    checkpoint.load(model, folder, dtype=dtype, device=device, optional=_CODEC if own.codec else ())
    return model.to(device).eval()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write a trained model as it is bundled.")
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--codec", default=TINY.codec)
    parser.add_argument("--first-voices", nargs="*", default=[], help="given out first, in this order")
    options = parser.parse_args(arguments)
    model = load(options.model)
    model.config = replace(model.config, codec=options.codec, voices=tuple(options.first_voices))
    save(model, options.out, dtype=torch.bfloat16)
    for path in sorted((options.model / VOICE_FOLDER).glob("*.safetensors")):
        Voice.load(path, model.config.acoustic.latent_size).save(options.out / VOICE_FOLDER / path.name)


if __name__ == "__main__":
    main()
