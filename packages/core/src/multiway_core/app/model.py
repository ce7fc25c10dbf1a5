"""The model that a run uses, loaded when something first needs it."""

from __future__ import annotations

import inspect
import threading
from typing import Any

from multiway_core.app.batch import StopRun
from multiway_core.app.command import pick_device, pick_dtype
from multiway_core.app.options import ModelOptions
from multiway_core.app.registry import App
from multiway_core.errors import InputError, MultiwayError


def load_pipeline(app: App, options: ModelOptions) -> Any:
    """The app's pipeline with the model, device and dtype of ``options``.

    A pipeline that has no choice of device runs on the CPU, one without a choice of dtype in float32; asking such a
    one for anything else is an InputError. Raises also what the pipeline raises (ModelNotFoundError, CheckpointError).
    """
    device, dtype = pick_device(options.device), pick_dtype(options.dtype)
    from_pretrained = app.load("pipeline")
    from_pretrained = getattr(from_pretrained, "from_pretrained", from_pretrained)
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
