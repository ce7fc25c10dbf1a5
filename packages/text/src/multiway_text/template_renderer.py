"""Renders chat templates in a process of its own, whose memory and time are bounded.

A template comes with a checkpoint, and Jinja's sandbox bounds neither memory nor time: ``{{ 'a' * 10**9 }}`` and loops
in loops would take the whole machine. This file is also the program of that process: a request and an answer are one
line of JSON each. Where the system has no limits for a process (Windows), the time limit alone holds.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

MAX_SECONDS = 5.0
MAX_MEMORY = 1 << 30
MAX_CHARACTERS = 16_000_000  # of a rendered prompt


class Refused(Exception):
    """What a template said, what is wrong with it, or which limit it passed."""


class Renderer:
    """The process: started at the first request, again after a template passed a limit. One request at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._turn = threading.Lock()

    def render(self, source: str, names: Mapping[str, Any]) -> str:
        """The text of the template ``source`` for ``names``, which JSON can hold. Raises Refused."""
        with self._turn:
            process = self._running()
            late = threading.Timer(MAX_SECONDS, process.kill)
            late.start()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps({"source": source, "names": dict(names)}) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except (OSError, ValueError):
                line = ""
            finally:
                late.cancel()
            if not line.endswith("\n"):
                self.close()
                raise Refused(f"it takes more than {MAX_SECONDS:.0f} s or {MAX_MEMORY >> 30} GiB of memory")
        answer = json.loads(line)
        if "text" not in answer:
            raise Refused(answer["refused"])
        return str(answer["text"])

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
            )  # fmt: skip
            self._owner = os.getpid()
        return self._process


RENDERER = Renderer()
atexit.register(RENDERER.close)


def environment() -> Any:
    """Jinja's sandbox with what the templates of the hub are written for."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    made.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def _refuse(message: object) -> None:
    raise Refused(str(message))


def _answer(render: Any, request: Any) -> dict[str, str]:
    try:
        text = render(request["source"], request["names"])
    except MemoryError:
        return {"refused": f"it takes more than {MAX_MEMORY >> 30} GiB of memory"}
    except Exception as error:  # whatever a template makes of the sandbox
        return {"refused": str(error)[:1000] or type(error).__name__}
    if len(text) > MAX_CHARACTERS:
        return {"refused": f"it makes more than {MAX_CHARACTERS} characters of them"}
    return {"text": text}


def main() -> None:
    """Answer requests until the other side is gone."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except ImportError:
        pass
    sandbox = environment()
    compiled = lru_cache(maxsize=4)(sandbox.from_string)
    for line in sys.stdin:
        answer = _answer(lambda source, names: compiled(source).render(**names), json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
