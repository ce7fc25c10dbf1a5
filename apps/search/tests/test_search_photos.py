"""Contact sheets, pictures in the terminal, and the conditions of a query."""

from __future__ import annotations

from pathlib import Path

import pytest
from multiway_core.errors import InputError
from multiway_search import photos
from multiway_search.listing import results_text
from multiway_search.options import Only
from multiway_text.search.result import Hit, Results
from multiway_text.search.store import Passage
from PIL import Image


@pytest.fixture
def red(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 32), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def test_a_contact_sheet_has_all_that_can_be_read(red: Path, tmp_path: Path) -> None:
    output = tmp_path / "sheet.jpg"
    assert photos.write_sheet([str(red), str(tmp_path / "gone.png")] * 3, ["1  red"] * 6, output) == 3
    with Image.open(output) as page:
        assert page.size == (3 * photos.CELL, photos.CELL + photos.NAME_HEIGHT)
    for paths, name, message in (([], "a.jpg", "no pictures"), ([str(red)], "a.doc", "a contact sheet is")):
        with pytest.raises(InputError, match=message):
            photos.write_sheet(paths, [""] * len(paths), tmp_path / name)


def test_half_blocks_are_two_pixels_a_character(red: Path, tmp_path: Path) -> None:
    lines = photos.half_blocks(str(red), 8).splitlines()
    assert [line.count("▀") for line in lines] == [8, 8]
    assert "38;2;255;0;0;48;2;255;0;0m" in lines[0]
    assert photos.half_blocks(str(tmp_path / "gone.png")) == ""


def test_pictures_are_listed_with_what_is_seen(red: Path) -> None:
    passage = Passage(1, str(red), "picture", "2024-05-31", 0, 12, "espresso, cup\nred")
    text = results_text(Results("x", "dense", (Hit(passage, 1.0),), 1, 0.0), [str(red.parent)], show=True)
    assert text.startswith(
        f" 1  {red.parent.name}/red.png, 2024-05-31  [picture]\n    espresso, cup\n\x1b[38"
    )


def test_near_is_two_or_three_numbers() -> None:
    assert Only(near="48.1,11.5").conditions()["near"] == (48.1, 11.5, 10.0)
    assert Only(near="48.1,11.5,3").conditions()["near"] == (48.1, 11.5, 3.0)
    for wrong in ("Munich", "1", "1,2,3,4", ""):
        with pytest.raises(InputError, match="--near"):
            Only(near=wrong).conditions()
