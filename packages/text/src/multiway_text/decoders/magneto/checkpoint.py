"""TorchScale's decoder <-> :class:`~multiway_text.decoders.magneto.model.Magneto`: its tensor names, its flags."""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_core import checkpoint, config
from multiway_core.checkpoint import Rule, RuleTable

from multiway_text.checkpoint_files import check_layers
from multiway_text.decoders.magneto.config import MagnetoConfig
from multiway_text.decoders.magneto.model import Magneto
from multiway_text.torchscale_files import read_flags, write_flags

MODEL_TYPE = "magneto"

TORCHSCALE = RuleTable(
    [
        Rule("embed_tokens.weight", "embedding.weight"),
        Rule("output_projection.weight", "head.weight"),
        Rule("layer_norm.{kind}", "decoder.norm.{kind}"),
        Rule("layers.{i}.self_attn_layer_norm.{kind}", "decoder.layers.{i}.attention_norm.{kind}"),
        Rule("layers.{i}.self_attn.q_proj.{kind}", "decoder.layers.{i}.attention.query.{kind}"),
        Rule("layers.{i}.self_attn.k_proj.{kind}", "decoder.layers.{i}.attention.key.{kind}"),
        Rule("layers.{i}.self_attn.v_proj.{kind}", "decoder.layers.{i}.attention.value.{kind}"),
        Rule("layers.{i}.self_attn.inner_attn_ln.{kind}", "decoder.layers.{i}.attention.norm.{kind}"),
        Rule("layers.{i}.self_attn.out_proj.{kind}", "decoder.layers.{i}.attention.output.{kind}"),
        Rule("layers.{i}.final_layer_norm.{kind}", "decoder.layers.{i}.feedforward_norm.{kind}"),
        Rule("layers.{i}.ffn.fc1.{kind}", "decoder.layers.{i}.feedforward.up.{kind}"),
        Rule("layers.{i}.ffn.ffn_layernorm.{kind}", "decoder.layers.{i}.feedforward.norm.{kind}"),
        Rule("layers.{i}.ffn.fc2.{kind}", "decoder.layers.{i}.feedforward.down.{kind}"),
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


def load(path: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Magneto:
    """The model in a folder with ``config.json`` and a checkpoint, in evaluation mode. Raises CheckpointError."""
    path = Path(path)
    own = config.from_dict(
        MagnetoConfig, read_flags(path, MODEL_TYPE, _KEYS, _ONLY), where=f"{path}/config.json"
    )
    check_layers(path, own.num_layers, checkpoint.read(path))
    with checkpoint.on_meta():
        model = Magneto(own)
    checkpoint.load(model, path, rules=TORCHSCALE, dtype=dtype, device=device)
    return model.to(device).eval()


def save(model: Magneto, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, folder, rules=TORCHSCALE, dtype=dtype)
    write_flags(folder, MODEL_TYPE, config.to_dict(model.config), _KEYS, _ONLY)
