"""ONNX Runtime on one core, with little memory kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from multiway_core.errors import CheckpointError


def open_session(path: Path) -> Any:
    """An inference session for a network in a file. Raises CheckpointError for a file that is none."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # else a large picture's buffers stay for good
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no common class
        raise CheckpointError(f"{path}: cannot be loaded ({str(error).splitlines()[0]})") from None
