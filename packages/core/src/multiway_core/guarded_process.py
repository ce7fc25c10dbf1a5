"""A process of its own for what a hostile file could crash or make endless: a library in C, a template, a decoder.

The parent keeps a `GuardedProcess` and asks it; the child's program calls `answer_requests`. A request is one line of
JSON; an answer is one line of JSON and the bytes that it announces. Nothing is unpickled: a child that a file has taken
over can answer nonsense and no more.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

MAX_CPU_SECONDS = 300
"""Of one request. The parent ends what takes too long; this ends a child whose parent was killed meanwhile."""


class ProcessDied(Exception):
    """The child crashed, passed its memory or took too long over a request."""


class GuardedProcess:
    """A child: started at the first request, and again after it died or this process forked. One request at a time."""

    def __init__(self, arguments: Sequence[str]) -> None:
        """``arguments``: what Python is started with, such as ``["-m", "package.module"]``."""
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._turn = threading.Lock()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def ask(self, request: Mapping[str, Any], max_seconds: float) -> tuple[dict[str, Any], bytes]:
        """The answer and its bytes. Raises ProcessDied; RuntimeError with the child's traceback for a bug in it."""
        with self._turn:
            process = self._running()
            late = threading.Timer(max_seconds, process.kill)
            late.start()
            try:
                answer, data = _exchange(process, request)
            except (OSError, EOFError) as error:
                self.close()
                raise ProcessDied from error
            except BaseException:  # an interrupted answer must not become the next one's
                self.close()
                raise
            finally:
                late.cancel()
        if "bug" in answer:
            raise RuntimeError(answer["bug"])
        return answer, data

    def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):  # what the child did not take is lost
                    if stream is not None:
                        stream.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-P", *self._arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, start_new_session=True,  # Ctrl-C is the parent's affair
            )  # fmt: skip
            self._owner = os.getpid()
        return self._process

    def _forget(self) -> None:
        self._process, self._turn = None, threading.Lock()


def _exchange(process: subprocess.Popen[bytes], request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(dict(request)).encode() + b"\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer = json.loads(line)
    data = process.stdout.read(answer["bytes"])
    if len(data) < answer["bytes"]:
        raise EOFError
    return answer, data


def _limit_cpu(seconds: int) -> None:
    """From now on; the kernel keeps it, also while a library in C holds the interpreter (POSIX)."""
    with suppress(ImportError):
        import resource

        _, highest = resource.getrlimit(resource.RLIMIT_CPU)
        limit = int(time.process_time()) + seconds + 1
        resource.setrlimit(
            resource.RLIMIT_CPU,
            (limit if highest == resource.RLIM_INFINITY else min(limit, highest), highest),
        )


def answer_requests(
    answer: Callable[[dict[str, Any]], tuple[dict[str, Any], bytes]],
    max_memory: int,
    max_cpu_seconds: int = MAX_CPU_SECONDS,
) -> None:
    """The child's loop, until the parent is gone. ``max_memory``: bytes of address space (POSIX)."""
    out = _own_output()
    with suppress(ImportError):
        import resource

        _, highest = resource.getrlimit(resource.RLIMIT_AS)
        limit = max_memory if highest == resource.RLIM_INFINITY else min(max_memory, highest)
        resource.setrlimit(resource.RLIMIT_AS, (limit, highest))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        _limit_cpu(max_cpu_seconds)
        try:
            reply, data = answer(json.loads(line))
        except Exception:
            reply, data = {"bug": traceback.format_exc()}, b""
        out.write(json.dumps(reply | {"bytes": len(data)}).encode() + b"\n")
        out.write(data)
        out.flush()


def _own_output() -> BinaryIO:
    """Standard output for answers alone: what a library prints there goes to standard error."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return out
