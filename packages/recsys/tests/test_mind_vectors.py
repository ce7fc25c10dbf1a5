"""Vector files: aligned with the wanted names, in memory only what is wanted, and wrong lines named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from multiway_core.errors import DataError
from multiway_recsys.data.vectors import read_vectors

VECTORS = "Q1\t0.5\t-1e-3\t2\t\nQ5\t1\t2\t3\t\n"  # MIND ends its lines in a TAB


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "entity_embedding.vec"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_vectors_stand_in_the_order_of_the_names(tmp_path: Path):
    vectors, found = read_vectors(write(tmp_path, VECTORS), ["Q5", "Q9", "Q1"])
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1, 2, 3], [0, 0, 0], [0.5, np.float32(-1e-3), 2]]
    assert found.tolist() == [True, False, True]


def test_the_last_line_may_lack_its_end_and_the_first_of_a_name_counts(tmp_path: Path):
    vectors, _ = read_vectors(write(tmp_path, VECTORS.replace("\n", "\r\n") + "Q1\t7\t8\t9"), ["Q1"])
    assert vectors.tolist() == [[0.5, np.float32(-1e-3), 2]]


def test_words_may_hold_blanks(tmp_path: Path):
    vectors, found = read_vectors(write(tmp_path, ". . . 1 2\nhello 3 4\n"), ["hello", ". . ."], width=2)
    assert vectors.tolist() == [[3, 4], [1, 2]]
    assert found.all()


@pytest.mark.parametrize(
    ("content", "width", "message"),
    [
        (VECTORS + "Q7\t1\t2\n", None, r':3:1: 2 numbers in "Q7\\t1\\t2"; expected 3, as in the first line'),
        (VECTORS + "Q7\t1\t2\t3\t4\n", None, r":3:1: 4 numbers in .*; expected 3"),
        (VECTORS, 100, r":1:1: 3 numbers in .*; expected 100, as asked for"),
        (VECTORS + "Q7\t1", None, r":3:1: 1 numbers .*cut off\?"),
        ("Q1\t0.5\tnan\t2\n", None, r':1:8: "nan"; expected a finite number'),
        ("Q1\t0.5\tx\t2\n", None, r':1:8: "x"; expected a finite number'),
        ("Q1\t0.5\t1e99\t2\n", None, r':1:8: "1e99"; expected a finite number'),
        (b"Q1\t0.5\t\xff\t2\n", None, r":1:8: .*not UTF-8"),
        ("Q1\n", None, r":1:1: .*expected a name and its numbers"),
        ("", None, "empty; expected a line"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: str | bytes, width: int | None, message: str):
    with pytest.raises(DataError, match=message.replace(r"\\t", " ")):
        read_vectors(write(tmp_path, content), ["Q1"], width=width)
