"""Fields of our own JSON forms: the right ones come through, all else is refused by its place."""

from __future__ import annotations

import pytest
from multiway_core.errors import InputError
from multiway_core.json_fields import finite, members, share, shown, typed, whole


def test_right_values_come_through() -> None:
    assert members({"a": 1, "b": 2}, ("a", "b"), "x") == {"a": 1, "b": 2}
    assert typed([1], list, "x") == [1]
    assert whole(3, "x", minimum=3) == 3
    assert finite(2, "x") == 2.0
    assert share(1, "x") == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: members([], ("a",), "x.y"), r"x\.y: expected an object, got \[\]"),
        (lambda: members({"b": 1, "c": 1}, ("a", "b"), "x"), "x: missing key 'a'"),
        (lambda: members({"a": 1, "b": 1, "c": 1}, ("a",), "x"), "x: unknown key 'b', 'c'"),
        (lambda: typed(1, bool, "x"), "x: expected true or false, got 1"),
        (lambda: whole(True, "x"), "x: expected a whole number >= 0, got True"),
        (lambda: whole(1, "x", minimum=2), "x: expected a whole number >= 2, got 1"),
        (lambda: finite("1", "x"), "x: expected a number, got '1'"),
        (lambda: finite(10**400, "x"), "x: expected a finite number"),
        (lambda: finite(float("nan"), "x"), "x: expected a finite number"),
        (lambda: share(1.5, "x"), "x: expected a number from 0 to 1, got 1.5"),
    ],
)
def test_wrong_values_are_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_messages_stay_short() -> None:
    assert len(shown("x" * 1000)) == 60
    assert shown(10**5000) == "a number of thousands of digits"
