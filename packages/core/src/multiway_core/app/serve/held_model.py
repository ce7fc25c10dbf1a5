"""A model that is loaded when a request needs it first and dropped when none has come for a while."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

from multiway_core.app.serve.errors import ApiError
from multiway_core.errors import MultiwayError


class HeldModel:
    """Belongs to one event loop.

    Args:
        load: makes the model; called in a thread.
        close: called in a thread with a model that is dropped.
        busy: whether work goes on with the model, which then stays.
        idle_seconds: after so long without a request the model is dropped; None keeps it.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        *,
        close: Callable[[Any], object] | None = None,
        busy: Callable[[Any], bool] = lambda model: False,
        idle_seconds: float | None = None,
    ) -> None:
        self._load, self._close, self._busy, self.idle_seconds = load, close, busy, idle_seconds
        self._model: Any = None
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._dropping: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> Any:
        """The model if it is in memory, else None."""
        return self._model

    async def get(self) -> Any:
        """The model; the clock of its idle time starts anew. Raises ApiError (503) when it cannot be loaded."""
        async with self._lock:
            if self._model is None:
                try:
                    self._model = await asyncio.to_thread(self._load)
                except MultiwayError as error:
                    message = f"the model cannot be loaded: {error}"
                    raise ApiError(503, message, kind="server_error", code="model_not_loaded") from error
            self.touch()
            return self._model

    def touch(self) -> None:
        """Start the clock of the idle time anew."""
        if self._timer is not None:
            self._timer.cancel()
        if self.idle_seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self.idle_seconds, self._expire)

    async def drop(self) -> None:
        """Forget the model now."""
        if self._timer is not None:
            self._timer.cancel()
        async with self._lock:
            model, self._model = self._model, None
            if model is not None and self._close is not None:
                await asyncio.to_thread(self._close, model)
            del model
        gc.collect()

    def _expire(self) -> None:
        if self._model is not None and self._busy(self._model):
            self.touch()
        elif self._model is not None:
            self._dropping = asyncio.create_task(self.drop())
