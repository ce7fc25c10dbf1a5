"""GGUF containers, version 2 and 3, little-endian: metadata, and tensors mapped from the file.

The container is read here because the ``gguf`` package knows no I2_S, bitnet.cpp's type, and answers a damaged file
with whatever exception comes first; the many block types are unpacked by that package. Sizes, counts and places are
checked against the file's length before anything is allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from multiway_blocks.ternary_formats import I2_S_TAIL
from multiway_core.errors import CheckpointError
from multiway_core.files import atomic_write
from torch import Tensor

F32, F16, BF16, I2_S = 0, 1, 30, 36
FLOATS = {F32: torch.float32, F16: torch.float16, BF16: torch.bfloat16}

_MAGIC = b"GGUF"
_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MOST_DIMENSIONS = 4


class GGUFTensor(NamedTuple):
    """A tensor as it lies in the file."""

    kind: int
    """GGML's number of the type."""
    shape: tuple[int, ...]
    """In PyTorch's order: the last dimension is contiguous."""
    data: Tensor
    """Its bytes, uint8 (n,), mapped."""


@dataclass(frozen=True)
class GGUFFile:
    """What a file holds: metadata (numbers, strings, lists) and tensors by name."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """A piece of metadata of this Python type. Raises CheckpointError if it is absent, without default, or not."""
        value = self.metadata.get(key, default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind):
            found = "nothing" if value is None else type(value).__name__
            raise CheckpointError(f"{self.path}: metadata {key}: expected {kind.__name__}, found {found}")
        return value

    def decimal(self, key: str, default: float | None = None) -> float:
        """The shortest decimal number that a metadata float of 32 bits stands for."""
        return float(str(np.float32(self.get(key, float, default))))

    def require(self, name: str, shape: tuple[int, ...] | None = None) -> GGUFTensor:
        """A tensor as it lies in the file. Raises CheckpointError: absent, or not of ``shape``."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.path} holds no tensor {name}")
        tensor = self.tensors[name]
        if shape is not None and tensor.shape != shape:
            raise CheckpointError(
                f"{self.path}: {name} has {list(tensor.shape)}, the model needs {list(shape)}"
            )
        return tensor

    def floats(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """A tensor in floating point: as it is, or unpacked to float32.

        Raises CheckpointError: absent, of no type that is unpacked, or not of ``shape`` (before anything is unpacked).
        """
        tensor = self.require(name, shape)
        if tensor.kind in FLOATS:
            return tensor.data.view(FLOATS[tensor.kind]).view(tensor.shape)
        if tensor.kind == I2_S:
            raise CheckpointError(f"{self.path}: {name} is ternary (I2_S), expected floats")
        from gguf import GGMLQuantizationType, dequantize  # seldom needed, and takes a while

        kind = GGMLQuantizationType(tensor.kind)
        try:
            values = dequantize(tensor.data.numpy().reshape(*tensor.shape[:-1], -1), kind)
        except NotImplementedError as error:
            raise CheckpointError(
                f"{self.path}: {name} is of type {kind.name}, which nothing unpacks"
            ) from error
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).view(tensor.shape)


