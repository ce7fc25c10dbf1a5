"""Many independent jobs, in this process or in several; one that fails or dies takes no other with it.

Not joblib's loky: when one of its workers is killed, every job that still waits fails too (TerminatedWorkerError; ten
of twelve in a trial). Pebble fails only that one, but cannot say how a worker that does not even start has ended.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from multiway_core.app.command import describe
from multiway_core.errors import MultiwayError

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Work = Callable[[Any], Any]


class StopRun(MultiwayError):
    """Raised by a job when no other job can succeed either (the model cannot be loaded)."""


@dataclass(frozen=True)
class Outcome:
    """How the job at ``index`` ended: its ``value``, or the one-line ``error``."""

    index: int
    value: Any = None
    error: str | None = None


def run_jobs(jobs: Sequence[Any], start: Callable[[], Work], *, processes: int = 1) -> Iterator[Outcome]:
    """Do every job once and yield the outcomes as they come (in order only with one process).

    Args:
        jobs: picklable values when ``processes`` > 1.
        start: called once in each process; gives the function that does one job. Picklable likewise.
        processes: worker processes of one thread each; 1 works in this process.

    An exception in a job is its outcome's ``error``. A worker that dies (killed, out of memory, a crash in
    native code) fails the job that it held and is replaced.

    Raises:
        StopRun: raised by a job; or the workers cannot even start.
    """
    if processes > 1 and len(jobs) > 1:
        yield from _run_in_processes(jobs, start, min(processes, len(jobs)))
        return
    work = start()
    for index, job in enumerate(jobs):
        yield _do(work, index, job)


def _do(work: Work, index: int, job: Any) -> Outcome:
    try:
        return Outcome(index, work(job))
    except StopRun:
        raise
    except Exception as error:
        return Outcome(index, error=describe(error))


def _run_in_processes(jobs: Sequence[Any], start: Callable[[], Work], processes: int) -> Iterator[Outcome]:
    waiting = deque(range(len(jobs)))
    outcomes: SimpleQueue[Outcome | StopRun] = SimpleQueue()
    stopping = threading.Event()
    saved = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    supervisors = [
        threading.Thread(target=_supervise, args=(jobs, start, waiting, outcomes, stopping), daemon=True)
        for _ in range(processes)
    ]
    try:
        for supervisor in supervisors:
            supervisor.start()
        for _ in jobs:
            outcome = outcomes.get()
            if isinstance(outcome, StopRun):
                raise outcome
            yield outcome
    finally:
        stopping.set()
        for supervisor in supervisors:
            supervisor.join()
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _supervise(
    jobs: Sequence[Any],
    start: Callable[[], Work],
    waiting: deque[int],
    outcomes: SimpleQueue[Outcome | StopRun],
    stopping: threading.Event,
) -> None:
    """Keep one worker process busy until no job waits; runs in a thread of the parent."""
    worker: _Worker | None = None
    try:
        while not stopping.is_set():
            try:
                index = waiting.popleft()
            except IndexError:
                return
            try:
                if worker is None:
                    worker = _Worker(start)
                worker.connection.send((index, jobs[index]))
                answer = worker.receive(stopping)
            except (EOFError, OSError) as error:
                if worker is None or not worker.has_started:
                    reason = worker.end() if worker is not None else describe(error)
                    worker = None
                    outcomes.put(StopRun(f"a worker process cannot start: {reason}"))
                    return
                outcomes.put(Outcome(index, error=worker.end()))
                worker = None
                continue
            if answer is None:
                return
            outcomes.put(answer)
    except Exception as error:  # never leave the consumer waiting
        outcomes.put(StopRun(describe(error)))
    finally:
        if worker is not None:
            worker.end()


class _Worker:
    """One child process and the pipe to it."""

    def __init__(self, start: Callable[[], Work]) -> None:
        context = multiprocessing.get_context("spawn")  # forking after torch or threads started can hang
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, start), daemon=True)
        self.process.start()
        theirs.close()  # so that the child's death is an end of file here
        self.has_started = False

    def receive(self, stopping: threading.Event) -> Outcome | StopRun | None:
        """The next answer; None when the run is being stopped; EOFError when the child has died."""
        while True:
            while not self.connection.poll(0.1):
                if stopping.is_set():
                    return None
            answer = self.connection.recv()
            if answer is not None:
                return answer
            self.has_started = True

    def end(self) -> str:
        """Stop the child if it still runs; how it ended, in words."""
        self.connection.close()
        self.process.join(timeout=0.5)
        self.process.terminate()
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"the worker process ended with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"the worker process was killed ({signal.Signals(-code).name})"
        return f"the worker process was killed (signal {-code})"


def _serve(connection: Connection, start: Callable[[], Work]) -> None:
    """A worker's life: start, then job in, outcome out, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    try:
        work = start()
        connection.send(None)
        while True:
            index, job = connection.recv()
            connection.send(_do(work, index, job))
    except (EOFError, OSError):
        return
    except StopRun as error:
        stop = error
    except Exception as error:
        stop = StopRun(describe(error))
    with contextlib.suppress(OSError):
        connection.send(stop)
