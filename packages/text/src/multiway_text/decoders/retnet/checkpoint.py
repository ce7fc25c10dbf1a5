"""TorchScale's RetNetDecoder <-> :class:`~multiway_text.decoders.retnet.model.RetNet`: its tensor names, its flags."""

from __future__ import annotations

from multiway_core.checkpoint import Rule, RuleTable

from multiway_text.decoders.retnet.config import RetNetConfig
from multiway_text.decoders.retnet.model import RetNet
from multiway_text.torchscale_files import TorchScaleLayout

MODEL_TYPE = "retnet"

TORCHSCALE = RuleTable(
    [
        Rule("embed_tokens.weight", "embedding.weight"),
        Rule("output_projection.weight", "head.weight"),
        Rule("layer_norm.weight", "decoder.norm.weight"),
        Rule("layers.{i}.retention_layer_norm.weight", "decoder.layers.{i}.attention_norm.weight"),
        Rule("layers.{i}.retention.q_proj.weight", "decoder.layers.{i}.attention.query.weight"),
        Rule("layers.{i}.retention.k_proj.weight", "decoder.layers.{i}.attention.key.weight"),
        Rule("layers.{i}.retention.v_proj.weight", "decoder.layers.{i}.attention.value.weight"),
        Rule("layers.{i}.retention.g_proj.weight", "decoder.layers.{i}.attention.gate.weight"),
        Rule("layers.{i}.retention.out_proj.weight", "decoder.layers.{i}.attention.output.weight"),
        Rule("layers.{i}.final_layer_norm.weight", "decoder.layers.{i}.feedforward_norm.weight"),
        # The map that TorchScale calls "gate" is the one without the activation.
        Rule("layers.{i}.ffn.fc1.weight", "decoder.layers.{i}.feedforward.gate.weight"),
        Rule("layers.{i}.ffn.gate.weight", "decoder.layers.{i}.feedforward.up.weight"),
        Rule("layers.{i}.ffn.fc2.weight", "decoder.layers.{i}.feedforward.down.weight"),
    ],
    dropped=["retnet_rel_pos.angle", "retnet_rel_pos.decay"],  # tables that follow from the sizes
)

_KEYS = {
    "decoder_embed_dim": "hidden_size",
    "decoder_layers": "num_layers",
    "decoder_retention_heads": "num_heads",
    "decoder_value_embed_dim": "value_size",
    "decoder_ffn_embed_dim": "inner_size",
    "vocab_size": "vocab_size",
    "layernorm_eps": "norm_eps",
    "recurrent_chunk_size": "chunk",
    "activation_fn": "activation",
    "share_decoder_input_output_embed": "tied_embeddings",
}
_ONLY = {
    "decoder_normalize_before": True,
    "deepnorm": False,
    "no_scale_embedding": True,
    "layernorm_embedding": False,
    "moe_freq": 0,
}

LAYOUT = TorchScaleLayout(MODEL_TYPE, RetNetConfig, RetNet, TORCHSCALE, _KEYS, _ONLY)
load, save = LAYOUT.load, LAYOUT.save
