"""One thread that works for one model, a limited queue before it, and work that ends when nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fastapi import Request

from multiway_core.app.command import describe, note
from multiway_core.app.serve.errors import ApiError
from multiway_core.app.serve.held_model import HeldModel
from multiway_core.errors import MultiwayError

MAX_QUEUE = 16
_LOOK_SECONDS = 0.25  # how often it is asked whether a client is still there while its answer is made
_END = object()


class Worker:
    """Runs jobs on a model one after another; ``max_queue`` may wait, one more is refused with 429."""

    def __init__(self, model: HeldModel, *, max_queue: int = MAX_QUEUE) -> None:
        self.model, self.max_queue = model, max_queue
        self.pending = 0
        self._seconds = 2.0  # that a job takes, about
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    def refuse_if_full(self) -> None:
        """Raises ApiError (429, with Retry-After) when no more may wait."""
        if self.pending > self.max_queue:
            raise ApiError(
                429,
                f"1 request runs and {self.pending - 1} wait: try again later",
                kind="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": str(max(1, round(self.pending * self._seconds)))},
            )

    async def stream(self, job: Callable[[Any], Iterator[Any]]) -> AsyncIterator[Any]:
        """What ``job(model)`` yields. Closing this iterator ends the job at its next item.

        Raises ApiError (429 full, 503 without a model, 500 a bug), MultiwayError as the job does.
        """
        self.refuse_if_full()
        self.pending += 1
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[Any] = asyncio.Queue()
        unwanted = threading.Event()
        work: Future[None] | None = None

        def tell(item: Any) -> None:
            loop.call_soon_threadsafe(items.put_nowait, item)

        try:
            model = await self.model.get()
            started = loop.time()
            work = self._thread.submit(_run, job, model, unwanted, tell)
            del model
            while (item := await items.get()) is not _END:
                if isinstance(item, BaseException):
                    raise item
                yield item
            self._seconds += 0.2 * (loop.time() - started - self._seconds)
        finally:
            unwanted.set()
            if work is None or work.cancel() or work.done():
                self._ended()
            else:
                work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._ended))

    def _ended(self) -> None:
        self.pending -= 1
        self.model.touch()

    def close(self) -> None:
        """Take no more jobs."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _run(
    job: Callable[[Any], Iterator[Any]],
    model: Any,
    unwanted: threading.Event,
    tell: Callable[[Any], None],
) -> None:
    items = job(model)
    try:
        for item in items:
            if unwanted.is_set():
                break
            tell(item)
        tell(_END)
    except (MultiwayError, ApiError) as error:
        tell(error)
    except MemoryError:
        tell(ApiError(503, "not enough memory for this request", kind="server_error"))
    except Exception as error:  # a bug must not end the thread that serves everybody
        note(f"multiway: {describe(error)}")
        tell(ApiError(500, "the server failed at this request", kind="server_error"))
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


async def until_gone(request: Request) -> None:
    """Returns when the client has left."""
    while not await request.is_disconnected():
        await asyncio.sleep(_LOOK_SECONDS)


async def unless_gone(request: Request, work: Any) -> Any:
    """The result of an awaitable, which is cancelled when the client leaves. Raises ApiError (499) then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(until_gone(request))
    try:
        done, _ = await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task not in done:
            raise ApiError(499, "the client left")
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
