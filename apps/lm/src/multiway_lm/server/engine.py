"""The one thread that runs the model: requests side by side, a token each, a limited queue, and cancelling.

Every request has its own cache, so that requests of any kind run side by side, none waits for another's end, and one
that is cancelled gives its memory back at once. What the network reads for all of them it reads in one step.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from multiway_core.app.command import describe, note
from multiway_core.app.serve.errors import ApiError
from multiway_core.errors import MultiwayError

if TYPE_CHECKING:
    from multiway_text.generation_sequence import GenerationSequence
    from multiway_text.language_model import LanguageModel, Piece
    from multiway_text.sampling import SamplingOptions

MAX_CONCURRENCY, MAX_QUEUE = 8, 64
RETRY_SECONDS = 2


class Job:
    """One prompt with its answers, on its way."""

    def __init__(self, steps: GenerationSequence[list[Piece]]) -> None:
        self.steps = steps
        self.loop = asyncio.get_running_loop()
        self.events: asyncio.Queue[list[Piece] | BaseException | None] = asyncio.Queue()
        self.cancelled = False

    def cancel(self) -> None:
        """Nobody wants the rest. May be called at any time, from any thread."""
        self.cancelled = True

    async def pieces(self) -> AsyncIterator[list[Piece]]:
        """What the steps yield, as it comes. Raises what they raise."""
        while (event := await self.events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            if event:
                yield event

    def tell(self, event: list[Piece] | BaseException | None) -> None:
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody listens
            self.cancelled = True


class Engine:
    """Runs jobs on a model.

    Args:
        model: the model.
        max_concurrency: jobs that run side by side, each with a cache of its own.
        max_queue: jobs that may wait behind them; one more is refused with 429.
    """

    def __init__(
        self, model: LanguageModel, *, max_concurrency: int = MAX_CONCURRENCY, max_queue: int = MAX_QUEUE
    ) -> None:
        self.model, self.max_concurrency, self.max_queue = model, max_concurrency, max_queue
        self.active: list[Job] = []
        self.waiting: deque[Job] = deque()
        self.changed = threading.Condition()
        self.stopping = False
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to work."""
        self.thread = threading.Thread(target=self._run, name="language-model", daemon=True)
        self.thread.start()

    def pending(self) -> int:
        """Jobs that run or wait."""
        return len(self.active) + len(self.waiting)

    def stop(self) -> None:
        """End all jobs with 503 and the thread."""
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        if self.thread is not None:
            self.thread.join(timeout=30)

    def submit(self, prompt: list[int], options: SamplingOptions, answers: int) -> Job:
        """Queue a prompt's ids. Raises InputError (it cannot be run), ApiError (429 full, 503 stopping)."""
        job = Job(self.model.steps(prompt, options, answers=answers))
        with self.changed:
            if self.stopping:
                raise ApiError(503, "the server is shutting down", kind="server_error")
            waiting = sum(not other.cancelled for other in self.waiting)
            if waiting >= self.max_queue + self.max_concurrency - len(self.active):
                raise ApiError(
                    429,
                    f"{len(self.active)} requests run and {waiting} wait: try again later",
                    kind="rate_limit_error",
                    code="queue_full",
                    headers={"Retry-After": str(RETRY_SECONDS)},
                )
            self.waiting.append(job)
            self.changed.notify_all()
        return job

    def _run(self) -> None:
        while self._admit():
            self._read_together()
            for job in list(self.active):
                self._step(job)

    def _admit(self) -> bool:
        """Wait until there is work, and take up what may run; False when all is over."""
        with self.changed:
            while not (self.active or self.waiting or self.stopping):
                self.changed.wait()
            if self.stopping:
                for job in [*self.active, *self.waiting]:
                    job.tell(ApiError(503, "the server is shutting down", kind="server_error"))
                    _close(job)
                self.active.clear()
                self.waiting.clear()
                return False
            while self.waiting and len(self.active) < self.max_concurrency:
                job = self.waiting.popleft()
                if job.cancelled:
                    _close(job)
                else:
                    self.active.append(job)
            return True

    def _read_together(self) -> None:
        jobs = [job for job in self.active if not job.cancelled and job.steps.next_step.tokens_BT is not None]
        error = self._failure(lambda: self.model.batched_decode([job.steps for job in jobs]))
        if error is not None:  # how far their caches are is not known
            for job in jobs:
                self._told(job, error)

    def _step(self, job: Job) -> None:
        if job.cancelled:
            self._drop(job)
            return
        found: list[list[Piece] | None] = []
        error = self._failure(lambda: found.append(next(job.steps, None)))
        self._told(job, found[0] if error is None else error)

    def _told(self, job: Job, event: list[Piece] | BaseException | None) -> None:
        job.tell(event)
        if not isinstance(event, list):
            self._drop(job)

    @staticmethod
    def _failure(work: Callable[[], object]) -> BaseException | None:
        """Do something, and what its requests are told if it fails."""
        try:
            work()
        except MultiwayError as error:
            return error
        except MemoryError:
            return ApiError(503, "not enough memory for this request", kind="server_error")
        except Exception as error:  # a bug must not end the thread that serves everybody
            note(f"multiway-lm: {describe(error)}")
            return ApiError(500, "the server failed at this request", kind="server_error")
        return None

    def _drop(self, job: Job) -> None:
        _close(job)
        with self.changed:
            self.active.remove(job)


def _close(job: Job) -> None:
    """Free the cache: it belongs to the iterator's frame."""
    job.steps.close()
