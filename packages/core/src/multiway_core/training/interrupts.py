"""Ctrl-C and SIGTERM: the first one asks the run to save and end, a second Ctrl-C ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets inside the block (only the main thread may listen to signals).

    Under torchrun a worker may get the same request twice (from the terminal and from torchrun), so there no number
    of them ends the process before it has saved; torchrun itself kills workers that take more than half a minute.
    """
    arrived = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return

    def request(number: int, _: object) -> None:
        if number == signal.SIGINT and arrived.is_set() and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt
        arrived.set()

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield arrived
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
