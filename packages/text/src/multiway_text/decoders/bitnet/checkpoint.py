"""Published checkpoints <-> :class:`~multiway_text.decoders.bitnet.model.BitNet`.

Three forms are read: the hub's safetensors with master weights (``...-bf16``), the same with packed weights (of either
class of ``transformers``, see ``multiway_blocks.ternary_formats``), and bitnet.cpp's GGUF. Ours fuses maps that read
the same rows, so several published matrices make one of ours. Packed and GGUF files are written.

Shape legend: O outputs, I inputs, S matrices of a fused map.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.bitlinear import BitLinear, TernaryLinear, absmean, quantize_rows
from multiway_blocks.int8 import Int8Linear
from multiway_blocks.kernels.int8_linear import layout
from multiway_blocks.ternary_formats import pack_i2_s, pack_rows, scale_of, unpack_i2_s, unpack_rows
from multiway_core import checkpoint, config, files
from multiway_core.errors import CheckpointError
from torch import Tensor, nn

from multiway_text import gguf
from multiway_text.checkpoint_files import check_layers
from multiway_text.decoders.bitnet.config import BitNetConfig
from multiway_text.decoders.bitnet.model import BitNet

MODEL_TYPE = "bitnet"
GGUF_ARCHITECTURE = "bitnet-b1.58"

# Ours in a layer -> the published names behind `model.layers.{i}.` and, in GGUF, `blk.{i}.`.
_LAYER_MAPS = {
    "attention.qkv": (
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        ("attn_q", "attn_k", "attn_v"),
    ),
    "attention.output": (("self_attn.o_proj",), ("attn_output",)),
    "feedforward.gate_up": (("mlp.gate_proj", "mlp.up_proj"), ("ffn_gate", "ffn_up")),
    "feedforward.down": (("mlp.down_proj",), ("ffn_down",)),
}
_LAYER_NORMS = {
    "attention_norm": ("input_layernorm", "attn_norm"),
    "attention.norm": ("self_attn.attn_sub_norm", "attn_sub_norm"),
    "feedforward_norm": ("post_attention_layernorm", "ffn_norm"),
    "feedforward.norm": ("mlp.ffn_sub_norm", "ffn_sub_norm"),
}
_PLAIN = {
    "embedding": ("model.embed_tokens", "token_embd"),
    "decoder.norm": ("model.norm", "output_norm"),
    "head": ("lm_head", "output"),
}

_KEYS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "intermediate_size": "inner_size",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_positions",
    "rms_norm_eps": "norm_eps",
    "rope_theta": "rope_theta",
    "hidden_act": "activation",
    "tie_word_embeddings": "tied_embeddings",
}
_GGUF_KEYS = {
    "embedding_length": "hidden_size",
    "block_count": "num_layers",
    "attention.head_count": "num_heads",
    "attention.head_count_kv": "num_kv_heads",
    "feed_forward_length": "inner_size",
    "context_length": "max_positions",
    "attention.layer_norm_rms_epsilon": "norm_eps",
    "rope.freq_base": "rope_theta",
}

Matrix = Callable[[str, int, int], tuple[Tensor, Tensor]]
"""A published map's name, O and I -> its ternary values int8 (O, I) and scale float32 ()."""


@dataclass(frozen=True)
class _Names:
    """Published names of what a model has."""

    layer: str
    index: int  # in the pairs of names above

    def plain(self, ours: str) -> str:
        return _PLAIN[ours][self.index] + ".weight"

    def norms(self, layer: int) -> Iterator[tuple[str, str]]:
        for ours, names in _LAYER_NORMS.items():
            yield f"decoder.layers.{layer}.{ours}", self.layer.format(layer) + names[self.index] + ".weight"

    def maps(self, layer: int) -> Iterator[tuple[str, list[str]]]:
        for ours, names in _LAYER_MAPS.items():
            yield (
                f"decoder.layers.{layer}.{ours}",
                [self.layer.format(layer) + name for name in names[self.index]],
            )


_HUB = _Names("model.layers.{}.", 0)
_GGUF = _Names("blk.{}.", 1)


