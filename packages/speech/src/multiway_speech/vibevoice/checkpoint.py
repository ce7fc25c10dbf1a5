"""Published checkpoints <-> :class:`~multiway_speech.vibevoice.model.VibeVoice`.

Two layouts are read: the original one (``microsoft/VibeVoice-1.5B`` and the 7B model) and that of `transformers`
(``vibevoice/VibeVoice-1.5B-hf``), which is also what we write. They differ in names only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from multiway_core import checkpoint, config, files
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError, ConfigError

from multiway_speech.published import (
    connector_rules,
    language_model_from_published,
    language_model_rules,
    language_model_to_published,
)
from multiway_speech.speech_tokenizer import checkpoint as tokenizer_checkpoint
from multiway_speech.speech_tokenizer.checkpoint import Layout, decoder_rules, encoder_rules
from multiway_speech.speech_tokenizer.config import SpeechTokenizerConfig
from multiway_speech.vibevoice.config import VibeVoiceConfig
from multiway_speech.vibevoice.model import VibeVoice

MODEL_TYPES = ("vibevoice", "vibepod")  # the second is what early files say
_HEAD_ORIGINAL = (
    ("noisy_images_proj.weight", "input.weight"),
    ("cond_proj.weight", "condition.weight"),
    ("t_embedder.mlp.0.weight", "time_in.weight"),
    ("t_embedder.mlp.2.weight", "time_out.weight"),
    ("layers.{layer}.norm.weight", "layers.{layer}.norm.weight"),
    ("layers.{layer}.ffn.gate_proj.weight", "layers.{layer}.feedforward.gate.weight"),
    ("layers.{layer}.ffn.up_proj.weight", "layers.{layer}.feedforward.up.weight"),
    ("layers.{layer}.ffn.down_proj.weight", "layers.{layer}.feedforward.down.weight"),
    ("layers.{layer}.adaLN_modulation.1.weight", "layers.{layer}.modulation.weight"),
    ("final_layer.adaLN_modulation.1.weight", "final_modulation.weight"),
    ("final_layer.linear.weight", "output.weight"),
)
_HUGGING_FACE_HEAD_NAMES = {
    "t_embedder.mlp.0": "timestep_proj.fc1",
    "t_embedder.mlp.2": "timestep_proj.fc2",
    "layers.{layer}.adaLN_modulation.1": "layers.{layer}.linear",
    "final_layer.adaLN_modulation.1": "final_layer.linear_1",
    "final_layer.linear": "final_layer.linear_2",
}


def rule_table(layout: Layout, own: VibeVoiceConfig) -> RuleTable:
    """The rules of a layout for a model of these sizes."""
    acoustic, semantic = len(own.acoustic.depths), len(_semantic(own).depths)
    original = layout == "original"
    tokenizer = "model.acoustic_tokenizer" if original else "model.audio_tower"
    heard = "model.semantic_tokenizer.encoder." if original else "model.semantic_tokenizer_encoder."
    head = "model.prediction_head." if original else "model.diffusion_head."
    acoustic_connector = "model.acoustic_connector." if original else "model.multi_modal_projector."
    connector = ("fc1", "norm", "fc2") if original else ("linear_1", "act", "linear_2")
    statistics = "speech_{}_factor" if original else "latent_{}_factor"
    rules = [
        *language_model_rules("model.language_model.", "language_model."),
        *encoder_rules(layout, f"{tokenizer}.encoder.", "acoustic.encoder.", acoustic),
        *decoder_rules(layout, f"{tokenizer}.decoder.", "acoustic.decoder.", acoustic),
        *encoder_rules(layout, heard, "semantic.", semantic),
        *connector_rules(acoustic_connector, "acoustic_connector.", connector),
        *connector_rules("model.semantic_connector.", "semantic_connector.", connector),
        *head_rules(layout, head, "head."),
        Rule("model." + statistics.format("scaling"), "latent_scale"),
        Rule("model." + statistics.format("bias"), "latent_bias"),
    ]
    if own.text.tied:
        return RuleTable(rules, dropped=("lm_head.weight",))
    return RuleTable([*rules, Rule("lm_head.weight", "language_model.head.weight")])


def head_rules(layout: Layout, published: str, ours: str) -> list[Rule]:
    """Rules of the diffusion head, behind the prefixes ``published`` and ``ours``."""
    return [
        Rule(published + (name if layout == "original" else _in_hugging_face(name)), ours + own)
        for name, own in _HEAD_ORIGINAL
    ]


def _in_hugging_face(name: str) -> str:
    stem = name.removesuffix(".weight")
    return _HUGGING_FACE_HEAD_NAMES.get(stem, stem) + ".weight"


def read_config(folder: Path) -> tuple[VibeVoiceConfig, Layout]:
    """Sizes and layout of the model in a folder. Raises :class:`CheckpointError` or :class:`ConfigError`."""
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: no config.json, so this is not a VibeVoice model folder")
    return config_from_published(config.read_json(path), where=str(path))


def config_from_published(published: Mapping[str, Any], *, where: str) -> tuple[VibeVoiceConfig, Layout]:
    """Sizes and layout in a published ``config.json``. Raises as :func:`read_config`, naming ``where``."""
    if published.get("model_type") not in MODEL_TYPES:
        raise CheckpointError(
            f"{where}: model_type is {published.get('model_type')!r}, expected {MODEL_TYPES[0]!r}"
        )
    layout: Layout = "original" if "decoder_config" in published else "hugging_face"
    original = layout == "original"
    text = published.get("decoder_config" if original else "text_config") or {}
    head = published.get("diffusion_head_config") or {}
    language_model = language_model_from_published(
        text, where=where, tied=published.get("tie_word_embeddings")
    )
    own: dict[str, Any] = {
        "acoustic": _tokenizer(
            published, "acoustic_tokenizer_config" if original else "audio_config", 64, where
        ),
        "semantic": _tokenizer(
            published, "semantic_tokenizer_config" if original else "semantic_model_config", 128, where
        ),
        "text": config.to_dict(language_model),
        "head": head_from_published(head, language_model.hidden_size, where),
        "tokens": _pick(
            published,
            {
                "audio_bos_token_id": "start",
                "audio_eos_token_id": "end",
                "audio_token_id": "frame",
                "eos_token_id": "eos",
            },
        ),
    }
    return config.from_dict(VibeVoiceConfig, own, where=where), layout


def _tokenizer(published: Mapping[str, Any], key: str, latent_size: int, where: str) -> dict[str, Any]:
    sizes = published.get(key) or {"hidden_size": latent_size}
    return config.to_dict(tokenizer_checkpoint.config_from_published(sizes, where=f"{where}: {key}"))


def head_from_published(published: Mapping[str, Any], hidden_size: int, where: str) -> dict[str, Any]:
    """The fields of a :class:`DiffusionHeadConfig`, of either dialect. Raises :class:`CheckpointError`."""
    if not isinstance(published, Mapping):
        raise CheckpointError(f"{where}: diffusion_head_config is not a JSON object")
    for key, expected in (
        ("prediction_type", "v_prediction"),
        ("ddpm_beta_schedule", "cosine"),
        ("hidden_size", hidden_size),
        ("hidden_act", "silu"),
        ("mlp_bias", False),
    ):
        if published.get(key, expected) != expected:
            raise CheckpointError(
                f"{where}: diffusion_head_config.{key} is {published[key]!r}, expected {expected!r}"
            )
    own = _pick(
        published,
        {
            "head_layers": "num_layers",
            "num_hidden_layers": "num_layers",
            "intermediate_size": "inner_size",
            "frequency_embedding_size": "frequency_size",
            "diffusion_max_period": "max_period",
            "rms_norm_eps": "norm_eps",
            "ddpm_num_steps": "num_training_steps",
        },
    )
    ratio = published.get("head_ffn_ratio", 3.0)
    if "inner_size" not in own:
        if not isinstance(ratio, int | float):
            raise CheckpointError(
                f"{where}: diffusion_head_config.head_ffn_ratio is {ratio!r}, expected a number"
            )
        own["inner_size"] = int(hidden_size * ratio)
    return own


def _pick(published: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    return {own: published[key] for key, own in keys.items() if published.get(key) is not None}


def config_to_published(own: VibeVoiceConfig) -> dict[str, Any]:
    """The ``config.json`` that `transformers` and :func:`config_from_published` read."""
    return {
        "architectures": ["VibeVoiceForConditionalGeneration"],
        "model_type": MODEL_TYPES[0],
        "audio_config": tokenizer_checkpoint.config_to_published(
            own.acoustic, "vibevoice_acoustic_tokenizer"
        ),
        "semantic_model_config": tokenizer_checkpoint.config_to_published(
            _semantic(own), "vibevoice_acoustic_tokenizer_encoder"
        ),
        "text_config": language_model_to_published(own.text),
        "diffusion_head_config": {
            "model_type": "vibevoice_diffusion",
            "hidden_size": own.text.hidden_size,
            "latent_size": own.acoustic.latent_size,
            "num_hidden_layers": own.head.num_layers,
            "intermediate_size": own.head.inner_size,
            "frequency_embedding_size": own.head.frequency_size,
            "diffusion_max_period": int(own.head.max_period),
            "rms_norm_eps": own.head.norm_eps,
            "ddpm_num_steps": own.head.num_training_steps,
        },
        "audio_bos_token_id": own.tokens.start,
        "audio_eos_token_id": own.tokens.end,
        "audio_token_id": own.tokens.frame,
        "eos_token_id": own.tokens.eos,
        "pad_token_id": own.tokens.eos,
        "tie_word_embeddings": own.text.tied,
    }


def _semantic(own: VibeVoiceConfig) -> SpeechTokenizerConfig:
    """Raises :class:`ConfigError` for a model that has no published layout."""
    if own.semantic is None or own.reads_along:
        raise ConfigError("a model that reads along has no published layout; write it with vibevoice.folder")
    return own.semantic


def load(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> VibeVoice:
    """The model in a folder with ``config.json`` and safetensors of either layout, in evaluation mode.

    Raises :class:`CheckpointError` or :class:`ConfigError`.
    """
    own, layout = read_config(folder)
    with checkpoint.on_meta():
        model = VibeVoice(own)
    checkpoint.load(model, folder, rules=rule_table(layout, own), dtype=dtype, device=device)
    return model.to(device).eval()


def save(
    model: VibeVoice, folder: Path, *, dtype: torch.dtype | None = None, max_shard_bytes: int = 5_000_000_000
) -> None:
    """Write ``config.json`` and ``model.safetensors`` (or shards) in the Hugging Face layout. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = rule_table("hugging_face", model.config)
    checkpoint.save(model, folder, rules=rules, dtype=dtype, max_shard_bytes=max_shard_bytes)
    published = json.dumps(config_to_published(model.config), indent=2)
    files.write_text(folder / "config.json", published + "\n")
