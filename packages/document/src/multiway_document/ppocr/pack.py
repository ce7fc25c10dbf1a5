"""Pack the networks of the `rapidocr` wheel for this package: weights in float16, which halves the files.

    python -m multiway_document.ppocr.pack FOLDER_OF_RAPIDOCR_MODELS OUTPUT

Needs the packages ``onnx`` and ``rapidocr==3.10`` (its folder ``models``). The runtime widens the weights when it loads
them, so that all products are in float32.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

FILES = {"det.onnx": "PP-OCRv6_det_small.onnx", "rec.onnx": "PP-OCRv6_rec_small.onnx"}
MIN_VALUES = 256  # smaller tensors (biases, shapes) stay as they are


def pack(source: Path, target: Path) -> None:
    """Write ``source`` with its large float32 weights as float16 and a cast behind each."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(source)
    graph = model.graph
    casts = []
    constants = [node for node in graph.node if node.op_type == "Constant"]
    for node in constants:  # weights may stand in nodes instead of initializers
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if value is not None and value.data_type == TensorProto.FLOAT:
            value.name = node.output[0]
            graph.initializer.append(value)
            graph.node.remove(node)
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.size < MIN_VALUES:
            continue
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, target)


if __name__ == "__main__":
    models, output = map(Path, sys.argv[1:])
    output.mkdir(parents=True, exist_ok=True)
    for target, source in FILES.items():
        pack(models / source, output / target)
