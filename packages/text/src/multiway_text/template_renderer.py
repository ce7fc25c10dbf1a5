"""Renders chat templates in a process of its own, whose memory and time are bounded.

A template comes with a checkpoint, and Jinja's sandbox bounds neither memory nor time: ``{{ 'a' * 10**9 }}`` and loops
in loops would take the whole machine. This file is also the program of that process. Where the system has no limits for
a process (Windows), the time limit alone holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

from multiway_core.guarded_process import GuardedProcess, ProcessDied, answer_requests

MAX_SECONDS = 5.0
MAX_MEMORY = 1 << 30
MAX_CHARACTERS = 16_000_000  # of a rendered prompt

_PROCESS = GuardedProcess([__file__])


class Refused(Exception):
    """What a template said, what is wrong with it, or which limit it passed."""


def render(source: str, names: Mapping[str, Any]) -> str:
    """The text of the template ``source`` for ``names``, which JSON can hold. Raises Refused."""
    try:
        answer, text = _PROCESS.ask({"source": source, "names": dict(names)}, MAX_SECONDS)
    except ProcessDied:
        limits = f"{MAX_SECONDS:.0f} s or {MAX_MEMORY >> 30} GiB of memory"
        raise Refused(f"it takes more than {limits}") from None
    if "refused" in answer:
        raise Refused(answer["refused"])
    return text.decode("utf-8", "surrogatepass")


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


def _answer(compiled: Any, request: Any) -> tuple[dict[str, str], bytes]:
    try:
        text = compiled(request["source"]).render(**request["names"])
        if len(text) > MAX_CHARACTERS:
            return {"refused": f"it makes more than {MAX_CHARACTERS} characters of them"}, b""
        return {}, text.encode("utf-8", "surrogatepass")
    except MemoryError:
        return {"refused": f"it takes more than {MAX_MEMORY >> 30} GiB of memory"}, b""
    except Exception as error:  # whatever a template makes of the sandbox
        return {"refused": str(error)[:1000] or type(error).__name__}, b""


if __name__ == "__main__":
    answer_requests(partial(_answer, lru_cache(maxsize=4)(environment().from_string)), MAX_MEMORY)
