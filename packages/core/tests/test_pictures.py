"""HEIC pictures of phones, with and without the package that reads them."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_core.pictures import open_header, to_upright_rgb
from PIL import Image

FORMATS = ("PNG", "JPEG")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    heif = pytest.importorskip("pillow_heif")
    red = Image.fromarray(np.full((32, 64, 3), (200, 30, 40), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # taken upright: turned to the right when shown
    path = tmp_path / "IMG_0001.HEIC"
    heif.from_pillow(red).save(path, exif=exif.tobytes())
    return path


@pytest.mark.parametrize("as_bytes", [False, True])
def test_heic_is_read_by_its_content(photo: Path, as_bytes: bool) -> None:
    with open_header(io.BytesIO(photo.read_bytes()) if as_bytes else photo, "photo", FORMATS) as image:
        page = to_upright_rgb(image, "photo", max_pixels=10_000)
    assert page.size == (32, 64)
    assert np.abs(np.asarray(page, int).mean((0, 1)) - (200, 30, 40)).max() < 8


def test_without_the_package_one_line_says_what_to_do(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match="photo: to read HEIC pictures, pip install pillow-heif, or save it as JPEG"
    ):
        open_header(photo, "photo", FORMATS)


def test_a_broken_one_is_one_line(photo: Path, tmp_path: Path) -> None:
    whole = photo.read_bytes()
    for cut in (12, 100, len(whole) - 20):
        (tmp_path / "cut.heic").write_bytes(whole[:cut])
        with pytest.raises(InputError, match="photo: the picture is damaged"):
            to_upright_rgb(open_header(tmp_path / "cut.heic", "photo", FORMATS), "photo", max_pixels=10_000)
