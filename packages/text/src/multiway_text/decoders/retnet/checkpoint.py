"""TorchScale's RetNetDecoder <-> :class:`~multiway_text.decoders.retnet.model.RetNet`: its tensor names, its flags."""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_core import checkpoint, config
from multiway_core.checkpoint import Rule, RuleTable

from multiway_text.checkpoint_files import check_layers
from multiway_text.decoders.retnet.config import RetNetConfig
from multiway_text.decoders.retnet.model import RetNet
from multiway_text.torchscale_files import read_flags, write_flags

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


def load(path: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> RetNet:
    """The model in a folder with ``config.json`` and a checkpoint, in evaluation mode. Raises CheckpointError."""
    path = Path(path)
    own = config.from_dict(
        RetNetConfig, read_flags(path, MODEL_TYPE, _KEYS, _ONLY), where=f"{path}/config.json"
    )
    check_layers(path, own.num_layers, checkpoint.read(path))
    with checkpoint.on_meta():
        model = RetNet(own)
    checkpoint.load(model, path, rules=TORCHSCALE, dtype=dtype, device=device)
    return model.to(device).eval()


def save(model: RetNet, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, folder, rules=TORCHSCALE, dtype=dtype)
    write_flags(folder, MODEL_TYPE, config.to_dict(model.config), _KEYS, _ONLY)
