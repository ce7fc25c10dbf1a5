"""Lines of a file that may be larger than memory: blocks of whole lines, as bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from multiway_core.errors import DataError, os_reason

BLOCK_BYTES = 2 << 20  # its arrays fit a processor's cache; larger blocks are read slower
LONGEST_LINE = 64 << 20  # more without a line end is no table (a picture, a dump without line ends)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Block(NamedTuple):
    """Whole lines; each but perhaps the very last of the file ends in a line feed."""

    first_line: int  # 1-based number of the first line
    data: bytes
    is_cut: bool  # the file's last line has no line end, and it is the last of this block


def read_blocks(path: Path, *, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yield `path` in blocks of about `block_bytes`, cut between lines; a UTF-8 byte order mark is dropped.

    Raises DataError: the file cannot be read, or a line is longer than `LONGEST_LINE` bytes.
    """
    number = 1
    rest = b""
    is_start = True
    try:
        with Path(path).open("rb") as file:
            while True:
                read = file.read(block_bytes)
                if is_start:
                    read = read.removeprefix(_BYTE_ORDER_MARK)
                    is_start = False
                if not read:
                    break
                end = read.rfind(b"\n") + 1
                if not end:
                    rest += read
                    if len(rest) > LONGEST_LINE:
                        raise DataError(
                            f"{path}:{number}:1: the line is longer than {LONGEST_LINE >> 20} MiB; expected a text "
                            f"table with a line end after every row"
                        )
                    continue
                data = rest + read[:end]
                rest = read[end:]
                yield Block(number, data, False)
                number += data.count(b"\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}") from error
    if rest:
        yield Block(number, rest, True)
    elif is_start:
        return


def read_lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Yield (line number, the line without its line end (LF or CRLF), whether it has no line end).

    Raises DataError as `read_blocks`.
    """
    for block in read_blocks(path):
        lines = block.data.split(b"\n")
        if not block.is_cut:
            lines.pop()  # behind the last line feed there is nothing
        for i, line in enumerate(lines):
            yield block.first_line + i, line.removesuffix(b"\r"), block.is_cut and i == len(lines) - 1


def utf8_column(line: bytes) -> int:
    """1-based character at which `line` stops being UTF-8."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(line[: error.start].decode("utf-8")) + 1
    return 1
