"""Searchable PDF, read back with PDFium: text, boxes, pictures, awkward scripts."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
import pytest
from multiway_document.alphabet import ALPHABET
from multiway_document.export import export
from multiway_document.export.invisible_font import InvisibleFont
from multiway_document.export.reference_font import text_width
from multiway_document.export.word_boxes import PageInk, split_line
from multiway_document.result import Document, Line, Page
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 900, 1200
DPI = 150


def page_of(*texts: str, height: float = 24) -> Page:
    lines = tuple(
        Line(text, (50, 40 + 1.5 * height * i, 850, 40 + 1.5 * height * i + height), 0.9)
        for i, text in enumerate(texts)
    )
    return Page(0, WIDTH, HEIGHT, lines)


def written(*pages: Page, image: Image.Image | None = None) -> pdfium.PdfDocument:
    picture = image or Image.new("L", (WIDTH, HEIGHT), 255)
    return pdfium.PdfDocument(export(Document("scan.png", "tester", pages), "pdf", images=lambda _: picture))


def text_of(pdf: pdfium.PdfDocument, index: int = 0) -> str:
    return pdf[index].get_textpage().get_text_range().replace("\r\n", "\n")


def test_text_comes_back_line_by_line() -> None:
    page = page_of(
        "Hello world, this is a test", "I a 1", "<script>alert(1)</script>", "x", "50 % of (a) \\b"
    )
    pdf = written(page, Page(1, WIDTH, HEIGHT, ()), page_of("second"))
    assert len(pdf) == 3
    assert text_of(pdf) == page.text
    assert (text_of(pdf, 1), text_of(pdf, 2)) == ("", "second")


def test_every_character_of_the_alphabet_comes_back() -> None:
    characters = ALPHABET.replace(" ", "")
    page = page_of(*(characters[i : i + 40] for i in range(0, len(characters), 40)))
    assert text_of(written(page)) == page.text
    one_each = page_of(*(" ".join(characters[i : i + 20]) for i in range(0, len(characters), 20)))
    assert text_of(written(one_each)) == one_each.text


@pytest.mark.parametrize(
    "text",
    [
        "שלום עולם", "שלום עולם 123 abc", "العربية نص", "hello שלום", "中文文本 日本語 한국어",
        "emoji 😀 𝒳 end", "e\u0301 combining", "Ελληνικά русский", "\U0001f469\u200d\U0001f52c",
    ],
)  # fmt: skip
def test_characters_beyond_the_alphabet_come_back(text: str) -> None:
    assert text_of(written(page_of(text))) == text


def test_boxes_come_back_within_three_pixels() -> None:
    rng = random.Random(0)
    lines = []
    for i in range(30):
        x0 = rng.uniform(10, 300)
        words = [rng.choice(["a", "Total:", "1,234.50", "Wmm", "il"]) for _ in range(rng.randint(1, 6))]
        text, height = " ".join(words), rng.uniform(8, 30)
        width = min(text_width(text) / 1000 * height * rng.uniform(0.5, 2), 580)
        lines.append(Line(text, (x0, 10 + 38 * i, x0 + width, 10 + 38 * i + height), 1.0))
    pdf = written(Page(0, WIDTH, HEIGHT, tuple(lines)))
    scale = DPI / 72
    textpage = pdf[0].get_textpage()
    text = textpage.get_text_range()
    position = 0
    for line in lines:
        for word in split_line(line):
            position = text.index(word.text, position)
            boxes = np.array([textpage.get_charbox(position + i) for i in range(len(word.text))])
            position += len(word.text)
            found = (
                boxes[:, 0].min() * scale, HEIGHT - boxes[:, 3].max() * scale,
                boxes[:, 2].max() * scale, HEIGHT - boxes[:, 1].min() * scale,
            )  # fmt: skip
            assert found == pytest.approx(word.box, abs=3), word


def test_a_rule_read_as_a_dash_does_not_upset_the_lines() -> None:
    page = page_of("above", "-", "a .", "below")
    assert text_of(written(page)) == page.text


def test_words_stand_on_the_ink() -> None:
    image = Image.new("L", (WIDTH, HEIGHT), 255)
    font = ImageFont.load_default(28)
    ImageDraw.Draw(image).text((100, 100), "find   me    here", font=font, fill=0)
    box = ImageDraw.Draw(image).textbbox((100, 100), "find   me    here", font=font)
    page = Page(0, WIDTH, HEIGHT, (Line("find me here", tuple(map(float, box)), 1.0),))
    pdf = written(page, image=image)
    textpage = pdf[0].get_textpage()
    searcher = textpage.search("me")
    assert searcher.get_next() == (5, 2)
    left, _, right, _ = textpage.get_rect(textpage.count_rects(5, 2) - 1)
    expected = split_line(page.lines[0], PageInk(page, image))[1].box
    assert (left * DPI / 72, right * DPI / 72) == pytest.approx((expected[0], expected[2]), abs=3)


def test_text_is_invisible_and_the_picture_is_the_page() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
    pdf = written(page_of("invisible text", "here"), image=image)
    kinds = [obj.type for obj in pdf[0].get_objects()]
    assert kinds.count(pdfium_c.FPDF_PAGEOBJ_IMAGE) == 1
    for obj in pdf[0].get_objects():
        if obj.type == pdfium_c.FPDF_PAGEOBJ_TEXT:
            mode = pdfium_c.FPDFTextObj_GetTextRenderMode(obj.raw)
            assert mode == pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE
    shown = pdf[0].render(scale=DPI / 72).to_pil().convert("RGB")
    assert shown.size == pytest.approx(image.size, abs=1)
    assert np.abs(np.asarray(shown, dtype=float)[:HEIGHT, :WIDTH] - np.asarray(image)).mean() < 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pictures_of_every_mode(mode: str) -> None:
    image = (
        Image.new(mode, (WIDTH, HEIGHT)) if mode != "P" else Image.new("RGB", (WIDTH, HEIGHT)).convert("P")
    )
    assert text_of(written(page_of("text"), image=image)) == "text"


def test_page_size_follows_the_stated_resolution() -> None:
    def size(dpi: object, width: int = 600, height: int = 300) -> tuple[float, float]:
        image = Image.new("L", (width, height))
        image.info["dpi"] = dpi
        return written(Page(0, width, height, ()), image=image)[0].get_size()

    assert size((300, 300)) == pytest.approx((144, 72))
    assert size((0, 0)) == size("x") == size(None) == size((float("nan"),)) == pytest.approx((288, 144))
    assert max(size((150, 150), 60_000, 3)) <= 14_400.1  # the format's limit


def test_the_same_document_gives_the_same_bytes(tmp_path: Path) -> None:
    document = Document("a – b.png", "tester", (page_of("text"),))
    first, second = (
        export(document, "pdf", images=lambda _: Image.new("L", (WIDTH, HEIGHT))) for _ in range(2)
    )
    assert first == second
    path = tmp_path / "a.pdf"
    path.write_bytes(first)
    assert pdfium.PdfDocument(path).get_metadata_value("Title") == "a – b.png"


def test_font_program_is_small_and_whole() -> None:
    font = InvisibleFont("ab😀b")
    assert font.characters == ["a", "b", "😀"]
    assert font.encode("ba?") == "000200010000"
    program = font.true_type()
    assert len(program) < 800
    assert sum(int.from_bytes(program[i : i + 4]) for i in range(0, len(program), 4)) % 2**32 == 0xB1B0AFBA
    assert b"<0003> <D83DDE00>" in font.to_unicode()
