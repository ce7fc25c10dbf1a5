"""TorchScale's decoder <-> :class:`~multiway_text.decoders.magneto.model.Magneto`: its tensor names, its flags."""

from __future__ import annotations

from multiway_blocks.transformer.torchscale_names import torchscale_layers
from multiway_core.checkpoint import Rule, RuleTable

from multiway_text.decoders.magneto.config import MagnetoConfig
from multiway_text.decoders.magneto.model import Magneto
from multiway_text.torchscale_files import TorchScaleLayout

MODEL_TYPE = "magneto"

TORCHSCALE = RuleTable(
    [
        Rule("embed_tokens.weight", "embedding.weight"),
        Rule("output_projection.weight", "head.weight"),
        Rule("layer_norm.{kind}", "decoder.norm.{kind}"),
        *torchscale_layers("", "decoder."),
    ],
    dropped=["layers.{i}.self_attn.xpos.scale"],  # a table that follows from the width of heads
)

_KEYS = {
    "decoder_embed_dim": "hidden_size",
    "decoder_layers": "num_layers",
    "decoder_attention_heads": "num_heads",
    "decoder_ffn_embed_dim": "inner_size",
    "vocab_size": "vocab_size",
    "max_target_positions": "trained_length",
    "xpos_scale_base": "scale_base",
    "layernorm_eps": "norm_eps",
    "share_decoder_input_output_embed": "tied_embeddings",
}
_ONLY = {
    "subln": True,
    "deepnorm": False,
    "xpos_rel_pos": True,
    "activation_fn": "gelu",
    "no_scale_embedding": True,
    "layernorm_embedding": False,
    "rel_pos_buckets": 0,
    "moe_freq": 0,
    "multiway": False,
}

LAYOUT = TorchScaleLayout(MODEL_TYPE, MagnetoConfig, Magneto, TORCHSCALE, _KEYS, _ONLY)
load, save = LAYOUT.load, LAYOUT.save
