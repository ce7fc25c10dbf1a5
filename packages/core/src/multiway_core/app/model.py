"""The model that a run uses, loaded when something first needs it."""

from __future__ import annotations

import ctypes
import inspect
import threading
from typing import Any

from multiway_core.app.batch import StopRun
from multiway_core.app.command import pick_device, pick_dtype
from multiway_core.app.options import ModelOptions
from multiway_core.app.registry import App
from multiway_core.errors import InputError, MultiwayError

_GPU_DRIVERS = ("libcuda.so.1", "nvcuda.dll", "libamdhip64.so")


def load_pipeline(app: App, options: ModelOptions) -> Any:
    """The app's pipeline with the model, device and dtype of ``options``.

    A pipeline whose class says ``runs_without_torch`` gets the names ``"cpu"`` and None where that is the choice.
    A pipeline that has no choice of device runs on the CPU, one without a choice of dtype in float32; asking such a
    one for anything else is an InputError. Raises also what the pipeline raises (ModelNotFoundError, CheckpointError).
    """
    pipeline = app.load("pipeline")
    from_pretrained = getattr(pipeline, "from_pretrained", pipeline)
    device: Any = "cpu"
    dtype: Any = None
    if not (getattr(pipeline, "runs_without_torch", False) and _is_plain_cpu(options)):
        device, dtype = pick_device(options.device), pick_dtype(options.dtype)
    taken = inspect.signature(from_pretrained).parameters
    chosen: dict[str, Any] = {}
    if "device" in taken:
        chosen["device"] = device
    elif options.device not in ("auto", "cpu"):
        raise InputError(f"--device {options.device}: this model runs on cpu only")
    if "dtype" in taken:
        chosen["dtype"] = dtype
    elif options.dtype not in ("auto", "float32"):
        raise InputError(f"--dtype {options.dtype}: this model runs in float32 only")
    if app.model_hint and options.model in ("", app.model):
        app.note(app.model_hint)
    return from_pretrained(options.model or app.model, **chosen)


def _is_plain_cpu(options: ModelOptions) -> bool:
    """Whether the choice is the CPU in the model's usual precision, found without importing torch (two seconds)."""
    if options.dtype != "auto" or options.device not in ("auto", "cpu"):
        return False
    return options.device == "cpu" or not any(map(_is_loadable, _GPU_DRIVERS))


def _is_loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


class ModelLoader:
    """The pipeline of one model, loaded by whoever asks first and kept."""

    def __init__(self, app: App, options: ModelOptions | None = None) -> None:
        self._app, self._options = app, options or ModelOptions()
        self.model = self._options.model or app.model
        self._pipeline: Any = None
        self._lock = threading.Lock()  # a demo's visitors come in threads

    def __call__(self) -> Any:
        """The pipeline; raises StopRun when it cannot be loaded (then no input can be worked on)."""
        with self._lock:
            if self._pipeline is None:
                try:
                    self._pipeline = load_pipeline(self._app, self._options)
                except MultiwayError as error:
                    raise StopRun(str(error)) from error
        return self._pipeline
