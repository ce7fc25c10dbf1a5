"""Published checkpoints -> :class:`~multiway_speech.vibevoice_asr.model.VibeVoiceAsr`.

The original layout (``microsoft/VibeVoice-ASR``) and that of `transformers` (``microsoft/VibeVoice-ASR-HF``), whose
files have older names than its class in memory; both of those are read, and the older ones are written. Models of
ours, which :mod:`~multiway_speech.vibevoice_asr.folder` writes, are read under their own names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from multiway_core import checkpoint, config, files
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError

from multiway_speech.published import (
    connector_rules,
    language_model_from_published,
    language_model_rules,
    language_model_to_published,
)
from multiway_speech.speech_tokenizer import checkpoint as tokenizer_checkpoint
from multiway_speech.speech_tokenizer.checkpoint import Layout, encoder_rules
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from multiway_speech.vibevoice_asr.whisper import Whisper
from multiway_speech.vibevoice_asr.whisper_checkpoint import FOLDER_RULES, PIECES_FILE, read_pieces

_UNUSED = (
    "model.acoustic_tokenizer.decoder.{rest*}",
    "model.semantic_tokenizer.decoder.{rest*}",
    "model.prediction_head.{rest*}",
    "model.speech_scaling_factor",
    "model.speech_bias_factor",
)
"""What files in the original layout carry along from the model that speaks."""
_ENCODER = "vibevoice_acoustic_tokenizer_encoder"


def rule_table(layout: Layout, own: VibeVoiceAsrConfig) -> RuleTable:
    """The rules of a layout for a model of these sizes."""
    if layout == "original":
        connector = ("fc1", "norm", "fc2")
        rules = [
            *_encoders(layout, own, "model.acoustic_tokenizer.encoder.", "model.semantic_tokenizer.encoder."),
            *connector_rules("model.acoustic_connector.", "acoustic_connector.", connector),
            *connector_rules("model.semantic_connector.", "semantic_connector.", connector),
            *language_model_rules("model.language_model.", "language_model."),
            Rule("lm_head.weight", "language_model.head.weight"),
        ]
    else:
        rules = [
            *_hugging_face(own, ""),
            *language_model_rules("language_model.model.", "language_model."),
            Rule("language_model.lm_head.weight", "language_model.head.weight"),
            *_hugging_face(own, "model."),
            *language_model_rules("model.language_model.", "language_model."),
            Rule("lm_head.weight", "language_model.head.weight"),
        ]
    if not own.text.tied:
        return RuleTable(rules, dropped=_UNUSED)
    heads = ("lm_head.weight", "language_model.lm_head.weight")
    return RuleTable([rule for rule in rules if rule.published not in heads], dropped=(*_UNUSED, *heads))


def _hugging_face(own: VibeVoiceAsrConfig, prefix: str) -> list[Rule]:
    projector = f"{prefix}multi_modal_projector."
    return [
        *_encoders(
            "hugging_face",
            own,
            f"{prefix}acoustic_tokenizer_encoder.",
            f"{prefix}semantic_tokenizer_encoder.",
        ),
        *connector_rules(f"{projector}acoustic_", "acoustic_connector.", ("linear_1", "norm", "linear_2")),
        *connector_rules(f"{projector}semantic_", "semantic_connector.", ("linear_1", "norm", "linear_2")),
    ]


def _encoders(layout: Layout, own: VibeVoiceAsrConfig, acoustic: str, semantic: str) -> list[Rule]:
    return [
        *encoder_rules(layout, acoustic, "acoustic.", len(own.acoustic.depths)),
        *encoder_rules(layout, semantic, "semantic.", len(own.semantic.depths)),
    ]


def read_config(folder: Path) -> tuple[VibeVoiceAsrConfig, Layout | None]:
    """Sizes and layout of the model in a folder; no layout stands for our own names (:mod:`folder`).

    Raises :class:`CheckpointError` or :class:`ConfigError`.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: no config.json, so this is not a VibeVoice-ASR model folder")
    published = config.read_json(path)
    if "model_type" not in published and "acoustic" in published:
        return config.from_dict(VibeVoiceAsrConfig, published, where=str(path)), None
    return config_from_published(published, where=str(path))


