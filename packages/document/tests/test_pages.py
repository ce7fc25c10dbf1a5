from __future__ import annotations

import io
import os
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_document import pages as pages_module
from multiway_document.pages import count_pages, open_pages, parse_page_ranges, sniff
from PIL import Image, ImageDraw
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen import canvas

SCENE = Image.new("RGB", (60, 40), "white")
ImageDraw.Draw(SCENE).rectangle((5, 5, 20, 30), fill=(200, 30, 30))


def only_page(path: Path) -> Image.Image:
    pages = list(open_pages(path))
    assert [page.index for page in pages] == [0]
    assert pages[0].image.mode == "RGB"
    return pages[0].image


def text_pdf(
    path: Path,
    *,
    pages: int = 1,
    size: tuple[float, float] = A4,
    rotation: int = 0,
    encrypt: str | None = None,
) -> Path:
    drawing = canvas.Canvas(str(path), pagesize=size, encrypt=encrypt)
    for number in range(pages):
        drawing.setPageRotation(rotation)
        drawing.setFont("Helvetica", 12)
        drawing.drawString(72, 700, f"Hello reader, this is page {number + 1}.")
        drawing.drawString(72, 650, "Left cell")
        drawing.drawString(372, 650, "Right cell")
        drawing.showPage()
    drawing.save()
    return path


@pytest.mark.parametrize("kind", ["png", "jpg", "tiff", "webp", "bmp", "gif"])
def test_every_format_is_read_and_known_by_its_content(tmp_path, kind):
    path = tmp_path / f"picture.{kind}"
    SCENE.save(path, **({"lossless": True} if kind == "webp" else {}))
    hidden = path.rename(tmp_path / "no-extension")
    image = only_page(hidden)
    assert image.size == (60, 40)
    assert np.abs(np.asarray(image, int)[20, 10] - (200, 30, 30)).max() < 12
    assert np.asarray(image)[35, 50].min() > 240
    assert count_pages(hidden) == 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "picture.tiff"
    SCENE.convert(mode).save(path)
    pixels = np.asarray(only_page(path), int)
    assert pixels[35, 50].min() > 240
    if mode != "1":
        assert pixels[20, 10].mean() < 120


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for name in ("deep.png", "deep.tiff"):
        Image.fromarray(ramp).save(tmp_path / name)
        grey = np.asarray(only_page(tmp_path / name))[..., 0].ravel()
        assert np.abs(grey.astype(int) - np.arange(256)).max() <= 1


def test_floats_are_scaled(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "float.tiff")
    assert np.asarray(only_page(tmp_path / "float.tiff"))[0, :, 0].tolist() == [0, 127, 255]


