"""Reading data set files strictly: values of the right kind come through, all else is refused by its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from multiway_core.data_files import get, get_items, number, read_json, read_text
from multiway_core.errors import DataError


def test_values_and_places() -> None:
    data = {"rows": [{"x": "1.5", "n": 3}, {"x": 2}]}
    assert [(number(row["x"], where), where) for row, where in get_items(data, "rows", "a.json")] == [
        (1.5, "a.json.rows[0]"),
        (2.0, "a.json.rows[1]"),
    ]
    assert get(data["rows"][0], "n", int, "a.json") == 3


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        ([], int, r"a: expected an object, got \[\]"),
        ({}, int, "a: missing key 'n'"),
        ({"n": True}, int, r"a\.n: expected a whole number, got True"),
        ({"n": 1.0}, int, r"a\.n: expected a whole number, got 1\.0"),
        ({"n": None}, str, r"a\.n: expected a string, got None"),
    ],
)
def test_wrong_values_are_named(data: object, kind: type, message: str) -> None:
    with pytest.raises(DataError, match=message):
        get(data, "n", kind, "a")


@pytest.mark.parametrize("value", [True, None, "x", "nan", float("inf"), 10**400])
def test_numbers_are_finite(value: object) -> None:
    with pytest.raises(DataError, match="a: expected a number"):
        number(value, "a")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf{}\r\n")
    assert read_text(path) == "{}\n"
    assert read_json(path) == {}
    for content, message in ((b"{\n,}", r"a\.json:2: not JSON"), (b"a\n\xff", r"a\.json:2: not UTF-8"),
                             (b"[" * 100_000, "nested too deeply")):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_json(path)
    assert read_text(path, fallback_encoding="cp1252").startswith("[")
    with pytest.raises(DataError, match="cannot read"):
        read_text(tmp_path / "none")
