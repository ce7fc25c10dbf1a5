"""Text of any length, to a file or to standard output, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile

from multiway_core.app import write_stdout
from multiway_core.files import atomic_write

_AT_ONCE = 1 << 20


def write_text_pieces(pieces: Iterable[str], output: Path | None, *, is_live: bool) -> None:
    """Write the pieces to `output`, or print them: each as it comes if `is_live`, else all when there are no more.

    Memory holds one of them. Raises OutputError, and whatever making a piece raises: then no file is written, and
    nothing printed unless `is_live`.
    """
    if output is not None:
        with atomic_write(output) as file:
            for piece in pieces:
                file.write(piece.encode("utf-8", errors="replace"))
    elif is_live:
        for piece in pieces:
            write_stdout(piece)
    else:
        with TemporaryFile() as spool:
            for piece in pieces:
                spool.write(piece.encode("utf-8", errors="replace"))
            spool.seek(0)
            for data in iter(lambda: spool.read(_AT_ONCE), b""):
                write_stdout(data)