def test_transparent_parts_are_white(tmp_path):
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    picture.putpixel((2, 2), (10, 20, 30, 255))
    picture.save(tmp_path / "a.png")
    picture.convert("P").save(tmp_path / "b.gif", transparency=0)
    image = only_page(tmp_path / "a.png")
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((2, 2)) == (10, 20, 30)
    assert only_page(tmp_path / "b.gif").size == (8, 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    SCENE.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as stored:
        upright = ImageOps.exif_transpose(stored).convert("RGB")
    assert np.array_equal(np.asarray(only_page(tmp_path / "turned.png")), np.asarray(upright))


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_only_the_first_frame_of_an_animation_is_a_page(tmp_path, name):
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    red, _, blue = only_page(tmp_path / name).getpixel((5, 5))
    assert red > 200 > 50 > blue


def test_every_page_of_a_tiff_is_given_lazily(tmp_path):
    frames = [Image.new("L", (10 + i, 10), 40 * i) for i in range(6)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    assert count_pages(tmp_path / "a.tiff") == 6
    assert [page.image.width for page in open_pages(tmp_path / "a.tiff")] == [10, 11, 12, 13, 14, 15]
    chosen = list(open_pages(tmp_path / "a.tiff", pages="5-,2"))
    assert [(page.index, page.image.width) for page in chosen] == [(1, 11), (4, 14), (5, 15)]
    with pytest.raises(InputError, match="page 7 was asked for, but there are only 6 pages"):
        list(open_pages(tmp_path / "a.tiff", pages="2-7"))


@pytest.mark.parametrize("spec", ["", "0", "-3", "a", "1,,2", "3-1", "1-2-3", "1.5", "²", "99999999999"])
def test_bad_page_ranges_are_refused(spec):
    with pytest.raises(InputError, match="pages"):
        parse_page_ranges(spec)


def test_page_ranges():
    assert parse_page_ranges("1-3, 5") == [range(3), range(4, 5)]
    assert parse_page_ranges("7-")[0].start == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello, this is text", "no picture or document"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"%PDF-1.7\nnonsense", "damaged"),
        (b"\xff\xd8\xff", "damaged"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(open_pages(tmp_path / "bad.png"))
    assert "bad.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_and_pipe_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "no", "no such"),
        (tmp_path, "folder"),
        (tmp_path / "pipe", "regular file"),
    ):
        with pytest.raises(InputError, match=message):
            open_pages(path)
        with pytest.raises(InputError, match=message):
            count_pages(path)
    with pytest.raises(InputError):
        open_pages(Path("a\0b"))


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "gif", "tiff", "bmp"])
def test_truncated_pictures_are_refused(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = tmp_path / f"cut.{kind}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError):
        list(open_pages(path))


def test_one_pixel_is_a_page(tmp_path):
    Image.new("L", (1, 1), 7).save(tmp_path / "dot.png")
    assert only_page(tmp_path / "dot.png").getpixel((0, 0)) == (7, 7, 7)


def test_names_that_are_no_utf8(tmp_path):
    folder = os.fsencode(tmp_path)
    picture, document = (Path(os.fsdecode(folder + b"/\xff\xfe" + end)) for end in (b".png", b".pdf"))
    SCENE.save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(picture)
    text_pdf(tmp_path / "a.pdf").rename(document)
    assert only_page(picture).size == (60, 40)
    assert len(list(open_pages(document))) == 1
    document.write_bytes(b"%PDF-1.4")
    with pytest.raises(InputError) as caught:
        list(open_pages(document))
    assert str(caught.value).isprintable()


def test_a_file_is_known_by_its_first_bytes(tmp_path):
    SCENE.save(tmp_path / "b.png")
    text_pdf(tmp_path / "a")
    (tmp_path / "notes.png").write_text("text")
    assert [sniff(tmp_path / name) for name in ("a", "b.png", "notes.png")] == ["pdf", "image", None]


def write_png(path: Path, width: int, height: int, bit_depth: int, colour_type: int, row: bytes) -> None:
    """A PNG that claims a size and holds one row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = zlib.compress(b"\0" + row)  # one row of many: enough for whoever reads the header
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_a_huge_colour_png_is_refused_before_it_is_decoded(tmp_path):
    write_png(tmp_path / "huge.png", 20000, 20000, 8, 2, b"\xff" * 60000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"20000 x 20000 pixels need 1\.6 GB"):
        list(open_pages(tmp_path / "huge.png"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_huge_bilevel_tiff_is_read_reduced(tmp_path):
    Image.new("1", (20000, 9500), 1).save(tmp_path / "huge.tiff", compression="group4")
    assert only_page(tmp_path / "huge.tiff").size == (6667, 3167)


def test_large_pictures_are_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr(pages_module, "MAX_PAGE_PIXELS", 10_000)
    large = SCENE.resize((600, 400), Image.Resampling.NEAREST)
    for name in ("a.png", "a.jpg", "a.tiff"):
        large.save(tmp_path / name)
        image = only_page(tmp_path / name)
        assert image.width * image.height <= 10_000
        assert image.width / image.height == pytest.approx(1.5, rel=0.03)
        scaled = np.asarray(image.resize((60, 40)), int)
        assert np.abs(scaled[20, 12] - (200, 30, 30)).max() < 20
    large.save(tmp_path / "p.jpg", progressive=True)
    assert only_page(tmp_path / "p.jpg").width <= 122


def test_pdf_is_rendered_with_its_text_layer(tmp_path):
    path = text_pdf(tmp_path / "a.pdf", pages=3)
    assert count_pages(path) == 3
    (page,) = open_pages(path, pages="2", dpi=100)
    assert page.index == 1
    assert page.image.size == pytest.approx((827, 1170), abs=1)
    assert [line.text for line in page.text_lines] == [
        "Hello reader, this is page 2.",
        "Left cell",
        "Right cell",
    ]
    for line in page.text_lines:
        x0, y0, x1, y1 = line.box
        ink = np.argwhere(
            np.asarray(page.image.convert("L"))[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] < 128
        )
        assert len(ink)
    assert page.text_lines[0].box[0] == pytest.approx(100, abs=1.5)
    assert page.text_lines[0].box[3] == pytest.approx(1170 - 700 * 100 / 72 + 0.212 * 12 * 100 / 72, abs=2.5)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_text_layer_boxes_follow_the_page_rotation(tmp_path, rotation):
    (page,) = open_pages(text_pdf(tmp_path / "a.pdf", size=(800, 800), rotation=rotation))
    dark = np.asarray(page.image.convert("L")) < 128
    covered = np.zeros_like(dark)
    assert {line.text for line in page.text_lines} == {
        "Hello reader, this is page 1.",
        "Left cell",
        "Right cell",
    }
    for line in page.text_lines:
        x0, y0, x1, y1 = (round(value) for value in line.box)
        covered[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = True
    assert np.sum(dark & covered) > 0.98 * np.sum(dark)


def test_a_scanned_pdf_has_no_text_layer(tmp_path):
    from reportlab.lib.utils import ImageReader

    drawing = canvas.Canvas(str(tmp_path / "scan.pdf"), pagesize=A4)
    drawing.drawImage(ImageReader(SCENE), 0, 0, *A4)
    drawing.drawString(10, 10, "Scanned by a scanner")
    drawing.showPage()
    drawing.drawImage(ImageReader(SCENE), 0, 0, 50, 50)
    drawing.showPage()
    drawing.save()
    assert [page.text_lines for page in open_pages(tmp_path / "scan.pdf", dpi=50)] == [None, None]


def test_encrypted_and_truncated_pdfs_are_refused(tmp_path):
    path = text_pdf(tmp_path / "locked.pdf", encrypt="secret")
    with pytest.raises(InputError, match="encrypted"):
        list(open_pages(path))
    with pytest.raises(InputError, match="encrypted"):
        count_pages(path)
    with pytest.raises(InputError, match="encrypted"):
        list(open_pages(path, password="wrong"))
    assert next(iter(open_pages(path, password="secret"))).text_lines


def minimal_pdf(media_box: str, count: int = 1) -> bytes:
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [3 0 R] /Count {count} >>".encode(),
        f"<< /Type /Page /Parent 2 0 R /MediaBox [{media_box}] >>".encode(),
    ]
    out, offsets = io.BytesIO(), []
    out.write(b"%PDF-1.4\n")
    for number, body in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 4\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % at for at in offsets))
    out.write(b"trailer << /Size 4 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % start)
    return out.getvalue()


@pytest.mark.parametrize(
    "media_box", ["0 0 100000 100000", "0 0 14400 1", "0 0 0.001 0.001", "0 0 1000000 2"]
)
def test_absurd_pdf_page_sizes_are_bounded(tmp_path, media_box):
    (tmp_path / "a.pdf").write_bytes(minimal_pdf(media_box))
    (page,) = open_pages(tmp_path / "a.pdf", dpi=300)
    assert page.image.width * page.image.height <= 1.01 * pages_module.MAX_PAGE_PIXELS
    assert page.text_lines is None


def test_a_bomb_of_pages_costs_nothing_until_read(tmp_path):
    (tmp_path / "bomb.pdf").write_bytes(minimal_pdf("0 0 100 100", count=2_000_000_000))
    try:
        first = next(open_pages(tmp_path / "bomb.pdf"))
    except InputError:
        return
    assert first.index == 0


def samples() -> list[bytes]:
    contents = []
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"):
        buffer = io.BytesIO()
        SCENE.save(buffer, kind)
        contents.append(buffer.getvalue())
    buffer = io.BytesIO()
    drawing = canvas.Canvas(buffer, pagesize=(100, 60), pageCompression=0)
    drawing.drawString(5, 20, "Some text")
    drawing.save()
    return [*contents, buffer.getvalue(), minimal_pdf("0 0 50 50")]


SAMPLES = samples()
STARTS = [
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"GIF89a",
    b"RIFF\0\0\0\0WEBP",
    b"%PDF-1.4",
]


def read_or_refuse(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        for count, page in enumerate(open_pages(path, dpi=20), 1):
            assert page.image.mode == "RGB"
            if count == 5:
                break
        assert count_pages(path) >= 1
    except InputError as error:
        message = str(error)
    else:
        message = ""
    assert message == "" or message.isprintable()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from(STARTS), content=st.binary(max_size=400))
def test_random_bytes_are_read_or_refused(tmp_path, start, content):
    read_or_refuse(tmp_path / "fuzz", start + content)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_are_read_or_refused(tmp_path, data):
    content = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        action = data.draw(st.sampled_from(["set", "cut", "insert", "huge"]))
        if action == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif action == "cut" and len(content) > 20:
            del content[at : at + data.draw(st.integers(1, 40))]
        elif action == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            content[at : at + 4] = b"\xff\xff\xff\x7f"
        if not content:
            break
    read_or_refuse(tmp_path / "fuzz", bytes(content))