def load(
    path: Path,
    *,
    packed: bool = True,
    int8_head: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> BitNet:
    """The model in a hub folder or a GGUF file, in evaluation mode.

    ``packed``: two bits a weight, to run; False gives master weights, to train: those of the files or, where these hold
    ternary ones, weights that are quantised to them (`multiway_blocks.bitlinear.masters`). ``int8_head``: the
    embedding, which is the output matrix, in a byte a weight (`CausalLM.quantize_head`), to run; one that is stored so
    stays so. ``dtype`` is that of embeddings, norms, master weights and activations. Raises CheckpointError.
    """
    file = _gguf_file(Path(path))
    if file is not None:
        model = _load_gguf(gguf.read(file), packed, dtype)
    else:
        model = _load_hub(path, packed, dtype)
    if int8_head:
        model.quantize_head()
    return model.to(device).eval()


def _load_hub(path: Path, packed: bool, dtype: torch.dtype) -> BitNet:
    own, linear_class = _read_config(path)
    source = checkpoint.read(path)
    check_layers(path, own.num_layers, source)
    model = _new(own, packed)
    names = _all_names(model, _HUB)
    _check_names(path, source, names, own.tied_embeddings)
    for ours, name in _floats_of(model, _HUB):
        if packed and ours == "embedding" and _has_bytes(source, name):
            stored = _embedding_of_bytes(source, name, own, f"{path}: {name}")
            model.embedding = stored  # type: ignore[assignment]
        else:
            _fill(model, ours, _rows(source, name), dtype, f"{path}: {name}")

    def matrix(name: str, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
        return _hub_matrix(source, name, outputs, inputs, linear_class)

    for ours, group in _maps_of(model, _HUB):
        linear = _map(model, ours)
        if isinstance(linear, BitLinear) and _has_masters(source, group):
            linear.weight = nn.Parameter(_masters(path, source, linear, group).to(dtype))
        else:
            _fill_ternary(linear, group, matrix, dtype)
    return model


def save(
    model: BitNet,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    int8_embedding: bool = False,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write ``config.json`` and ``model.safetensors`` with packed weights, as `transformers` reads them.

    ``dtype`` is that of embeddings and norms (None: as they are); scales stay in float32. ``int8_embedding`` writes
    the embedding as int8 with a scale for every row, ``weight_scale`` float32 (V,): half the size, for this package
    alone. A larger checkpoint than ``max_shard_bytes`` is written in shards. Raises OutputError; ValueError if a matrix
    has no multiple of four outputs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for ours, name in _floats_of(model, _HUB):
        weight = _float_weight(model, ours).detach()
        tensors[name] = weight.to(dtype or weight.dtype)
        if int8_embedding and ours == "embedding":
            rows = quantize_rows(weight)
            tensors[name] = rows.values
            tensors[f"{name}_scale"] = rows.step.flatten()
    for ours, group in _maps_of(model, _HUB):
        for name, values, scale in _matrices(_map(model, ours), group):
            tensors[f"{name}.weight"] = pack_rows(values)
            tensors[f"{name}.weight_scale"] = scale.reshape(1)
    checkpoint.save(tensors, folder, max_shard_bytes=max_shard_bytes)
    files.write_text(folder / "config.json", json.dumps(_published_config(model.config), indent=2) + "\n")


def save_gguf(model: BitNet, path: Path, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write bitnet.cpp's GGUF: I2_S matrices, norms in float32, embeddings in float16.

    ``metadata``: further keys, such as the tokenizer's. Raises OutputError; ValueError unless 128 divides the inputs of
    every matrix.
    """
    own, prefix = model.config, GGUF_ARCHITECTURE
    head = {"general.architecture": prefix, f"{prefix}.vocab_size": own.vocab_size}
    head |= {f"{prefix}.{key}": getattr(own, name) for key, name in _GGUF_KEYS.items()}
    head[f"{prefix}.rope.dimension_count"] = own.head_dim
    tensors = {}
    for ours, name in _floats_of(model, _GGUF):
        weight = _float_weight(model, ours)
        tensors[name] = gguf.floating(weight.half() if weight.ndim == 2 else weight.float())
    for ours, group in _maps_of(model, _GGUF):
        for name, values, scale in _matrices(_map(model, ours), group):
            data = pack_i2_s(values, float(scale))
            tensors[f"{name}.weight"] = gguf.GGUFTensor(gguf.I2_S, tuple(values.shape), data)
    gguf.write(path, head | dict(metadata or {}), tensors)


def _load_gguf(file: gguf.GGUFFile, packed: bool, dtype: torch.dtype) -> BitNet:
    own = _gguf_config(file)
    check_layers(file.path, own.num_layers, file.tensors)
    model = _new(own, packed)
    _check_names(file.path, file.tensors, _all_names(model, _GGUF), own.tied_embeddings)
    for ours, name in _floats_of(model, _GGUF):
        shape = tuple(model.get_parameter(f"{ours}.weight").shape)
        _fill(model, ours, file.floats(name, shape), dtype, f"{file.path}: {name}")

    def matrix(name: str, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
        tensor = file.tensors[f"{name}.weight"]
        where = f"{file.path}: {name}.weight"
        if tensor.shape != (outputs, inputs):
            raise CheckpointError(f"{where} has {list(tensor.shape)}, the model needs {[outputs, inputs]}")
        if tensor.kind == gguf.I2_S:
            return unpack_i2_s(tensor.data, outputs, inputs, name=where)
        return _ternary(file.floats(f"{name}.weight"))

    for ours, group in _maps_of(model, _GGUF):
        _fill_ternary(_map(model, ours), group, matrix, dtype)
    return model


def _rows(source: Mapping[str, Tensor], name: str) -> Tensor:
    """A tensor that is kept in floating point, or in int8 with a scale for every row."""
    if not _has_bytes(source, name):
        return source[name]
    return source[name].float() * source[f"{name}_scale"].float()[:, None]


def _has_bytes(source: Mapping[str, Tensor], name: str) -> bool:
    value, scale = source[name], source.get(f"{name}_scale")
    return value.dtype == torch.int8 and scale is not None and scale.shape == value.shape[:1]


def _embedding_of_bytes(source: Mapping[str, Tensor], name: str, own: BitNetConfig, where: str) -> Int8Linear:
    """The embedding as it is stored: nothing is gained by making it four times as large."""
    value, shape = source[name], (own.vocab_size, own.hidden_size)
    if tuple(value.shape) != shape:
        raise CheckpointError(f"{where} has {list(value.shape)}, the model needs {list(shape)}")
    embedding = Int8Linear(1, 1)
    embedding.codes = (value.to(torch.int16) + layout.OFFSET).to(torch.uint8)
    embedding.scale = source[f"{name}_scale"].float()
    return embedding


def _has_masters(source: Mapping[str, Tensor], group: list[str]) -> bool:
    """Whether the matrices of a map are there as they were trained."""
    return not any(f"{name}.weight_scale" in source for name in group)


def _masters(path: Path, source: Mapping[str, Tensor], linear: BitLinear, group: list[str]) -> Tensor:
    """The master weights of a map's matrices, (O, I)."""
    inputs = linear.weight.shape[1]
    return torch.cat(
        [
            _shaped(source[f"{name}.weight"], (outputs, inputs), f"{path}: {name}.weight")
            for name, outputs in zip(group, linear.outputs, strict=True)
        ]
    )


def _hub_matrix(
    source: Mapping[str, Tensor], name: str, outputs: int, inputs: int, linear_class: str | None
) -> tuple[Tensor, Tensor]:
    """Packed or not is told by type and shape, which configurations get wrong."""
    weight, scale_name = source[f"{name}.weight"], f"{name}.weight_scale"
    if scale_name not in source:
        return absmean(_shaped(weight, (outputs, inputs), f"{name}.weight"))
    stored = source[scale_name]
    # Where the class is not named: mean|W| of trained matrices is far below 1, and its reciprocal far above.
    divides = linear_class == "bitlinear" if linear_class else bool((stored.float() > 1).any())
    scale = scale_of(stored, divides=divides, name=scale_name)
    if weight.shape == (outputs // 4, inputs) and outputs % 4 == 0:
        return unpack_rows(weight.to(torch.uint8), name=f"{name}.weight"), scale
    values = _shaped(weight, (outputs, inputs), f"{name}.weight").float()
    if not ((values == 0) | (values.abs() == 1)).all():
        raise CheckpointError(f"{name}.weight has a weight_scale, but its values are not ternary")
    return values.to(torch.int8), scale


def _ternary(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix in floating point that may hold -scale, 0 and scale already; else it is a master weight."""
    weight = weight.float()
    largest, values = weight.abs().max(), weight.sign()
    if torch.allclose(values * largest, weight, rtol=1e-2, atol=0):
        return values.to(torch.int8), largest
    return absmean(weight)


def _new(own: BitNetConfig, packed: bool) -> BitNet:
    with checkpoint.on_meta():
        return BitNet(own, packed=packed)


def _floats_of(model: BitNet, names: _Names) -> list[tuple[str, str]]:
    """(our module, published name) of all that is kept in floating point."""
    plain = ["embedding", "decoder.norm", *([] if model.head is None else ["head"])]
    found = [(ours, names.plain(ours)) for ours in plain]
    return found + [pair for layer in range(model.config.num_layers) for pair in names.norms(layer)]


def _maps_of(model: BitNet, names: _Names) -> list[tuple[str, list[str]]]:
    """(our module, published names of its matrices) of all that is ternary."""
    return [pair for layer in range(model.config.num_layers) for pair in names.maps(layer)]


def _all_names(model: BitNet, names: _Names) -> set[str]:
    found = {name for _, name in _floats_of(model, names)}
    return found | {f"{name}.weight" for _, group in _maps_of(model, names) for name in group}


def _check_names(path: Path, source: Iterable[str], names: set[str], tied: bool) -> None:
    spare = {f"{name.removesuffix('.weight')}.weight_scale" for name in names}
    if tied:
        spare |= {_HUB.plain("head"), _GGUF.plain("head")}
    present = set(source)
    missing, unexpected = sorted(names - present), sorted(present - names - spare)
    if missing or unexpected:
        raise CheckpointError(f"{path} does not fit BitNet", missing=missing, unexpected=unexpected)


def _fill(model: BitNet, ours: str, value: Tensor, dtype: torch.dtype, where: str) -> None:
    shape = tuple(model.get_parameter(f"{ours}.weight").shape)
    model.get_submodule(ours).weight = nn.Parameter(_shaped(value, shape, where).to(dtype))


def _float_weight(model: BitNet, ours: str) -> Tensor:
    """What is held in a byte a weight is written as what it stands for."""
    module = model.get_submodule(ours)
    if isinstance(module, Int8Linear):
        return layout.dequantize(module.codes, module.scale, torch.float32)
    return model.get_parameter(f"{ours}.weight")


def _map(model: BitNet, ours: str) -> BitLinear | TernaryLinear:
    linear = model.get_submodule(ours)
    assert isinstance(linear, BitLinear | TernaryLinear)
    return linear


def _fill_ternary(
    linear: TernaryLinear | BitLinear, group: list[str], matrix: Matrix, dtype: torch.dtype
) -> None:
    inputs = linear.in_features if isinstance(linear, TernaryLinear) else linear.weight.shape[1]
    parts = [matrix(name, count, inputs) for name, count in zip(group, linear.outputs, strict=True)]
    linear.set(torch.cat([values for values, _ in parts]), torch.stack([scale for _, scale in parts]))
    linear.to(dtype)  # master weights; packed ones have no such type


def _matrices(linear: BitLinear | TernaryLinear, group: list[str]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Published name, ternary values and scale of each matrix of a map."""
    values, scales = linear.ternary()
    yield from zip(group, values.cpu().split(linear.outputs), scales.cpu(), strict=True)


def _shaped(value: Tensor, shape: tuple[int, ...], where: str) -> Tensor:
    if tuple(value.shape) != shape or not value.is_floating_point():
        kind = str(value.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{where} has {list(value.shape)} of {kind}, the model needs {list(shape)} of floats"
        )
    return value


def _gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path means, if it means one."""
    if path.suffix == ".gguf":
        return path
    found = sorted(path.glob("*.gguf")) if path.is_dir() and not (path / "config.json").is_file() else []
    if len(found) > 1:
        raise CheckpointError(
            f"{path}: holds several GGUF files ({', '.join(f.name for f in found[:4])}): name one"
        )
    return found[0] if found else None


def _read_config(path: Path) -> tuple[BitNetConfig, str | None]:
    """The sizes, and the class of quantised maps if the configuration names one."""
    folder = path if path.is_dir() else path.parent
    where = folder / "config.json"
    published = config.read_json(where)
    if published.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"{where}: model_type is {published.get('model_type')!r}, expected {MODEL_TYPE!r}"
        )
    own = {ours: published[key] for key, ours in _KEYS.items() if published.get(key) is not None}
    rope = published.get("rope_parameters") or {}
    if isinstance(rope, Mapping) and "rope_theta" in rope:
        own["rope_theta"] = rope["rope_theta"]
    # As `transformers` understands silence.
    own.setdefault("tied_embeddings", False)
    if "num_heads" in own:
        own.setdefault("num_kv_heads", own["num_heads"])
    quantization = published.get("quantization_config")
    linear_class = quantization.get("linear_class") if isinstance(quantization, Mapping) else None
    return config.from_dict(BitNetConfig, own, where=str(where)), linear_class


def _published_config(own: BitNetConfig) -> dict[str, Any]:
    values = config.to_dict(own)
    return {
        "architectures": ["BitNetForCausalLM"],
        "model_type": MODEL_TYPE,
        **{key: values[name] for key, name in _KEYS.items()},
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "offline",
            "modules_to_not_convert": ["lm_head"],
        },
    }


def _gguf_config(file: gguf.GGUFFile) -> BitNetConfig:
    architecture = file.get("general.architecture", str)
    if not architecture.startswith("bitnet"):
        raise CheckpointError(
            f"{file.path}: its architecture is {architecture!r}, expected {GGUF_ARCHITECTURE!r}"
        )
    own: dict[str, Any] = {}
    for key, name in _GGUF_KEYS.items():
        key = f"{architecture}.{key}"
        if key in file.metadata or name not in ("max_positions", "rope_theta"):
            own[name] = file.decimal(key) if name in ("norm_eps", "rope_theta") else file.get(key, int)
    embedding = file.tensors.get(_GGUF.plain("embedding"))
    own["vocab_size"] = embedding.shape[0] if embedding and embedding.shape else 0
    own["tied_embeddings"] = _GGUF.plain("head") not in file.tensors
    return config.from_dict(BitNetConfig, own, where=str(file.path))
