"""Text and CSV: one event a line, four numbers between blanks, commas, semicolons or tabs.

A first line with names gives the order of the columns; a first line of two numbers is the sensor's size; lines that
start with `#` or `%` are comments (`# width=346 height=260` is understood). Without names, the order is found from the
numbers: the polarity has two values at most, times never go back. Times with a decimal point are seconds unless all of
them are whole.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError, InputError
from multiway_core.files import atomic_write
from numpy.typing import NDArray

from multiway_event_vision.events import Events, check_size
from multiway_event_vision.formats.column_names import COLUMN_NAMES, find_columns
from multiway_event_vision.formats.source import Columns, Options, Source, open_binary

_BLOCK_BYTES = 1 << 20
_MAX_LINE = 4096
_BLANKS = bytes.maketrans(b",;\t\r", b"    ")
_SIZE = re.compile(rb"width\D{1,3}(\d{1,5})\D{1,10}height\D{1,3}(\d{1,5})", re.IGNORECASE)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ROWS_TO_JUDGE = 1000
_COMMON_ORDERS = ("txyp", "xypt", "xytp", "tpxy", "ptxy", "pxyt")


def looks_like_text(head: bytes) -> bool:
    """Whether the first bytes are printable lines of which one holds numbers or names of columns."""
    if any(byte < 9 or 13 < byte < 32 or byte > 126 for byte in head.removeprefix(_BYTE_ORDER_MARK)):
        return False
    lines = [line for line in head.translate(_BLANKS).splitlines() if line.strip() and line[:1] not in b"#%"]
    return any(len(line.split()) >= 4 for line in lines) or (not lines and head[:1] == b"#")


def open_text(path: Path, options: Options) -> Source:
    """Raises DataError: no such lines, or an order of columns that cannot be told."""
    first_line, names, size, sample = _read_head(path)
    order = _order(path, options.columns, names, sample)
    index = [order.index(column) for column in COLUMN_NAMES]

    def columns() -> Iterator[Columns]:
        for number, block in _blocks(path, first_line):
            rows_N4 = _parse(path, number, block, len(order), options.repair)
            yield Columns(*(np.ascontiguousarray(rows_N4[:, i]) for i in index))

    return Source("text", columns, size, usual_sizes="240x180", float_seconds=True, guess_time_unit=True)


def _read_head(
    path: Path,
) -> tuple[int, list[str] | None, tuple[int, int] | None, NDArray[np.float64] | None]:
    """(number of lines before the events, names, size, the first rows) of a text file."""
    size: tuple[int, int] | None = None
    names: list[str] | None = None
    rows: list[list[float]] = []
    skipped = 0
    with open_binary(path) as file:
        while len(rows) < _ROWS_TO_JUDGE and (raw := file.readline(_MAX_LINE)):
            line = raw.removeprefix(_BYTE_ORDER_MARK) if not skipped and not rows else raw
            words = line.translate(_BLANKS).split()
            is_comment = line[:1] in (b"#", b"%")
            if not rows and is_comment and (found := _SIZE.search(line)):
                size = int(found[1]), int(found[2])
            if not words or is_comment:
                skipped += not rows
                continue
            values = _numbers(words)
            if rows or (values is not None and len(words) >= 4):
                if values is not None and (not rows or len(values) == len(rows[0])):
                    rows.append(values)
                    continue
                break
            if values is not None and len(words) == 2:
                size = int(values[0]), int(values[1])
            elif values is None and names is None:
                names = [word.decode("ascii", "replace").strip("\"'") for word in words]
            else:
                raise DataError(f"{path}:{skipped + 1}: expected a line of four numbers, t, x, y and p")
            skipped += 1
    return skipped, names, size, np.array(rows) if rows else None


def _numbers(words: list[bytes]) -> list[float] | None:
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def _order(
    path: Path, asked: str | None, names: list[str] | None, sample: NDArray[np.float64] | None
) -> list[str]:
    """What the columns of the file are: t, x, y, p or "" for one that is not read."""
    if asked is not None:
        if sorted(asked.replace("-", "")) != sorted("txyp"):
            raise InputError(
                f"columns {asked!r}; expected each of t, x, y, p once, such as 'txyp', and - to skip one"
            )
        return [letter.replace("-", "") for letter in asked]
    if names is not None:
        found = {name: column for column, name in find_columns(path, names).items()}
        return [found.get(name, "") for name in names]
    if sample is None:
        return list("txyp")
    if sample.shape[1] != 4:
        raise DataError(
            f"{path}: lines of {sample.shape[1]} numbers; say what the columns are, such as 'txyp--'"
        )
    fitting = [order for order in dict.fromkeys(_COMMON_ORDERS) if _fits(sample, order)]
    # Orders differ in meaning only where the places of t and p differ; x comes before y unless named otherwise.
    places = {(order.index("t"), order.index("p")) for order in fitting}
    if not fitting:
        raise DataError(
            f"{path}: its columns are not t, x, y, p in any usual order (times never go back, polarities are 0 or -1 "
            "and 1); say the order, such as 'txyp'"
        )
    if len(places) > 1 and fitting[0] != "txyp":
        raise DataError(f"{path}: its columns may be {' or '.join(fitting)}; say which")
    return list(fitting[0])


def _fits(sample_N4: NDArray[np.float64], order: str) -> bool:
    t, x, y, p = (sample_N4[:, order.index(column)] for column in COLUMN_NAMES)
    is_address = (x >= 0).all() and (y >= 0).all() and (x == np.floor(x)).all() and (y == np.floor(y)).all()
    return bool(is_address and np.isin(p, (-1, 0, 1)).all() and (np.diff(t) >= 0).all())


def _blocks(path: Path, skip_lines: int) -> Iterator[tuple[int, bytes]]:
    """(number of its first line, whole lines) of the file behind its first `skip_lines`."""
    with open_binary(path) as file:
        for _ in range(skip_lines):
            file.readline(_MAX_LINE)
        number, rest = skip_lines + 1, b""
        while read := file.read(_BLOCK_BYTES):
            if number == 1 and not rest:
                read = read.removeprefix(_BYTE_ORDER_MARK)
            data = rest + read
            end = data.rfind(b"\n") + 1
            if not end and len(data) > _BLOCK_BYTES + _MAX_LINE:
                raise DataError(
                    f"{path}:{number}: a line of more than {_BLOCK_BYTES} bytes; expected four numbers"
                )
            if end:
                yield number, data[:end]
                number += data.count(b"\n", 0, end)
            rest = data[end:]
    if rest.strip():
        yield number, rest


def _parse(path: Path, number: int, block: bytes, width: int, repair: bool) -> NDArray[np.float64]:
    """(N, width) numbers of the lines of `block`."""
    text = block.translate(_BLANKS)
    if b"#" in text or b"%" in text:
        text = re.sub(rb"^ *[#%].*$", b"", text, flags=re.MULTILINE)
    lines = sum(1 for line in text.splitlines() if line.strip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy only warns of what is no number
            values = np.fromstring(text, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning):
        values = np.zeros(0)
    if len(values) == lines * width and (width == 1 or lines < 2 or _ends_fit(text, width)):
        return values.reshape(-1, width)
    return _parse_lines(path, number, text, width, repair)


def _ends_fit(text: bytes, width: int) -> bool:
    # The total fits; lines could still make up for one another. Counting words by line is slow, so whole columns of
    # spaces are trusted only where every line has as many words, which one pass over the bytes tells.
    data = np.frombuffer(text, np.uint8)
    is_blank = data <= 32
    starts = ~is_blank & np.concatenate([[True], is_blank[:-1]])
    ends = np.flatnonzero(data == 10)
    per_line = np.diff(np.cumsum(starts, dtype=np.int32)[ends], prepend=0)
    return bool(((per_line == width) | (per_line == 0)).all())


def _parse_lines(path: Path, number: int, text: bytes, width: int, repair: bool) -> NDArray[np.float64]:
    """As `_parse`, line by line: finds the one that is wrong."""
    rows = []
    lines = text.split(b"\n")
    for index, line in enumerate(lines):
        words = line.split()
        if not words:
            continue
        values = _numbers(words)
        if values is None or len(values) != width:
            is_last = not any(later.strip() for later in lines[index + 1 :])
            if repair and is_last and not text.endswith(b"\n"):
                break  # the writer was stopped within it
            shown = line[:60].decode("ascii", "replace").strip()
            raise DataError(f"{path}:{number + index}: {shown!r}; expected {width} numbers")
        rows.append(values)
    return np.array(rows, np.float64).reshape(-1, width)


def write_csv(path: Path, chunks: Iterable[Events], size: tuple[int, int]) -> None:
    """Write `t,x,y,p` a line, whole microseconds, below a comment with the sensor's size. Raises OutputError."""
    check_size(*size)
    with atomic_write(path) as file:
        file.write(f"# width={size[0]} height={size[1]}\nt,x,y,p\n".encode())
        for events in chunks:
            rows = zip(
                events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True
            )
            file.write("".join(f"{t},{x},{y},{p}\n" for t, x, y, p in rows).encode())
