"""LLaMA-like decoders whose linear maps are ternary, in the hub's packed layout (``quantization_config`` bitnet).

This is how LLaMA models that were trained or tuned to b1.58 are published: the network of ``model.py`` without BitNet's
inner norms, its maps as in BitNet (arXiv 2402.17764, section 2). Rounding a model that was not trained for it destroys
it: :func:`quantize` is for models that were, and to see what it costs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.bitlinear import TernaryLinear, absmean
from multiway_blocks.ternary_formats import pack_rows, scale_of, unpack_rows
from multiway_core import checkpoint, files
from multiway_core.errors import CheckpointError, InputError
from torch import Tensor, nn

from multiway_text.decoders.llama.model import Llama


def maps(model: Llama) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """(its name, the module it is in, its name there, itself) of every linear map of the layers."""
    for name, module in list(model.decoder.layers.named_modules()):
        if isinstance(module, nn.Linear | TernaryLinear):
            parent, _, last = name.rpartition(".")
            yield f"decoder.layers.{name}", model.decoder.layers.get_submodule(parent), last, module


def is_ternary(published: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` says that its maps are packed."""
    quantization = published.get("quantization_config")
    return isinstance(quantization, Mapping) and quantization.get("quant_method") == "bitnet"


def quantize(model: Llama) -> Llama:
    """The same model with every map of its layers rounded to -1, 0, 1 and one scale, in place (absmean).

    Raises InputError for a map whose outputs are no multiple of four: the packed layout has four rows in one.
    """
    for name, parent, last, linear in maps(model):
        if isinstance(linear, TernaryLinear):
            continue
        assert isinstance(linear, nn.Linear)
        if linear.out_features % 4:
            raise InputError(f"{name} has {linear.out_features} outputs; packing needs a multiple of four")
        values, scale = absmean(linear.weight.detach())
        setattr(parent, last, _ternary(linear, values, scale))
    return model


def fill(model: Llama, source: Mapping[str, Tensor], names: Mapping[str, str], divides: bool) -> None:
    """Replace the maps of a model by packed ones of a checkpoint. ``names``: ours -> published, without ``.weight``.

    Raises CheckpointError for a tensor that is missing or does not fit.
    """
    for ours, parent, last, linear in maps(model):
        assert isinstance(linear, nn.Linear)
        name = names[ours]
        missing = [key for key in (f"{name}.weight", f"{name}.weight_scale") if key not in source]
        if missing:
            raise CheckpointError("the checkpoint does not fit Llama with packed maps", missing=missing)
        packed = source[f"{name}.weight"]
        shape = (linear.out_features // 4, linear.in_features)
        if tuple(packed.shape) != shape or packed.dtype != torch.uint8:
            raise CheckpointError(
                f"{name}.weight has {list(packed.shape)} of {packed.dtype}, the model needs {list(shape)} of uint8"
            )
        scale = scale_of(source[f"{name}.weight_scale"], divides=divides, name=f"{name}.weight_scale")
        setattr(parent, last, _ternary(linear, unpack_rows(packed, name=f"{name}.weight"), scale))


def save(
    model: Llama, folder: Path, published: Mapping[str, Any], names: Mapping[str, str], dtype: torch.dtype
) -> None:
    """Write ``config.json`` and ``model.safetensors``. ``published``: the configuration without quantisation.

    Raises OutputError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for ours, _, _, linear in maps(model):
        assert isinstance(linear, TernaryLinear)
        values, scale = linear.ternary()
        tensors[f"{names[ours]}.weight"] = pack_rows(values.cpu())
        tensors[f"{names[ours]}.weight_scale"] = scale.cpu().reshape(1)
    for ours, parameter in model.named_parameters():
        bare = ours.removesuffix(".weight")
        tensors[f"{names[bare]}.weight"] = parameter.detach().to(dtype)
    checkpoint.save(tensors, folder)
    quantization = {
        "quant_method": "bitnet",
        "linear_class": "autobitlinear",
        "quantization_mode": "offline",
        "modules_to_not_convert": ["lm_head"],
    }
    content = {**published, "quantization_config": quantization}
    files.write_text(folder / "config.json", json.dumps(content, indent=2) + "\n")


def _ternary(linear: nn.Linear, values: Tensor, scale: Tensor) -> TernaryLinear:
    packed = TernaryLinear(linear.in_features, linear.out_features)
    packed.set(values, scale.reshape(1))
    return packed