def config_from_published(published: Mapping[str, Any], *, where: str) -> tuple[VibeVoiceAsrConfig, Layout]:
    """Sizes and layout in a published ``config.json``. Raises as :func:`read_config`, naming ``where``."""
    original = published.get("model_type") == "vibevoice" and "decoder_config" in published
    if not original and published.get("model_type") != "vibevoice_asr":
        raise CheckpointError(
            f"{where}: model_type is {published.get('model_type')!r}, expected 'vibevoice_asr'"
        )
    names = (
        ("acoustic_tokenizer_config", "semantic_tokenizer_config", "decoder_config")
        if original
        else ("acoustic_tokenizer_encoder_config", "semantic_tokenizer_encoder_config", "text_config")
    )
    acoustic, semantic, text = (published.get(name) or {} for name in names)
    tied = published.get("tie_word_embeddings", False)
    tokens = {"audio_bos_token_id": "start", "audio_eos_token_id": "end", "audio_token_id": "frame"}
    parts = {
        "acoustic": tokenizer_checkpoint.config_from_published(acoustic, where=f"{where}: {names[0]}"),
        "semantic": tokenizer_checkpoint.config_from_published(
            semantic or {"hidden_size": 128}, where=f"{where}: {names[1]}"
        ),
        "text": language_model_from_published(text, where=f"{where}: {names[2]}", tied=tied),
    }
    own = {
        **{key: config.to_dict(part) for key, part in parts.items()},
        "tokens": {ours: published[key] for key, ours in tokens.items() if published.get(key) is not None},
    }
    return config.from_dict(VibeVoiceAsrConfig, own, where=where), "original" if original else "hugging_face"


def config_to_published(own: VibeVoiceAsrConfig) -> dict[str, Any]:
    """The ``config.json`` that `transformers` and :func:`config_from_published` read."""
    return {
        "architectures": ["VibeVoiceAsrForConditionalGeneration"],
        "model_type": "vibevoice_asr",
        "acoustic_tokenizer_encoder_config": tokenizer_checkpoint.config_to_published(own.acoustic, _ENCODER),
        "semantic_tokenizer_encoder_config": tokenizer_checkpoint.config_to_published(own.semantic, _ENCODER),
        "text_config": language_model_to_published(own.text),
        "audio_bos_token_id": own.tokens.start,
        "audio_eos_token_id": own.tokens.end,
        "audio_token_id": own.tokens.frame,
        "acoustic_tokenizer_chunk_size": 450 * own.acoustic.hop,
        "tie_word_embeddings": own.text.tied,
    }


def load(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> VibeVoiceAsr:
    """The model in a folder with ``config.json`` and safetensors of any of the layouts, in evaluation mode.

    Raises :class:`CheckpointError` or :class:`ConfigError`.
    """
    own, layout = read_config(folder)
    with checkpoint.on_meta():
        model = VibeVoiceAsr(own)
    own_rules = FOLDER_RULES if own.whisper else None
    rules = own_rules if layout is None else rule_table(layout, own)
    checkpoint.load(model, folder, rules=rules, dtype=dtype, device=device)
    if isinstance(model.semantic, Whisper):
        model.semantic.pieces = read_pieces(folder / PIECES_FILE, model.semantic.config.vocab_size)
    return model.to(device).eval()


def save(
    model: VibeVoiceAsr,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write ``config.json`` and ``model.safetensors`` (or shards) in the Hugging Face layout. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = rule_table("hugging_face", model.config)
    checkpoint.save(model, folder, rules=rules, dtype=dtype, max_shard_bytes=max_shard_bytes)
    published = json.dumps(config_to_published(model.config), indent=2)
    files.write_text(folder / "config.json", published + "\n")
