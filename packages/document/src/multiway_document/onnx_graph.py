"""A network for ONNX Runtime, written operation by operation: without the package ``onnx`` and without a file.

Weights stay in the arrays that they come in; the runtime takes them from there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IR_VERSION, OPSET = 9, 20
_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}  # TensorProto.DataType
_EXTERNAL = 1  # TensorProto.DataLocation
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7  # AttributeProto.AttributeType

Shape = Sequence[int | str]


class Graph:
    """Operations in the order in which they are added; what they give is known by generated names."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._weights: dict[str, NDArray[Any]] = {}
        self._count = 0

    def input(self, name: str, shape: Shape) -> str:
        """A float32 input; strings in ``shape`` are sides of any length."""
        self._inputs.append(_value(name, shape, 1))
        return name

    def output(self, name: str, value: str, shape: Shape, dtype: type = np.float32) -> None:
        """``value`` is given back as ``name``."""
        self._nodes.append(_node("Identity", [value], [name], {}))
        self._outputs.append(_value(name, shape, _TYPES[np.dtype(dtype)]))

    def weight(self, values: Any) -> str:
        """A constant: float32 for numbers with a fraction, else int64."""
        array = np.asarray(values)
        array = np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else np.int64)
        name = f"w{len(self._weights)}"
        self._weights[name] = array
        return name

    def add(self, operation: str, *inputs: str, **attributes: float | str | Sequence[int]) -> str:
        """An operation with one result, whose name is returned."""
        self._count += 1
        name = f"v{self._count}"
        self._nodes.append(_node(operation, inputs, [name], attributes))
        return name

    def session(self, *, threads: int = 1) -> Any:
        """The runtime's session on one processor."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.enable_cpu_mem_arena = False  # else the buffers of the longest input stay for good
        options.log_severity_level = 3
        large = {name: array for name, array in self._weights.items() if _is_outside(array)}
        options.add_external_initializers(
            list(large), [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in large.values()]
        )
        return onnxruntime.InferenceSession(self._model(), options, providers=["CPUExecutionProvider"])

    def _model(self) -> bytes:
        constants = [
            b"".join(_number(1, side) for side in array.shape)
            + _number(2, _TYPES[array.dtype])
            + _bytes(8, name.encode())
            + (
                _bytes(13, _bytes(1, b"location") + _bytes(2, b"weights"))  # a file that is not looked for
                + _number(14, _EXTERNAL)
                if _is_outside(array)
                else _bytes(9, array.tobytes())
            )
            for name, array in self._weights.items()
        ]
        graph = (
            _all(1, self._nodes)
            + _bytes(2, b"network")
            + _all(5, constants)
            + _all(11, self._inputs)
            + _all(12, self._outputs)
        )
        return _number(1, IR_VERSION) + _bytes(7, graph) + _bytes(8, _bytes(1, b"") + _number(2, OPSET))


def _is_outside(array: NDArray[Any]) -> bool:
    """Whether the runtime gets an array beside the graph; shapes and axes must stand in it."""
    return array.dtype == np.float32 and array.ndim > 0


# The few forms of Protocol Buffers that are needed; field numbers are those of onnx.proto.


def _varint(value: int) -> bytes:
    value &= 2**64 - 1  # negative numbers are written as their two's complement
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _all(field: int, values: Iterable[bytes]) -> bytes:
    return b"".join(_bytes(field, value) for value in values)


def _node(operation: str, inputs: Iterable[str], outputs: Iterable[str], attributes: dict[str, Any]) -> bytes:
    return (
        _all(1, (name.encode() for name in inputs))
        + _all(2, (name.encode() for name in outputs))
        + _bytes(4, operation.encode())
        + _all(5, (_attribute(name, value) for name, value in attributes.items()))
    )


def _attribute(name: str, value: float | str | Sequence[int]) -> bytes:
    start = _bytes(1, name.encode())
    if isinstance(value, int):
        return start + _number(3, value) + _number(20, _INT)
    if isinstance(value, float):
        return start + _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, _FLOAT)
    if isinstance(value, str):
        return start + _bytes(4, value.encode()) + _number(20, _STRING)
    return start + b"".join(_number(8, item) for item in value) + _number(20, _INTS)


def _value(name: str, shape: Shape, kind: int) -> bytes:
    sides = (_bytes(2, side.encode()) if isinstance(side, str) else _number(1, side) for side in shape)
    tensor = _number(1, kind) + _bytes(2, _all(1, sides))
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))
