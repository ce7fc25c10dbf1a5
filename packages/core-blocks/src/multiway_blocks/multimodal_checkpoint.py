"""Published names of the Kosmos family's decoder, resampler and their sizes, beside those of our modules.

A model has its :class:`~multiway_blocks.multimodal_decoder.MultimodalDecoder` as ``text`` and its
:class:`~multiway_blocks.resampler.Resampler` as ``resampler``.
"""

from __future__ import annotations

from multiway_core.tensor_names import Rule, RuleTable

_LAYER, _OURS = "layers.{layer}.", "text.decoder.layers.{layer}."
_TEXT_NAMES = (
    ("embed_tokens.weight", "text.embedding.weight"),
    ("segment_emb.weight", "text.segment_embedding.weight"),
    (_LAYER + "self_attn.q_proj.{kind}", _OURS + "attention.query.{kind}"),
    (_LAYER + "self_attn.k_proj.{kind}", _OURS + "attention.key.{kind}"),
    (_LAYER + "self_attn.v_proj.{kind}", _OURS + "attention.value.{kind}"),
    (_LAYER + "self_attn.inner_attn_ln.{kind}", _OURS + "attention.norm.{kind}"),
    (_LAYER + "self_attn.out_proj.{kind}", _OURS + "attention.output.{kind}"),
    (_LAYER + "self_attn_layer_norm.{kind}", _OURS + "attention_norm.{kind}"),
    (_LAYER + "final_layer_norm.{kind}", _OURS + "feedforward_norm.{kind}"),
    (_LAYER + "ffn.fc1.{kind}", _OURS + "feedforward.up.{kind}"),
    (_LAYER + "ffn.ffn_layernorm.{kind}", _OURS + "feedforward.norm.{kind}"),
    (_LAYER + "ffn.fc2.{kind}", _OURS + "feedforward.down.{kind}"),
    ("layer_norm.{kind}", "text.decoder.norm.{kind}"),
)
_RESAMPLER_NAMES = (
    ("latent_query", "resampler.latents"),
    ("dense.{kind}", "resampler.projection.{kind}"),
    ("x_attn.q_proj.{kind}", "resampler.attention.query.{kind}"),
    ("x_attn.k_proj.{kind}", "resampler.attention.key.{kind}"),
    ("x_attn.v_proj.{kind}", "resampler.attention.value.{kind}"),
    ("x_attn.out_proj.{kind}", "resampler.attention.output.{kind}"),
)
TEXT_KEYS = {
    "embed_dim": "hidden_size",
    "layers": "num_layers",
    "attention_heads": "num_heads",
    "ffn_dim": "inner_size",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_positions",
    "layer_norm_eps": "norm_eps",
    "dropout": "dropout",
    "scale_embedding": "scale_embedding",
}
"""Key of the hub's ``text_config`` -> field of our decoder's sizes."""


def hugging_face_rules(vision_prefix: str, vision_names: tuple[tuple[str, str], ...]) -> RuleTable:
    """Rules of the hub's ``model.safetensors``. The output matrix is tied; older files carry it once more."""
    return _table(
        ("text_model.model.", _TEXT_NAMES),
        (vision_prefix, vision_names),
        ("image_to_text_projection.", _RESAMPLER_NAMES),
        dropped=("text_model.lm_head.weight",),
    )


def fairseq_rules(vision_prefix: str, vision_names: tuple[tuple[str, str], ...]) -> RuleTable:
    """Rules of the authors' checkpoint. xPos's scale is in the file, but the released code does not apply it."""
    return _table(
        ("gpt_model.decoder.", _TEXT_NAMES),
        (vision_prefix, vision_names),
        ("img_connector.", _RESAMPLER_NAMES),
        dropped=(
            "gpt_model.decoder.output_projection.weight",
            "gpt_model.decoder.embed_positions._float_tensor",
            "gpt_model.decoder.self_attn_sope.scale",
        ),
    )


def _table(*parts: tuple[str, tuple[tuple[str, str], ...]], dropped: tuple[str, ...]) -> RuleTable:
    rules = [Rule(prefix + name, ours) for prefix, names in parts for name, ours in names]
    return RuleTable(rules, dropped=dropped)
