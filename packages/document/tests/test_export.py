"""All formats on awkward documents, and the plain ones: text, JSON, JSON lines, markdown, TSV."""

from __future__ import annotations

import json
import random
import time

import pytest
from markdown_it import MarkdownIt
from multiway_core.errors import InputError
from multiway_document.export import EXTENSIONS, FORMATS, export
from multiway_document.export.markdown import literal
from multiway_document.result import Document, Line, Page, page_to_json
from PIL import Image

WIDTH, HEIGHT = 900, 1200


def picture(index: int) -> Image.Image:
    return Image.new("L", (WIDTH, HEIGHT), 255)


def document(*texts: str, markdown: str | None = None, source: str = "scan.png") -> Document:
    lines = tuple(Line(text, (50, 40 + 30 * i, 850, 64 + 30 * i), 0.875) for i, text in enumerate(texts))
    return Document(source, "tester", (Page(0, WIDTH, HEIGHT, lines, markdown=markdown),))


AWKWARD = {
    "no pages": Document("empty.pdf", "tester", ()),
    "no lines": document(),
    "page of no size": Document("x", "tester", (Page(0, 0, 0, (Line("a b", (0, 0, 0, 0), 1.0),)),)),
    "blank lines": document("", "  ", "\u200b", "\x00\x07"),
    "right to left": document("שלום עולם 123", "مرحبا بالعالم", "mixed שלום text"),
    "East Asian": document("中文文本 日本語", "한국어 텍스트"),
    "beyond the BMP": document("😀 𝒳 a", "e\u0301 ａ"),
    "hostile": document(
        "<script>alert(1)</script>", "]]> & \" ' --> {x}", "\x1b[31mred\x00 \ufffe \ud800 \x9b", "$(rm) `x`",
        source="<img src=x onerror=alert(1)>\"'&\udcff.png",
    ),
    "boxes outside the page": Document(
        "x",
        "tester",
        (
            Page(
                0, WIDTH, HEIGHT,
                (Line("a b", (-50, -9, 99999, 20), 1.0), Line("c", (9e5, 9e5, 9e6, 9e6), 0.0)),
            ),
        ),
    ),
    "two pages": Document(
        "x.pdf",
        "tester",
        tuple(Page(i, WIDTH, HEIGHT, (Line(f"page {i}", (9, 9, 99, 30), 0.5),)) for i in (3, 7)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", AWKWARD)
def test_every_format_takes_every_document(name: str, format: str) -> None:
    data = export(AWKWARD[name], format, images=picture)
    assert isinstance(data, bytes)
    assert data == export(AWKWARD[name], format, images=picture)
    if format != "pdf":
        text = data.decode("utf-8")
        assert format == "html" or not any(ord(c) < 32 and c not in "\t\n\f" for c in text)
        assert export(AWKWARD[name], format)[:20] == data[:20]  # pictures are optional


@pytest.mark.parametrize("format", FORMATS)
def test_two_thousand_lines_take_moments(format: str) -> None:
    rng = random.Random(0)
    words = ["the", "annual", "report", "of", "1997", "shows", "a", "gain."]
    lines = tuple(
        Line(" ".join(rng.choices(words, k=10)), (40, 12 * i, 40 + rng.randint(300, 900), 12 * i + 11), 0.9)
        for i in range(2000)
    )
    page = Page(0, 1000, 24_010, lines)
    large = Image.effect_noise((1000, 24_010), 60)
    started = time.process_time()
    data = export(Document("long.png", "tester", (page,)), format, images=lambda _: large)
    assert time.process_time() - started < 10
    assert len(data) > 60_000


def test_registry() -> None:
    assert list(FORMATS) == ["text", "json", "jsonl", "markdown", "hocr", "alto", "tsv", "pdf", "html"]
    assert EXTENSIONS["markdown"] == ".md"
    assert len(set(EXTENSIONS.values())) == len(FORMATS)  # all formats of one page fit into one folder
    with pytest.raises(InputError, match="unknown format 'docx'; one of: text, json"):
        export(document("a"), "docx")
    with pytest.raises(InputError, match="pictures of the pages"):
        export(document("a"), "pdf")


def test_text() -> None:
    pages = tuple(
        Page(i, 9, 9, (Line("a", (0, 0, 1, 1), 1.0), Line("é", (0, 0, 1, 1), 1.0))) for i in range(2)
    )
    assert export(Document("x", "m", pages), "text").decode() == "a\né\n\fa\né\n"
    assert export(document(), "text") == b""
    assert export(document("\x1b[2Jclear"), "text") == b"[2Jclear\n"  # nothing that a terminal would obey


def test_json_and_jsonl_read_back() -> None:
    for name, source in AWKWARD.items():
        if name == "hostile":  # its lone surrogates are escaped in JSON and come back as they were
            source = Document("x", "m", source.pages)
        assert Document.from_json(json.loads(export(source, "json"))) == source
        rows = export(source, "jsonl").decode().splitlines()
        parts = [Document.from_json(json.loads(row)) for row in rows]
        assert [part.pages for part in parts] == [(page,) for page in source.pages]
        assert all((part.source, part.model) == (source.source, source.model) for part in parts)
    data = json.loads(export(document("a"), "json"))
    assert data["schema"] == "multiway.ocr/1"
    assert data["pages"] == [page_to_json(document("a").pages[0])]


def test_markdown_is_the_models_own() -> None:
    own = document("plain", markdown="# Title\n\n- *a*\n")
    assert export(own, "markdown").decode() == "# Title\n\n- *a*\n"
    both = Document("x", "m", (own.pages[0], document("1 < 2").pages[0]))
    assert export(both, "markdown").decode() == "# Title\n\n- *a*\n\n1 \\< 2\n"


@pytest.mark.parametrize(
    "text",
    [
        "# not a title", "1. no list", "1) no list", "- no list", "+ no list", "* no *list*", "> no quote",
        "a | b | c", "|-|-|", "a_b_c [x](y) ![z](w) <b>&amp;</b>", "--- ", "===", "~~~", "```", "\\ `x`",
        "1986. A great year", "    indented", "$5 and $6", "https://example.org <https://example.org>",
        "\\*", "&copy;",
    ],
)  # fmt: skip
def test_lines_without_markdown_stay_literal(text: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for shown in (literal(text), f"above  \n{literal(text)}"):
        (paragraph, inline, _) = parser.parse(shown)
        assert paragraph.type == "paragraph_open"
        children = inline.children or []
        assert {child.type for child in children} <= {"text", "text_special", "hardbreak", "softbreak"}
        assert "".join(child.content for child in children).removeprefix("above") == " ".join(text.split())


def test_tsv() -> None:
    rows = export(document("two words", "one"), "tsv").decode().split("\n")
    assert rows.pop() == ""
    table = [row.split("\t") for row in rows]
    assert all(len(row) == 12 for row in table)
    assert table[0] == [
        "level",
        "page_num",
        "block_num",
        "par_num",
        "line_num",
        "word_num",
        "left",
        "top",
        "width",
        "height",
        "conf",
        "text",
    ]
    assert table[1] == ["1", "1", "0", "0", "0", "0", "0", "0", "900", "1200", "-1"] + [""]
    assert table[2] == ["2", "1", "1", "0", "0", "0", "50", "40", "800", "54", "-1"] + [""]
    assert table[3] == ["3", "1", "1", "1", "0", "0", "50", "40", "800", "54", "-1"] + [""]
    assert table[4] == ["4", "1", "1", "1", "1", "0", "50", "40", "800", "24", "-1"] + [""]
    assert [row[:6] + row[10:] for row in table[5:7]] == [
        ["5", "1", "1", "1", "1", str(i), "87.50", text] for i, text in ((1, "two"), (2, "words"))
    ]
    assert [row[0] for row in table[7:]] == ["4", "5"]
    assert len(export(document(), "tsv").decode().splitlines()) == 2
