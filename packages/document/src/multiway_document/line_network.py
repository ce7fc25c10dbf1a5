"""The reader of single lines on a CPU by ONNX Runtime, without torch: a fifth of its memory, and it starts at once.

The same network as ``kosmos2_5.line_reader`` on the vision encoder, from the same files, in float32. A line is read by
itself, so nothing is padded. Shape suffixes: C columns of patches, N = 2 C patches, E hidden size, T = 4 C steps.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.config import read_json
from multiway_core.errors import CheckpointError, ConfigError
from numpy.typing import NDArray

from multiway_document.alphabet import ALPHABET
from multiway_document.line_reading import (
    LINE_READER_FILE,
    PATCH,
    STEPS_PER_COLUMN,
    LineReading,
    best_path,
)
from multiway_document.onnx_graph import Graph

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_VISION = "vision_model."
_CHANNELS = 3

Weights = dict[str, NDArray[np.float32]]


class LineNetwork:
    """Crops of lines -> their readings, on one core."""

    def __init__(self, folder: Path) -> None:
        """``folder`` holds a model in the hub's layout with a line reader. Raises CheckpointError."""
        try:
            config = read_json(folder / "config.json")["vision_config"]
            files = [LINE_READER_FILE, *sorted(set(weight_files(folder).values()))]
            weights: Weights = {}
            for name in files:
                weights |= _read(folder / name)
            embeddings = _VISION + "embeddings."
            self._rows_CE = weights.pop(embeddings + "row_embedder.weight")[1:3]
            self._rows_CE = self._rows_CE + weights.pop(embeddings + "patch_projection.bias")
            self._columns_CE = weights.pop(embeddings + "column_embedder.weight")[1:]
            self._session = _network(weights, config).session()
        except (KeyError, TypeError, ValueError, OSError, ConfigError) as error:
            raise CheckpointError(f"{folder}: its line reader cannot be loaded ({error})") from None

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        """Read crops (32, width) as ``segmentation.crop_line`` makes them; order is kept."""
        return [self._reading(crop) for crop in crops]

    def _reading(self, crop: NDArray[np.uint8]) -> LineReading:
        columns = max(1, -(-crop.shape[1] // PATCH))
        grey = crop.astype(np.float32)
        grey = (grey - grey.mean()) / max(float(grey.std()), grey.size**-0.5)
        # The paper goes on to the end of the last patch.
        pixels = np.full((2 * PATCH, columns * PATCH), grey.max(), np.float32)
        pixels[:, : crop.shape[1]] = grey
        patches = pixels.reshape(2, PATCH, columns, PATCH).transpose(0, 2, 1, 3).reshape(1, 2 * columns, -1)
        places = self._rows_CE[:, None] + self._columns_CE[:columns]
        places_1NE = places.reshape(1, 2 * columns, -1)
        classes, probabilities = self._session.run(None, {"patches": patches, "places": places_1NE})
        return best_path(classes[0], probabilities[0])


def weight_files(folder: Path) -> dict[str, str]:
    """Tensors of a folder in the hub's layout -> the files that hold them; empty where it holds none."""
    if (folder / _INDEX).is_file():
        return dict(read_json(folder / _INDEX)["weight_map"])
    if (folder / _SINGLE).is_file():
        with (folder / _SINGLE).open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return dict.fromkeys(_header(file.read(size)), _SINGLE)
    return {}


def _network(weights: Weights, config: Mapping[str, Any]) -> Graph:
    """The graph: norms' weights stand in the matrices behind them, the channels of the grey picture in one.

    ``weights`` is emptied on the way, which halves the peak of memory.
    """
    heads, head_dim = int(config["num_attention_heads"]), int(config["head_dim"])
    graph = Graph()
    eps = graph.weight(np.float32(config["layer_norm_eps"]))
    last = graph.weight(np.array([-1]))

    def product(x: str, name: str, scale: NDArray[np.float32] | float = 1.0) -> str:
        return graph.add("MatMul", x, graph.weight((weights.pop(name) * np.float32(scale)).T))

    def unit(x: str) -> str:
        mean = graph.add("ReduceMean", graph.add("Mul", x, x), last, keepdims=1)
        return graph.add("Div", x, graph.add("Sqrt", graph.add("Add", mean, eps)))

    projection = weights.pop(_VISION + "embeddings.patch_projection.weight")
    width = len(projection)
    side = projection.shape[1] // _CHANNELS
    pixels = graph.input("patches", (1, "N", side))
    places = graph.input("places", (1, "N", width))
    grey = graph.weight(projection.reshape(width, side, _CHANNELS).sum(axis=2).T)
    x = graph.add("Add", graph.add("MatMul", pixels, grey), places)
    split, join = graph.weight(np.array([0, 0, heads, head_dim])), graph.weight(np.array([0, 0, -1]))
    for layer in range(int(config["num_hidden_layers"])):
        start = f"{_VISION}encoder.layer.{layer}."
        normed, norm = unit(x), weights.pop(start + "pre_attention_layer_norm.weight")
        parts = []
        for name, order in (("query", (0, 2, 1, 3)), ("key", (0, 2, 3, 1)), ("value", (0, 2, 1, 3))):
            scale = norm if name == "value" else norm * np.float32(head_dim**-0.25)
            part = product(normed, f"{start}attention.{name}.weight", scale)
            parts.append(graph.add("Transpose", graph.add("Reshape", part, split), perm=order))
        seen = graph.add("Softmax", graph.add("MatMul", parts[0], parts[1]), axis=-1)
        mixed = graph.add("Transpose", graph.add("MatMul", seen, parts[2]), perm=(0, 2, 1, 3))
        x = graph.add("Add", x, product(graph.add("Reshape", mixed, join), start + "attention.output.weight"))
        normed, norm = unit(x), weights.pop(start + "pre_mlp_layer_norm.weight")
        gate = graph.add("Gelu", product(normed, start + "mlp.wi_0.weight", norm), approximate="tanh")
        inner = graph.add("Mul", gate, product(normed, start + "mlp.wi_1.weight", norm))
        x = graph.add("Add", x, product(inner, start + "mlp.wo.weight"))
    x = graph.add("Mul", unit(x), graph.weight(weights.pop(_VISION + "layernorm.weight")))
    # Both patches of a column side by side.
    pairs = graph.add("Reshape", x, graph.weight(np.array([0, 2, -1, width])))
    pairs = graph.add(
        "Reshape", graph.add("Transpose", pairs, perm=(0, 2, 1, 3)), graph.weight([0, -1, 2 * width])
    )
    hidden = graph.add("Add", product(pairs, "mix.weight"), graph.weight(weights.pop("mix.bias")))
    hidden = graph.add("Gelu", hidden, approximate="none")
    bias = weights.pop("scores.bias")
    scores = graph.add("Add", product(hidden, "scores.weight"), graph.weight(bias))
    classes = len(bias) // STEPS_PER_COLUMN
    if classes != len(ALPHABET) + 1:
        raise ValueError(f"{classes} classes where the alphabet has {len(ALPHABET) + 1}")
    scores = graph.add("Reshape", scores, graph.weight(np.array([0, -1, classes])))
    graph.output("classes", graph.add("ArgMax", scores, axis=-1, keepdims=0), (1, "T"), np.int64)
    sure = graph.add("ReduceMax", graph.add("Softmax", scores, axis=-1), last, keepdims=0)
    graph.output("probabilities", sure, (1, "T"))
    return graph


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    """What the network needs of a safetensors file, as float32."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        size = int.from_bytes(data[:8], "little")
        found = {}
        for name, entry in _header(data[8 : 8 + size]).items():
            if not name.startswith((_VISION, "mix.", "scores.")):
                continue
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            raw, kind = data[start:end], entry["dtype"]
            if kind == "BF16":  # the upper half of a float32
                values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
            elif kind in ("F32", "F16"):
                values = np.frombuffer(raw, "<f4" if kind == "F32" else "<f2").astype(np.float32)
            else:
                raise ValueError(f"{name} is {kind}")
            found[name] = values.reshape(entry["shape"])
        return found


def _header(data: bytes) -> dict[str, Any]:
    """Names and places of a safetensors file's tensors."""
    header = json.loads(data)
    header.pop("__metadata__", None)
    return dict(header)
