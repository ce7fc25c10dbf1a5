"""Published tensor names and sizes of the parts that the VibeVoice systems share <-> ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multiway_core import config
from multiway_core.checkpoint import Rule
from multiway_core.errors import CheckpointError

from multiway_speech.language_model import LanguageModelConfig

_LANGUAGE_MODEL = (
    ("embed_tokens.weight", "embedding.weight"),
    ("layers.{layer}.self_attn.q_proj.{kind}", "decoder.layers.{layer}.attention.query.{kind}"),
    ("layers.{layer}.self_attn.k_proj.{kind}", "decoder.layers.{layer}.attention.key.{kind}"),
    ("layers.{layer}.self_attn.v_proj.{kind}", "decoder.layers.{layer}.attention.value.{kind}"),
    ("layers.{layer}.self_attn.o_proj.weight", "decoder.layers.{layer}.attention.output.weight"),
    ("layers.{layer}.mlp.gate_proj.weight", "decoder.layers.{layer}.feedforward.gate.weight"),
    ("layers.{layer}.mlp.up_proj.weight", "decoder.layers.{layer}.feedforward.up.weight"),
    ("layers.{layer}.mlp.down_proj.weight", "decoder.layers.{layer}.feedforward.down.weight"),
    ("layers.{layer}.input_layernorm.weight", "decoder.layers.{layer}.attention_norm.weight"),
    ("layers.{layer}.post_attention_layernorm.weight", "decoder.layers.{layer}.feedforward_norm.weight"),
    ("norm.weight", "decoder.norm.weight"),
)

_LANGUAGE_MODEL_KEYS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "intermediate_size": "inner_size",
    "vocab_size": "vocab_size",
    "head_dim": "head_dim",
    "max_position_embeddings": "max_positions",
    "rope_theta": "rope_theta",
    "rms_norm_eps": "norm_eps",
    "tie_word_embeddings": "tied",
}


def language_model_rules(published: str, ours: str) -> list[Rule]:
    """Rules of the decoder and its embedding, behind the prefixes ``published`` and ``ours``."""
    return [Rule(published + name, ours + own) for name, own in _LANGUAGE_MODEL]


def connector_rules(published: str, ours: str, names: tuple[str, str, str]) -> list[Rule]:
    """Rules of a connector whose first map, norm and second map are published by ``names``."""
    own = ("input.{kind}", "norm.{kind}", "output.{kind}")
    return [Rule(f"{published}{name}.{{kind}}", ours + part) for name, part in zip(names, own, strict=True)]


def language_model_from_published(
    published: Mapping[str, Any], *, where: str, tied: bool | None = None
) -> LanguageModelConfig:
    """The sizes in a published Qwen2 configuration; ``tied`` stands in where it does not say.

    Raises :class:`CheckpointError` or :class:`ConfigError`, naming ``where``.
    """
    if not isinstance(published, Mapping):
        raise CheckpointError(f"{where}: the language model's sizes are not a JSON object")
    if published.get("model_type", "qwen2") != "qwen2":
        raise CheckpointError(f"{where}: the language model is {published['model_type']!r}, expected 'qwen2'")
    own = {
        ours: published[key] for key, ours in _LANGUAGE_MODEL_KEYS.items() if published.get(key) is not None
    }
    rope = published.get("rope_parameters") or published.get("rope_scaling")
    if rope is not None:
        if not isinstance(rope, Mapping) or rope.get("rope_type", rope.get("type", "default")) != "default":
            raise CheckpointError(
                f"{where}: rotary positions {rope!r} are not supported, only the default ones"
            )
        if rope.get("rope_theta") is not None:
            own["rope_theta"] = rope["rope_theta"]
    if tied is not None:
        own.setdefault("tied", tied)
    return config.from_dict(LanguageModelConfig, own, where=where)


def language_model_to_published(own: LanguageModelConfig) -> dict[str, Any]:
    """The ``text_config`` that `transformers` reads."""
    published = {
        key: value
        for key, ours in _LANGUAGE_MODEL_KEYS.items()
        if key != "rope_theta" and (value := getattr(own, ours)) is not None
    }
    rope = {"rope_type": "default", "rope_theta": own.rope_theta}
    return {"model_type": "qwen2", "hidden_act": "silu", **published, "rope_parameters": rope}
