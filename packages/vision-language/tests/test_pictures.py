"""Any picture is opened upright and in RGB, or refused in one line."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_vision_language import pictures
from multiway_vision_language.pictures import open_picture
from PIL import Image, ImageOps

RED, BLUE = (200, 30, 30), (20, 40, 180)


def scene(width=60, height=40) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return image


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def near(picture, place, colour, tolerance=14) -> bool:
    return np.abs(np.array(picture.image.getpixel(place)) - colour).max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_every_format_by_its_content(kind, tmp_path):
    path = tmp_path / "no-ending"
    path.write_bytes(encoded(scene(), kind))
    for picture in (open_picture(path), open_picture(str(path)), open_picture(path.read_bytes())):
        assert (picture.image.mode, picture.image.size) == ("RGB", (60, 40))
        assert (picture.width, picture.height) == (60, 40)
        assert near(picture, (10, 20), RED)
        assert near(picture, (50, 20), BLUE)
    assert open_picture(path).source == str(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_respected(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(), "JPEG", exif=exif, quality=95)
    picture = open_picture(data)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (picture.width, picture.height) == picture.image.size == upright.size
    assert np.array_equal(np.asarray(picture.image), np.asarray(upright))


def test_modes_and_depths():
    transparent = scene().convert("RGBA")
    transparent.putalpha(Image.new("L", (60, 40), 0))
    assert near(open_picture(encoded(transparent, "PNG")), (10, 20), (255, 255, 255))
    half = scene().convert("RGBA")
    half.putalpha(Image.new("L", (60, 40), 128))
    assert near(open_picture(half), (10, 20), (227, 142, 142))
    assert near(open_picture(encoded(scene().convert("P"), "PNG")), (10, 20), RED, 30)
    keyed = scene().convert("P")
    data = encoded(keyed, "PNG", transparency=keyed.getpixel((10, 20)))
    assert near(open_picture(data), (10, 20), (255, 255, 255))
    assert near(open_picture(encoded(scene().convert("CMYK"), "JPEG", quality=95)), (10, 20), RED, 30)
    deep = Image.fromarray(np.full((40, 60), 257 * 90, np.uint16))
    assert open_picture(encoded(deep, "PNG")).image.getpixel((3, 3)) == (90, 90, 90)
    assert open_picture(encoded(scene().convert("L"), "PNG")).image.mode == "RGB"
    assert open_picture(encoded(scene().convert("1"), "PNG")).image.mode == "RGB"


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE, (0, 0, 0))]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=40)
        assert near(open_picture(data), (4, 4), RED, 20), kind


def test_arrays():
    array = np.asarray(scene())
    wanted = open_picture(scene()).key
    for given_array in (
        array,
        array.astype(np.uint16) * 257,
        array.astype(np.float32) / 255,
        array[:, ::-1][:, ::-1],
        np.dstack([array, np.full((40, 60), 255, np.uint8)]),
    ):
        assert open_picture(given_array).key == wanted
    assert open_picture(array[..., 0]).image.mode == "RGB"
    assert open_picture(array[..., :1]).width == 60
    assert open_picture(np.ones((4, 5), bool)).image.getpixel((0, 0)) == (255, 255, 255)


def test_equal_pixels_have_equal_keys(tmp_path):
    scene().save(tmp_path / "a.png")
    scene().save(tmp_path / "b.bmp")
    assert open_picture(tmp_path / "a.png").key == open_picture(tmp_path / "b.bmp").key
    assert open_picture(scene(40, 60)).key != open_picture(scene()).key
    picture = open_picture(scene())
    assert open_picture(picture) is picture


def test_one_pixel():
    picture = open_picture(encoded(Image.new("RGB", (1, 1), RED), "PNG"))
    assert (picture.width, picture.height) == (1, 1)


def test_long_sides_and_many_pixels(monkeypatch):
    strip = open_picture(encoded(Image.new("L", (20_000, 3), 7), "PNG"))
    assert strip.image.size == (strip.width, strip.height) == (20_000, 3)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 10_000)
    reduced = open_picture(encoded(scene(600, 400), "PNG"))
    assert (reduced.width, reduced.height) == (600, 400)  # boxes are in pixels of the source
    assert reduced.image.size == (120, 80)
    assert near(reduced, (20, 40), RED)


def claims(width: int, height: int) -> bytes:
    """A PNG file of a few bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_bombs_are_refused_before_they_are_decoded(side):
    with pytest.raises(InputError) as error:
        open_picture(claims(side, side))
    assert len(str(error.value).splitlines()) == 1
    if side == 20_000:
        assert "20000 x 20000 pixels need 1.6 GB to decode" in str(error.value)


def test_bad_files_are_one_line(tmp_path):
    whole = encoded(scene(300, 200), "JPEG")
    contents = {
        "empty.png": (b"", "is empty"),
        "text.png": (b"not a picture", "is no picture that can be read; expected PNG, JPEG"),
        "cut.jpg": (whole[: len(whole) // 2], "damaged"),
        "cut.png": (encoded(scene(300, 200), "PNG")[:120], "damaged"),
        "header.png": (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, ""),
    }
    for name, (data, reason) in contents.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(InputError) as error:
            open_picture(path)
        assert str(path) in str(error.value)
        assert reason in str(error.value)
    os.mkfifo(tmp_path / "pipe")
    for path, reason in [
        (tmp_path / "absent.png", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is not a regular file"),
        ("nul\0byte", "no such file"),
        ("x" * 5000, "cannot be read"),
    ]:
        with pytest.raises(InputError, match=reason):
            open_picture(path)


@pytest.mark.parametrize(
    "source",
    [
        b"",
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4), np.int64),
        np.full((4, 4), 2.0),
        np.full((4, 4), np.nan),
        3,
        None,
        Image.new("RGB", (0, 5)),
    ],
)
def test_what_is_no_picture(source):
    with pytest.raises(InputError):
        open_picture(source)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_never_raise_anything_else(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]))
    content = bytearray(encoded(scene(), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(content)))
    with contextlib.suppress(InputError):
        assert open_picture(bytes(content[:cut])).image.mode == "RGB"
