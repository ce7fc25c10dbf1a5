"""A child that crashes, hangs, asks for too much memory or has a bug costs the request and not the parent."""

from __future__ import annotations

import os

import pytest
from multiway_core.guarded_process import GuardedProcess, ProcessDied

PROGRAM = """
import ctypes, os, sys, time
from multiway_core.guarded_process import answer_requests

def answer(request):
    match request["what"]:
        case "echo": print("not an answer", flush=True)
        case "crash": ctypes.string_at(0)
        case "hang": time.sleep(60)
        case "loop": pow(7, 10**9)  # in C, with the interpreter held
        case "memory": bytearray(1 << 40)
        case "bug": raise KeyError("the child's fault")
    return {"process": os.getpid()}, request["what"].encode() * 100_000

answer_requests(answer, 1 << 30, max_cpu_seconds=1)
"""


@pytest.fixture
def process(tmp_path):
    (tmp_path / "child.py").write_text(PROGRAM)
    guarded = GuardedProcess([str(tmp_path / "child.py")])
    yield guarded
    guarded.close()


def ask(process: GuardedProcess, what: str, max_seconds: float = 30.0) -> int:
    answer, data = process.ask({"what": what}, max_seconds)
    assert data == what.encode() * 100_000
    return answer["process"]


def test_one_child_answers_until_it_dies(process):
    first = ask(process, "echo")
    assert ask(process, "echo") == first != os.getpid()
    with pytest.raises(ProcessDied):
        ask(process, "crash")
    assert ask(process, "echo") != first


def test_a_child_that_takes_too_long_is_killed(process):
    with pytest.raises(ProcessDied):
        ask(process, "hang", max_seconds=1.0)
    ask(process, "echo")


def test_a_child_that_loops_ends_though_nobody_waits(process):
    """Its parent may have been killed: the limit is the kernel's, and counts each request anew."""
    ask(process, "echo")
    with pytest.raises(ProcessDied):
        ask(process, "loop", max_seconds=600.0)
    ask(process, "echo")


def test_exceptions_come_back_as_the_childs_traceback(process):
    for what, error in (("bug", "the child's fault"), ("memory", "MemoryError")):
        with pytest.raises(RuntimeError, match=error):
            ask(process, what)
    ask(process, "echo")


def test_a_forked_process_starts_its_own_child(process):
    first = ask(process, "echo")
    forked = os.fork()
    if not forked:
        os._exit(0 if ask(process, "echo") != first else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    assert ask(process, "echo") == first
