"""Vectors by name, as in MIND's `entity_embedding.vec`: one name and its numbers a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError
from numpy.typing import NDArray

from multiway_recsys.data.bad_rows import excerpt
from multiway_recsys.data.lines import read_lines, utf8_column


def read_vectors(
    path: Path, names: Sequence[str], *, width: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors of `names`, zeros for a name that the file does not have, and which of them it has.

    Lines of other names are counted for their width but not parsed, and only one block of the file is in memory, so
    that a file of millions of vectors costs what the wanted ones cost. Of a repeated name the first line counts.

    Args:
        path: lines `name<TAB>number<TAB>...`; blanks separate as well. The last `width` fields are the numbers, what
            stands before is the name (words of word-vector files may hold blanks). A first line of two integers, as
            word2vec writes, is passed over.
        names: the wanted names, each once.
        width: numbers a line; None takes the first line's.

    Returns:
        Array (len(names), width) float32, and array (len(names),) bool.

    Raises:
        DataError: the file cannot be read; or a line has another width, a field is no finite number, or is not UTF-8.
    """
    path = Path(path)
    rows = {name.encode("utf-8", "replace"): row for row, name in enumerate(names)}
    vectors: NDArray[np.float32] | None = None
    found = np.zeros(len(names), np.bool_)
    for number, line, is_cut in read_lines(path):
        line = line.rstrip(b"\t ")  # MIND's lines end in a TAB
        separator = b"\t" if b"\t" in line else b" "
        fields = line.count(separator)
        if number == 1 and fields == 1 and width != 1 and line.replace(separator, b"").isdigit():
            continue  # word2vec and fastText begin with how many vectors there are and how wide they are
        if width is None:
            if fields == 0:
                raise DataError(f"{path}:{number}:1: {_start(line)}; expected a name and its numbers")
            width = fields
        if vectors is None:
            vectors = np.zeros((len(names), width), np.float32)
        if fields < width or (separator == b"\t" and fields != width):
            end = ", and the file ends without a line end here (cut off?)" if is_cut else ""
            wanted = "as in the first line" if number > 1 else "as asked for"
            raise DataError(
                f"{path}:{number}:1: {fields} numbers in {_start(line)}{end}; expected {width}, {wanted}"
            )
        name, *texts = line.rsplit(separator, width)
        row = rows.get(name)
        if row is None or found[row]:
            continue
        vectors[row] = _numbers(path, number, line, texts)
        found[row] = True
    if vectors is None:
        raise DataError(f"{path}: empty; expected a line with a name and its numbers for each vector")
    return vectors, found


def _numbers(path: Path, number: int, line: bytes, texts: list[bytes]) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is named below
            values = np.array([float(text) for text in texts], np.float32)
    except (ValueError, OverflowError):
        values = np.full(len(texts), np.nan, np.float32)
    if not np.isfinite(values).all():
        at = len(line) - sum(len(text) + 1 for text in texts) + 1
        for text in texts:
            if not _is_finite(text):
                raise DataError(f"{path}:{number}:{at + 1}: {_start(text)}; expected a finite number")
            at += len(text) + 1
    return values


def _is_finite(text: bytes) -> bool:
    try:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.float32(float(text))))
    except (ValueError, OverflowError):
        return False


def _start(text: bytes) -> str:
    try:
        return excerpt(text.decode("utf-8"))
    except UnicodeDecodeError:
        return f"{excerpt(text.decode('utf-8', 'replace'))} (not UTF-8 from character {utf8_column(text)} on)"
