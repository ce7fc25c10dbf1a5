"""hOCR, ALTO and HTML: structure, boxes, text, and hostile content that must stay text."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from multiway_document.export import export
from multiway_document.export.markup import escape, pixel_box, printable
from multiway_document.result import Document, Line, Page
from PIL import Image

WIDTH, HEIGHT = 600, 400
XHTML = "{http://www.w3.org/1999/xhtml}"
ALTO = "{http://www.loc.gov/standards/alto/ns-v4#}"
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "]]></text></svg><script>x</script>",
    "&lt;b&gt; &#0; --> <!-- &undefined;",
    "javascript:alert(1) \x00\x08\x1f\ufffe\ud800 end",
)


def document(*texts: str, source: str = "scan.png", model: str = "tester") -> Document:
    lines = tuple(
        Line(text, (20.4, 10.6 + 40 * i, 580.0, 40.2 + 40 * i), 0.934) for i, text in enumerate(texts)
    )
    return Document(source, model, (Page(0, WIDTH, HEIGHT, lines), Page(4, 50, 60, ())))


HARD = document(*HOSTILE, source='a";b<script>.png', model="m<&>")
CASES = [
    document("Hello world", "second  line"),
    document("שלום עולם", "مرحبا abc", "中文 日本語", "😀 é"),
    HARD,
    Document("none", "m", ()),
]


def picture(index: int) -> Image.Image:
    return Image.new("RGB", (WIDTH, HEIGHT), "white")


def words_of(text: str) -> list[str]:
    return printable(text).split()


def test_printable_and_escape() -> None:
    assert printable("a\tb\nc\x00\x1b\x7f\x9b\ud800\ufffe\U0001ffffé😀") == "a\tb\ncé😀"
    assert escape("<a href='x'>&\"\x00") == "&lt;a href=&#39;x&#39;&gt;&amp;&quot;"


def test_pixel_boxes_lie_on_the_page() -> None:
    page = Page(0, 100, 50, ())
    assert pixel_box((1.4, 2.6, 9.5, 8.1), page) == (1, 3, 10, 8)
    assert pixel_box((-5, -5, 500, 500), page) == (0, 0, 100, 50)
    assert pixel_box((7, 7, 7, 7), page) == (7, 7, 8, 8)
    assert pixel_box((300, 300, 400, 400), page) == (99, 49, 100, 50)
    assert pixel_box((0, 0, 9, 9), Page(0, 0, 0, ())) == (0, 0, 0, 0)


@pytest.mark.parametrize("source", CASES)
def test_hocr(source: Document) -> None:
    root = ElementTree.fromstring(export(source, "hocr", images=picture))
    assert root.tag == f"{XHTML}html"
    metas = {m.get("name"): m.get("content") for m in root.iter(f"{XHTML}meta")}
    assert {"ocr-system", "ocr-capabilities"} <= metas.keys()
    assert set(metas["ocr-capabilities"].split()) == {
        "ocr_page",
        "ocr_carea",
        "ocr_par",
        "ocr_line",
        "ocrx_word",
    }  # type: ignore[union-attr]
    pages = root.findall(f".//{XHTML}div[@class='ocr_page']")
    assert len(pages) == len(source.pages)
    names = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(names) == len(set(names))
    for element, page in zip(pages, source.pages, strict=True):
        assert re.fullmatch(
            rf'image "[^"]*"; bbox 0 0 {page.width} {page.height}; ppageno {page.index}',
            element.get("title", ""),
        )
        lines = element.findall(f"{XHTML}div/{XHTML}p/{XHTML}span[@class='ocr_line']")
        assert len(lines) == len(page.lines)
        for line_element, line in zip(lines, page.lines, strict=True):
            box = _hocr_box(line_element, r"bbox (\d+) (\d+) (\d+) (\d+); baseline 0 -?\d+")
            assert all(abs(a - b) <= 1 for a, b in zip(box, line.box, strict=True))
            words = line_element.findall(f"{XHTML}span[@class='ocrx_word']")
            assert [word.text for word in words] == words_of(line.text)
            assert " ".join("".join(line_element.itertext()).split()) == " ".join(words_of(line.text))
            for word in words:
                inner = _hocr_box(word, r"bbox (\d+) (\d+) (\d+) (\d+); x_wconf 93")
                assert box[0] <= inner[0] < inner[2] <= box[2]
                assert (inner[1], inner[3]) == (box[1], box[3])
    assert not list(root.iter(f"{XHTML}script"))


def _hocr_box(element: ElementTree.Element, pattern: str) -> tuple[int, ...]:
    found = re.fullmatch(pattern, element.get("title", ""))
    assert found, element.get("title")
    return tuple(map(int, found.groups()))


def test_hocr_marks_right_to_left_lines() -> None:
    root = ElementTree.fromstring(export(document("שלום עולם", "left to right"), "hocr"))
    assert [span.get("dir") for span in root.iter(f"{XHTML}span") if span.get("class") == "ocr_line"] == [
        "rtl",
        None,
    ]


# What ALTO 4 asks of each element that is written: its attributes, and its children in order.
_PLACE = {"HPOS", "VPOS", "WIDTH", "HEIGHT"}
_RULES: dict[str, tuple[set[str], str]] = {
    "alto": (set(), "Description Layout"),
    "Description": (set(), "MeasurementUnit sourceImageInformation( Processing)*"),
    "MeasurementUnit": (set(), ""),
    "sourceImageInformation": (set(), "fileName"),
    "fileName": (set(), ""),
    "Processing": ({"ID"}, "processingCategory processingSoftware"),
    "processingCategory": (set(), ""),
    "processingSoftware": (set(), "softwareName applicationDescription"),
    "softwareName": (set(), ""),
    "applicationDescription": (set(), ""),
    "Layout": (set(), "(Page ?)*"),
    "Page": ({"ID", "PHYSICAL_IMG_NR", "WIDTH", "HEIGHT"}, "PrintSpace"),
    "PrintSpace": (_PLACE, "(TextBlock)?"),
    "TextBlock": ({"ID"} | _PLACE, "TextLine( TextLine)*"),
    "TextLine": ({"ID"} | _PLACE, "String( SP String)*"),
    "String": ({"ID", "CONTENT", "WC"} | _PLACE, ""),
    "SP": ({"HPOS", "VPOS", "WIDTH"}, ""),
}


@pytest.mark.parametrize("source", CASES)
def test_alto(source: Document) -> None:
    root = ElementTree.fromstring(export(source, "alto", images=picture))
    assert root.findtext(f".//{ALTO}MeasurementUnit") == "pixel"
    for element in root.iter():
        name = element.tag.removeprefix(ALTO)
        attributes, children = _RULES[name]
        assert attributes <= set(element.keys()), name
        assert re.fullmatch(children, " ".join(child.tag.removeprefix(ALTO) for child in element)), name
    names = [element.get("ID") for element in root.iter() if element.get("ID")]
    assert len(names) == len(set(names))
    for element, page in zip(root.iter(f"{ALTO}Page"), source.pages, strict=True):
        assert (element.get("WIDTH"), element.get("HEIGHT")) == (str(page.width), str(page.height))
        for child in element.iter():
            if child.tag != element.tag:
                x, y, w, h = (int(child.get(key, 0)) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
                assert 0 <= x <= x + w <= page.width
                assert 0 <= y <= y + h <= page.height
        lines = list(element.iter(f"{ALTO}TextLine"))
        for line_element, line in zip(lines, page.lines, strict=True):
            strings = line_element.findall(f"{ALTO}String")
            assert [string.get("CONTENT") for string in strings] == words_of(line.text)
            assert all(0 <= float(string.get("WC", 9)) <= 1 for string in strings)
    if source is CASES[1]:
        assert [line.get("BASEDIRECTION") for line in root.iter(f"{ALTO}TextLine")] == [
            "rtl",
            "rtl",
            None,
            None,
        ]


class Reader(HTMLParser):
    """Tags with their attributes, and the text inside each kind of element."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(data.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]][-1] += data


