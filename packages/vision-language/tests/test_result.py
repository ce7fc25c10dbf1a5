"""The JSON form of a grounding: what is written is read back, and anything else is refused by its place."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_vision_language.result import Box, Entity, Grounding

GROUNDING = Grounding(
    source="cat.jpg",
    model="bundled:grounding-small",
    width=640,
    height=427,
    text="a cat on a mat",
    entities=(
        Entity("a cat", (0, 5), (Box((1.5, 2, 30.25, 40), (3, 70), 0.875),), 1.0),
        Entity("a mat", (9, 14), (), 0.0),
    ),
    tagged="<phrase>a cat</phrase>",
    truncated=True,
    problems=("an object without a phrase",),
)


def test_round_trip_through_text() -> None:
    assert Grounding.from_json(json.loads(json.dumps(GROUNDING.to_json()))) == GROUNDING


def test_file_names_that_are_no_utf8_become_text() -> None:
    assert Grounding("a\udcff.jpg", "m", 1, 1, "", ()).to_json()["source"] == "a?.jpg"


MISTAKES: list[tuple[tuple[str | int, ...], Any, str]] = [
    ((), [], r"grounding: expected an object, got \[\]"),
    (("schema",), "multiway.ocr/1", r"grounding\.schema: expected 'multiway\.grounding/1'"),
    (("frame",), "normalised", r"grounding\.frame: expected 'pixel'"),
    (("width",), 0, r"grounding\.width: expected a whole number >= 1, got 0"),
    (("height",), True, r"grounding\.height: expected a whole number"),
    (("height",), 427.0, r"grounding\.height: expected a whole number"),
    (("truncated",), 1, r"grounding\.truncated: expected true or false"),
    (("problems", 0), None, r"grounding\.problems\[0\]: expected a string"),
    (("extra",), 1, r"grounding: unknown key 'extra'"),
    (
        ("entities", 1, "span"),
        [9, 15],
        r"entities\[1\]\.span: .* inside a text of 14 characters, got \[9, 15\]",
    ),
    (("entities", 1, "span"), [14, 9], r"entities\[1\]\.span"),
    (("entities", 1, "span"), [9], r"entities\[1\]\.span"),
    (("entities", 0, "present"), 1.01, r"entities\[0\]\.present: expected a number from 0 to 1"),
    (("entities", 0, "boxes", 0, "confidence"), float("nan"), r"boxes\[0\]\.confidence: expected a finite"),
    (("entities", 0, "boxes", 0, "xyxy"), [5, 2, 1, 4], r"entities\[0\]\.boxes\[0\]\.xyxy: expected \[x0"),
    (("entities", 0, "boxes", 0, "xyxy"), [1, 2, 3, 10**400], r"xyxy: expected a finite number"),
    (("entities", 0, "boxes", 0, "xyxy"), [1, 2, 3], r"boxes\[0\]\.xyxy"),
    (("entities", 0, "boxes", 0, "cells"), [1, -1], r"boxes\[0\]\.cells: expected a whole number >= 0"),
]


@pytest.mark.parametrize(("place", "value", "message"), MISTAKES)
def test_mistakes_are_named_by_their_place(place: tuple[str | int, ...], value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grounding.from_json(_changed(place, value))


def test_missing_keys_are_named() -> None:
    data = GROUNDING.to_json()
    del data["entities"][0]["boxes"][0]["cells"]
    with pytest.raises(InputError, match=r"line 3\.entities\[0\]\.boxes\[0\]: missing key 'cells'"):
        Grounding.from_json(data, where="line 3")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
places = st.sampled_from([place for place, _, _ in MISTAKES])


@given(places, json_values)
def test_nothing_but_an_input_error_escapes(place: tuple[str | int, ...], value: Any) -> None:
    try:
        grounding = Grounding.from_json(_changed(place, value))
    except InputError:
        return
    assert Grounding.from_json(grounding.to_json()) == grounding


def _changed(place: tuple[str | int, ...], value: Any) -> Any:
    data: Any = copy.deepcopy(GROUNDING.to_json())
    if not place:
        return value
    holder = data
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return data
