"""LongNet models as folders of ours, and weights of TorchScale's decoder read by their names there."""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_blocks.transformer.torchscale_names import torchscale_layers
from multiway_core import checkpoint, model_folder
from multiway_core.checkpoint import Rule, RuleTable

from multiway_text.checkpoint_files import OWN_NAMES, check_layers
from multiway_text.decoders.longnet.config import LongNetConfig
from multiway_text.decoders.longnet.model import LongNet

TORCHSCALE = RuleTable(
    [
        Rule("embed_tokens.weight", "embedding.weight"),
        Rule("output_projection.weight", "head.weight"),
        *torchscale_layers("", "decoder."),
        Rule("layer_norm.{kind}", "decoder.norm.{kind}"),
    ],
    dropped=("layers.{i}.self_attn.xpos.scale",),
)
"""Names of TorchScale's LongNetDecoder."""


def save(model: LongNet, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``. Raises OutputError."""
    model_folder.save(model, model.config, folder, dtype=dtype, rules=OWN_NAMES)


def load(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> LongNet:
    """The model in a folder that :func:`save` wrote, in evaluation mode. Raises ConfigError, CheckpointError."""
    return model_folder.load(LongNet, LongNetConfig, folder, dtype=dtype, device=device, rules=OWN_NAMES)


def load_torchscale(
    path: Path,
    config: LongNetConfig,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LongNet:
    """The model whose weights a file of TorchScale's decoder holds; what it is, ``config`` must say.

    TorchScale writes no configuration beside its weights. Raises CheckpointError.
    """
    tensors = checkpoint.read(path)
    check_layers(Path(path), config.num_layers, tensors)
    with checkpoint.on_meta():
        model = LongNet(config)
    rules = TORCHSCALE
    if config.tied_embeddings:
        rules = RuleTable(
            [rule for rule in TORCHSCALE.rules if rule.ours != "head.weight"],
            dropped=(*TORCHSCALE.dropped, "output_projection.weight"),
        )
    checkpoint.load(model, path, rules=rules, dtype=dtype, device=device)
    return model.to(device).eval()