@pytest.mark.parametrize("images", [None, picture])
@pytest.mark.parametrize("source", CASES)
def test_html(source: Document, images: object) -> None:
    data = export(source, "html", images=images)  # type: ignore[arg-type]
    page = Reader(data)
    assert {tag for tag, _ in page.tags} <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "h1",
        "h2",
        "section",
        "svg",
        "image",
        "g",
        "rect",
        "text",
        "details",
        "summary",
        "pre",
    }
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), attributes
        for name in ("href", "src"):
            if name in attributes:
                assert tag == "image"
                assert (attributes[name] or "").startswith("data:image/jpeg;base64,")
    assert ("meta", "Content-Security-Policy") in {(tag, a.get("http-equiv")) for tag, a in page.tags}
    lines = [line for p in source.pages for line in p.lines]
    assert page.texts.get("text", []) == [" ".join(words_of(line.text)) for line in lines]
    assert page.texts["h1"] == [printable(source.source)]
    for shape, line in zip([a for tag, a in page.tags if tag == "rect"], lines, strict=True):
        x, y, w, h = (float(shape[key] or 0) for key in ("x", "y", "width", "height"))
        assert (x, y, x + w, y + h) == pytest.approx(line.box, abs=0.02)
    pictures = [a for tag, a in page.tags if tag == "image"]
    assert len(pictures) == (len(source.pages) if images else 0)
    for attributes in pictures:
        encoded = (attributes["href"] or "").split(",")[1]
        assert Image.open(io.BytesIO(base64.b64decode(encoded))).format == "JPEG"


def test_html_embeds_large_pictures_smaller() -> None:
    source = Document("x", "m", (Page(0, 9000, 30, ()),))
    data = export(source, "html", images=lambda _: Image.new("1", (9000, 30)))
    assert b'viewBox="0 0 9000 30"' in data
    assert len(data) < 20_000
