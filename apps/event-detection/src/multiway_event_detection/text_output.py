"""Text of any length, to a file or to standard output, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from multiway_core.app import write_stdout
from multiway_core.files import atomic_write

_AT_ONCE = 1 << 20


@contextmanager
def text_writer(output: Path | None, *, is_live: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that adds text to `output`, or to standard output: at once if `is_live`, else at the end.

    Memory holds one piece. Raises OutputError. After an exception in the block no file is written, and nothing was
    printed unless `is_live`.
    """
    if output is None and is_live:
        yield write_stdout
        return
    with TemporaryFile() if output is None else atomic_write(output) as file:
        yield lambda text: (file.write(text.encode("utf-8", errors="replace")), None)[1]
        if output is None:
            file.seek(0)
            for data in iter(lambda: file.read(_AT_ONCE), b""):
                write_stdout(data)
