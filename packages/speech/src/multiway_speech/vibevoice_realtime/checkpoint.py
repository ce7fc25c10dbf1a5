"""The published checkpoint (``microsoft/VibeVoice-Realtime-0.5B``, original layout) <-> ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from multiway_core import checkpoint, config, files
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError

from multiway_speech.published import connector_rules, language_model_from_published, language_model_rules
from multiway_speech.speech_tokenizer import checkpoint as tokenizer_checkpoint
from multiway_speech.speech_tokenizer.checkpoint import decoder_rules, encoder_rules
from multiway_speech.vibevoice.checkpoint import head_from_published, head_rules
from multiway_speech.vibevoice_realtime.config import VibeVoiceRealtimeConfig
from multiway_speech.vibevoice_realtime.model import VibeVoiceRealtime

MODEL_TYPE = "vibevoice_streaming"


def rule_table(own: VibeVoiceRealtimeConfig) -> RuleTable:
    """The rules for a model of these sizes."""
    stages = len(own.acoustic.depths)
    lower = language_model_rules("model.language_model.", "")
    upper = language_model_rules("model.tts_language_model.", "")
    tokenizer = "model.acoustic_tokenizer."
    return RuleTable(
        [
            *(_moved(rule, "lower.") for rule in lower if rule.ours != "decoder.norm.weight"),
            *(_moved(rule, "upper.") for rule in upper if rule.ours != "embedding.weight"),
            Rule("model.tts_input_types.weight", "types.weight"),
            *encoder_rules("original", f"{tokenizer}encoder.", "acoustic.encoder.", stages),
            *decoder_rules("original", f"{tokenizer}decoder.", "acoustic.decoder.", stages),
            *connector_rules("model.acoustic_connector.", "acoustic_connector.", ("fc1", "norm", "fc2")),
            *head_rules("original", "model.prediction_head.", "head."),
            Rule("tts_eos_classifier.fc1.{kind}", "end.input.{kind}"),
            Rule("tts_eos_classifier.fc2.{kind}", "end.output.{kind}"),
            Rule("model.speech_scaling_factor", "latent_scale"),
            Rule("model.speech_bias_factor", "latent_bias"),
        ],
        dropped=("model.tts_language_model.embed_tokens.weight", "lm_head.weight"),
    )


def _moved(rule: Rule, part: str) -> Rule:
    """The rule of a whole language model for one of its two parts; the embedding is ours alone."""
    return Rule(rule.published, rule.ours.replace("decoder.", part, 1))


def config_from_published(published: Mapping[str, Any], *, where: str) -> VibeVoiceRealtimeConfig:
    """The sizes in a published ``config.json``. Raises :class:`CheckpointError` or :class:`ConfigError`."""
    if published.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"{where}: model_type is {published.get('model_type')!r}, expected {MODEL_TYPE!r}"
        )
    text = language_model_from_published(
        published.get("decoder_config") or {}, where=f"{where}: decoder_config", tied=True
    )
    acoustic = tokenizer_checkpoint.config_from_published(
        published.get("acoustic_tokenizer_config") or {}, where=f"{where}: acoustic_tokenizer_config"
    )
    own: dict[str, Any] = {
        "acoustic": config.to_dict(acoustic),
        "text": config.to_dict(text),
        "head": head_from_published(published.get("diffusion_head_config") or {}, text.hidden_size, where),
    }
    if published.get("tts_backbone_num_hidden_layers") is not None:
        own["num_upper_layers"] = published["tts_backbone_num_hidden_layers"]
    return config.from_dict(VibeVoiceRealtimeConfig, own, where=where)


def config_to_published(own: VibeVoiceRealtimeConfig) -> dict[str, Any]:
    """The ``config.json`` that :func:`config_from_published` reads, in the authors' words."""
    ratios = list(own.acoustic.ratios[::-1])
    return {
        "model_type": MODEL_TYPE,
        "acoustic_vae_dim": own.acoustic.latent_size,
        "acoustic_tokenizer_config": {
            "vae_dim": own.acoustic.latent_size,
            "encoder_n_filters": own.acoustic.num_filters,
            "encoder_ratios": ratios,
            "encoder_depths": "-".join(map(str, own.acoustic.depths)),
            "layernorm_eps": own.acoustic.norm_eps,
            "layer_scale_init_value": own.acoustic.layer_scale,
            "fix_std": own.acoustic.noise_std * 0.8,
            "std_dist_type": "gaussian",
        },
        "decoder_config": {
            "model_type": "qwen2",
            "hidden_size": own.text.hidden_size,
            "num_hidden_layers": own.text.num_layers,
            "num_attention_heads": own.text.num_heads,
            "num_key_value_heads": own.text.num_kv_heads,
            "intermediate_size": own.text.inner_size,
            "vocab_size": own.text.vocab_size,
            "max_position_embeddings": own.text.max_positions,
            "rope_theta": own.text.rope_theta,
            "rms_norm_eps": own.text.norm_eps,
            "tie_word_embeddings": own.text.tied,
        },
        "diffusion_head_config": {
            "hidden_size": own.text.hidden_size,
            "head_layers": own.head.num_layers,
            "head_ffn_ratio": own.head.inner_size / own.text.hidden_size,
            "rms_norm_eps": own.head.norm_eps,
            "ddpm_num_steps": own.head.num_training_steps,
            "prediction_type": "v_prediction",
            "ddpm_beta_schedule": "cosine",
            "frequency_embedding_size": own.head.frequency_size,
        },
        "tts_backbone_num_hidden_layers": own.num_upper_layers,
    }


def load(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> VibeVoiceRealtime:
    """The model in a folder with ``config.json`` and safetensors, in evaluation mode.

    Raises :class:`CheckpointError` or :class:`ConfigError`.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: no config.json, so this is not a VibeVoice-Realtime model folder")
    own = config_from_published(config.read_json(path), where=str(path))
    with checkpoint.on_meta():
        model = VibeVoiceRealtime(own)
    checkpoint.load(model, folder, rules=rule_table(own), dtype=dtype, device=device)
    return model.to(device).eval()


def save(model: VibeVoiceRealtime, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors`` in the original layout. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, folder, rules=rule_table(model.config), dtype=dtype)
    files.write_text(folder / "config.json", json.dumps(config_to_published(model.config), indent=2) + "\n")
