"""The one thread that runs the model for all clients: what waits when it is free is computed together."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from multiway_core.app.command import describe, note
from multiway_core.app.serve.errors import ApiError

if TYPE_CHECKING:
    from multiway_text.encoder.pipeline import EncoderPipeline

MAX_WAITING = 512  # requests
MAX_TOKENS = 32_768  # of requests that are computed together, about
RETRY_SECONDS = 2


@dataclass
class Job:
    """The texts of a request as token ids, and the vectors to come, (texts, width) float32."""

    encodings: list[list[int]]
    vectors: Future[Any] = field(default_factory=Future)

    @property
    def tokens(self) -> int:
        """Of all its texts."""
        return sum(map(len, self.encodings))


class Batcher:
    """Vectors for requests that come side by side; one more than ``max_waiting`` is refused with 429."""

    def __init__(self, pipeline: EncoderPipeline, *, max_waiting: int = MAX_WAITING) -> None:
        self.pipeline, self.max_waiting = pipeline, max_waiting
        self.waiting: deque[Job] = deque()
        self.running = 0
        self.batches: list[int] = []
        """Requests of each of the latest batches."""
        self.changed = threading.Condition()
        self.stopping = False
        self.thread = threading.Thread(target=self._run, name="encoder", daemon=True)

    def start(self) -> Batcher:
        """Begin to work."""
        self.thread.start()
        return self

    def stop(self) -> None:
        """End the thread; what waits gets 503."""
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        self.thread.join(timeout=30)

    def pending(self) -> int:
        """Requests that run or wait."""
        return self.running + len(self.waiting)

    def submit(self, encodings: list[list[int]]) -> Job:
        """Queue the texts of a request. Raises ApiError (429 full, 503 stopping)."""
        job = Job(encodings)
        with self.changed:
            if self.stopping:
                raise _stopping()
            if len(self.waiting) >= self.max_waiting:
                raise ApiError(
                    429,
                    f"{len(self.waiting)} requests wait: try again later",
                    kind="rate_limit_error",
                    code="queue_full",
                    headers={"Retry-After": str(RETRY_SECONDS)},
                )
            self.waiting.append(job)
            self.changed.notify_all()
        return job

    def _run(self) -> None:
        while jobs := self._next():
            try:
                texts = [ids for job in jobs for ids in job.encodings]
                vectors_NE = self.pipeline.vectors(texts, windows=True)
                for job, part in zip(
                    jobs, vectors_NE.split([len(job.encodings) for job in jobs]), strict=True
                ):
                    job.vectors.set_result(part.numpy())
            except MemoryError:
                _fail(jobs, ApiError(503, "not enough memory for this request", kind="server_error"))
            except Exception as error:  # a bug must not end the thread that serves everybody
                note(f"multiway-encoder: {describe(error)}")
                _fail(jobs, ApiError(500, "the server failed at this request", kind="server_error"))
            self.running = 0

    def _next(self) -> list[Job]:
        """Wait until there is work, and take what fits together; nothing when all is over."""
        with self.changed:
            while not (self.waiting or self.stopping):
                self.changed.wait()
            jobs: list[Job] = []
            tokens = 0
            while self.waiting and not self.stopping:
                job = self.waiting[0]
                if job.vectors.cancelled():
                    self.waiting.popleft()
                    continue
                if jobs and tokens + job.tokens > MAX_TOKENS:
                    break
                tokens += job.tokens
                jobs.append(self.waiting.popleft())
            jobs = [job for job in jobs if job.vectors.set_running_or_notify_cancel()]
            if self.stopping:
                _fail([*self.waiting], _stopping())
                self.waiting.clear()
                return []
            self.running = len(jobs)
            self.batches = [*self.batches[-99:], len(jobs)]
        return jobs or self._next()


def _fail(jobs: list[Job], error: Exception) -> None:
    for job in jobs:
        if not job.vectors.done():
            job.vectors.set_exception(error)


def _stopping() -> ApiError:
    return ApiError(503, "the server is shutting down", kind="server_error")