def read(path: Path) -> GGUFFile:
    """Open a file. Raises CheckpointError: absent, not GGUF, or damaged."""
    try:
        content = np.memmap(path, dtype=np.uint8, mode="c") if Path(path).is_file() else None
    except (OSError, ValueError) as error:  # no permission; an empty file
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if content is None:
        raise CheckpointError(f"{path}: no such file")
    cursor = _Cursor(path, content)
    if bytes(cursor.take(4)) != _MAGIC:
        raise CheckpointError(f"{path}: not a GGUF file: it does not begin with GGUF")
    version = cursor.number("I")
    if version not in (2, 3):
        raise CheckpointError(f"{path}: GGUF version {version}; versions 2 and 3 (little-endian) are read")
    num_tensors, num_keys = cursor.number("Q"), cursor.number("Q")
    metadata: dict[str, Any] = {}
    for _ in range(cursor.plausible(num_keys, 12)):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.number("I"))
    places = {}
    for _ in range(cursor.plausible(num_tensors, 24)):
        name = cursor.string()
        dimensions = cursor.number("I")
        if dimensions > _MOST_DIMENSIONS or name in places:
            raise CheckpointError(f"{path}: damaged: {name} has {dimensions} dimensions, or is there twice")
        shape = tuple(reversed([cursor.number("Q") for _ in range(dimensions)]))
        places[name] = shape, cursor.number("I"), cursor.number("Q")
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise CheckpointError(f"{path}: damaged: an alignment of {alignment}")
    start = -(-cursor.place // alignment) * alignment
    tensors = {}
    end = 0  # of the tensor before: what overlaps would be unpacked to more than the file can hold
    for name, (shape, kind, offset) in sorted(places.items(), key=lambda item: item[1][2]):
        if 0 in shape or offset < end:
            problem = "has no elements" if 0 in shape else "overlaps the tensor before it"
            raise CheckpointError(f"{path}: damaged: {name} {problem}")
        size = _size(kind, shape)
        if size is None:
            raise CheckpointError(
                f"{path}: {name} is of the unknown type {kind}, or of no whole blocks of it"
            )
        if offset % alignment or start + offset + size > len(content):
            raise CheckpointError(f"{path}: damaged: {name} reaches past the end of the file")
        place, end = start + offset, offset + size
        tensors[name] = GGUFTensor(kind, shape, torch.from_numpy(content[place : place + size]))
    return GGUFFile(Path(path), metadata, {name: tensors[name] for name in places})


def write(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, GGUFTensor]) -> None:
    """Write a file atomically. Raises OutputError.

    Metadata may be strings, booleans, floats, integers (32 bits where they fit), and lists of one of these.
    """
    infos, offset = b"", 0
    for name, tensor in tensors.items():
        shape = tuple(reversed(tensor.shape))
        infos += _packed_string(name) + struct.pack(
            f"<I{len(shape)}QIQ", len(shape), *shape, tensor.kind, offset
        )
        offset += -(-tensor.data.numel() // _ALIGNMENT) * _ALIGNMENT
    head = _MAGIC + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_packed_string(key) + _packed_value(value) for key, value in metadata.items()) + infos
    with atomic_write(path) as file:
        file.write(head + bytes(-len(head) % _ALIGNMENT))
        for tensor in tensors.values():
            file.write(tensor.data.numpy().tobytes() + bytes(-tensor.data.numel() % _ALIGNMENT))


def floating(values: Tensor) -> GGUFTensor:
    """A tensor of floats, as the file holds it."""
    kind = {dtype: kind for kind, dtype in FLOATS.items()}[values.dtype]
    return GGUFTensor(kind, tuple(values.shape), values.detach().contiguous().flatten().view(torch.uint8))


class _Cursor:
    """Reads on from a place of the file, and never past its end."""

    def __init__(self, path: Path, content: np.ndarray) -> None:
        self.path, self.place = path, 0
        self.content = content.data  # whose parts cost a tenth of an array's

    def take(self, count: int) -> memoryview:
        if count > len(self.content) - self.place:
            raise CheckpointError(f"{self.path}: damaged: it ends too early")
        self.place += count
        return self.content[self.place - count : self.place]

    def plausible(self, count: int, least: int) -> int:
        """A number of things that take at least so many bytes each."""
        if count * least > len(self.content) - self.place:
            raise CheckpointError(f"{self.path}: damaged: it ends too early")
        return count

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def string(self) -> str:
        return bytes(self.take(self.number("Q"))).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise CheckpointError(f"{self.path}: damaged: metadata of the unknown type {kind}")
        kind, count = self.number("I"), self.number("Q")
        if kind in _SCALARS:
            code = _SCALARS[kind]
            size = self.plausible(count, struct.calcsize(f"<{code}")) * struct.calcsize(f"<{code}")
            return list(struct.unpack(f"<{count}{code}", self.take(size)))
        if kind != _STRING:
            raise CheckpointError(f"{self.path}: damaged: a list of the type {kind}")
        return [self.string() for _ in range(self.plausible(count, 8))]


def _size(kind: int, shape: Iterable[int]) -> int | None:
    """Bytes of a tensor, or None for a type that is not known or does not divide it."""
    shape = tuple(shape)
    count = int(np.prod([int(size) for size in shape], dtype=object)) if shape else 1
    if kind in FLOATS:
        return count * FLOATS[kind].itemsize
    if kind == I2_S:
        return count // 4 + I2_S_TAIL if count % 4 == 0 else None
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        return None
    return None if not shape or shape[-1] % block else count // block * size


def _packed_string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _kind_of(value: Any) -> int:
    if isinstance(value, str):
        return _STRING
    if isinstance(value, bool):
        return 7
    if isinstance(value, float):
        return 6
    return 4 if 0 <= value < 1 << 32 else 5 if -(1 << 31) <= value < 0 else 11


def _packed(kind: int, value: Any) -> bytes:
    return _packed_string(value) if kind == _STRING else struct.pack(f"<{_SCALARS[kind]}", value)


def _packed_value(value: Any) -> bytes:
    if not isinstance(value, (list, tuple)):
        kind = _kind_of(value)
        return struct.pack("<I", kind) + _packed(kind, value)
    kind = max(map(_kind_of, value), default=4)
    body = b"".join(_packed(kind, item) for item in value)
    return struct.pack("<IIQ", _ARRAY, kind, len(value)) + body
