"""Searchable PDF out of a PDF: its own pages stay, invisible text is added where it belongs."""

from __future__ import annotations

import re
from pathlib import Path

import pikepdf
import pytest
from multiway_core.errors import InputError
from multiway_document.export.layered_pdf import add_text_layer
from multiway_document.pages import open_pages
from multiway_document.result import FROM_TEXT_LAYER, Document, Line, Page, Word
from pikepdf import Array, Dictionary, Name
from PIL import Image

SIZE = 400, 300  # points
DRAWN = b"2 0 0 2 10 10 cm 0.5 g 0 0 60 40 re f"


def drawing(path: Path, turn: int = 0, pages: int = 1, **encryption: str) -> Path:
    """Pages with a grey rectangle and no text, whose box does not begin at the origin; the state is left changed."""
    pdf = pikepdf.new()
    for _ in range(pages):
        page = Dictionary(
            Type=Name.Page,
            MediaBox=Array([20, 30, 20 + SIZE[0], 30 + SIZE[1]]),
            Contents=pdf.make_stream(DRAWN),
            Rotate=turn,
        )
        pdf.pages.append(pikepdf.Page(pdf.make_indirect(page)))
    pdf.save(path, encryption=pikepdf.Encryption(**encryption) if encryption else False)
    return path


def reading(path: Path, *indices: int, flags: tuple[str, ...] = (), password: str | None = None) -> Document:
    pages = []
    for source in open_pages(path, password=password):
        if source.index in indices:
            line = Line(
                "Some known words",
                (100, 80, 420, 110),
                0.9,
                words=tuple(
                    Word(match.group(), (100 + 20.0 * match.start(), 80, 100 + 20.0 * match.end(), 110), 0.9)
                    for match in re.finditer(r"\S+", "Some known words")
                ),
            )
            pages.append(Page(source.index, *source.image.size, (line,), flags=flags))
    return Document(str(path), "tester", tuple(pages))


def layered(path: Path, document: Document, password: str | None = None) -> Path:
    data = add_text_layer(path, document, images=lambda _: Image.new("L", (833, 625), 255), password=password)
    target = path.with_name("layered.pdf")
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_text_lies_where_it_was_read_however_the_page_is_turned(tmp_path: Path, turn: int) -> None:
    path = drawing(tmp_path / "scan.pdf", turn)
    target = layered(path, reading(path, 0))
    before, after = (next(open_pages(file)) for file in (path, target))
    assert before.image.tobytes() == after.image.tobytes()
    assert before.text_lines is None
    assert after.text_lines is not None
    (line,) = after.text_lines
    assert line.text == "Some known words"
    assert all(abs(a - b) < 6 for a, b in zip(line.box, (100, 80, 420, 110), strict=True))


def test_the_pages_own_operators_stay_and_unread_pages_go(tmp_path: Path) -> None:
    path = drawing(tmp_path / "scan.pdf", pages=3)
    with pikepdf.open(layered(path, reading(path, 0, 2))) as pdf:
        assert len(pdf.pages) == 2
        for page in pdf.pages:
            assert DRAWN in b"\n".join(part.read_bytes() for part in page.Contents)


def test_a_page_with_text_of_its_own_is_not_touched(tmp_path: Path) -> None:
    path = drawing(tmp_path / "born-digital.pdf")
    with pikepdf.open(layered(path, reading(path, 0, flags=(FROM_TEXT_LAYER,)))) as pdf:
        assert pdf.pages[0].Contents.read_bytes() == DRAWN


def test_an_encrypted_file_needs_its_password(tmp_path: Path) -> None:
    path = drawing(tmp_path / "locked.pdf", owner="secret", user="secret")
    document = reading(path, 0, password="secret")
    with pytest.raises(InputError, match="--password"):
        layered(path, document)
    assert next(open_pages(layered(path, document, "secret"))).text_lines
