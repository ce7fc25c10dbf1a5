"""Markdown from the places of lines: drawn pages with known layout are found, read with their true words, and
written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from multiway_document.markdown_layout import lines_to_markdown, page_blocks
from multiway_document.markdown_layout.ink import _in_company
from multiway_document.markdown_layout.rows import PlacedWord
from multiway_document.rendering import layout
from multiway_document.rendering.fonts import FontLibrary
from multiway_document.rendering.glyphs import atlas
from multiway_document.rendering.markdown_tree import (
    Block,
    CodeBlock,
    Heading,
    HorizontalRule,
    ListBlock,
    ListItem,
    Paragraph,
    Quote,
    Table,
    to_markdown,
    words,
)
from multiway_document.rendering.pages import choose_faces
from multiway_document.segmentation import LineRegion, PreparedPage, find_lines, prepare

FONTS = Path("/usr/share/fonts/truetype")

PROSE = (
    "The keeper of the lighthouse wrote the weather down every evening, and the ships that passed at night never "
    "knew how many of their captains had been named in the margin beside the height of the tide and the wind."
)
SHORT = "Nobody had asked for the ledger, yet it was kept with care for thirty years."


@pytest.fixture(scope="module")
def fonts() -> FontLibrary:
    folders = [FONTS / name for name in ("dejavu", "liberation", "liberation2") if (FONTS / name).is_dir()]
    library = FontLibrary.discover(folders)
    if not {"serif", "mono"} <= {face.genre for face in library.faces}:
        pytest.skip("needs a serif and a monospaced font of Debian")
    return library


Drawn = tuple[PreparedPage, list[LineRegion], list[str]]
Draw = Callable[..., Drawn]


@pytest.fixture
def draw(fonts: FontLibrary, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Sets blocks in columns; gives the page, its found lines and the true words within each."""
    drawn: list[tuple[str, float, float]] = []
    set_text = layout.Canvas._draw

    def record(self, text, face, size, x, baseline, *, extra=0.0):
        pen = x
        for word in text.split(" "):
            width = atlas(face).measure(word) * size
            if word:
                drawn.append((word, pen + width / 2, baseline))
            pen += width + atlas(face).measure(" ") * size + extra
        return set_text(self, text, face, size, x, baseline, extra=extra)

    monkeypatch.setattr(layout.Canvas, "_draw", record)

    def page(*blocks: Block, columns: int = 1, **theme: object) -> Drawn:
        faces, _ = choose_faces(np.random.default_rng(1), fonts, "serif")
        canvas = layout.Canvas(np.full((1100, 1240), 255, np.uint8))
        look = layout.Theme(faces=faces, heading_face=faces["bold"], size=22.0, **theme)  # type: ignore[arg-type]
        width = (1000 - 50 * (columns - 1)) / columns
        places = [
            layout.Column(120 + i * (width + 50), width, 90, 1010 if columns == 1 else 420)
            for i in range(columns)
        ]
        flow = layout.Flow(canvas, look, places)
        for block in blocks:
            assert flow.add(block) is not None
        prepared = prepare(canvas.image)
        regions, texts = [], []
        for region in find_lines(prepared):
            x0, y0, x1, y1 = prepared.to_source(region.box)
            baseline = (0.45 * y0 + 1.85 * y1) / 2.3
            inside = [w for w in drawn if x0 - 2 < w[1] < x1 + 2 and abs(w[2] - baseline) < 0.25 * (y1 - y0)]
            if inside:
                regions.append(region)
                texts.append(" ".join(word for word, _, _ in sorted(inside, key=lambda w: w[1])))
        return prepared, regions, texts

    return page


def written(drawn: Drawn) -> str:
    prepared, regions, texts = drawn
    return lines_to_markdown(regions, texts, prepared)


def test_nothing_gives_nothing() -> None:
    assert lines_to_markdown([], []) == ""
    assert page_blocks([], []) == []


def test_every_region_needs_a_text(draw: Draw) -> None:
    _, regions, texts = draw(Paragraph(words(PROSE)))
    with pytest.raises(ValueError, match="zip"):
        lines_to_markdown(regions, texts[1:])
    assert lines_to_markdown(regions, [""] * len(regions)) == ""


def test_headings_get_their_levels_from_their_sizes(draw: Draw) -> None:
    blocks = [
        Heading(1, words("A Ledger of Tides")), Paragraph(words(PROSE)),
        Heading(2, words("The keeper")), Paragraph(words(PROSE)),
        Heading(3, words("His handwriting")), Paragraph(words(SHORT)),
        Heading(2, words("The ships")), Paragraph(words(PROSE)),
    ]  # fmt: skip
    assert written(draw(*blocks)) == to_markdown(blocks)


@pytest.mark.parametrize("align", ["left", "justify"])
@pytest.mark.parametrize("indent", [0.0, 1.5])
def test_paragraphs_are_joined_from_their_lines(draw: Draw, align: str, indent: float) -> None:
    blocks = [Paragraph(words(PROSE)), Paragraph(words(SHORT)), Paragraph(words(PROSE + " " + SHORT))]
    assert written(draw(*blocks, align=align, indent=indent)) == to_markdown(blocks)


def test_words_divided_at_a_line_end_are_made_whole(draw: Draw) -> None:
    _, regions, _ = draw(Paragraph(words(PROSE + " " + PROSE)))
    texts = ["A line that ends in light-", "house and goes on to Stratford-", "Upon and ends."]
    result = lines_to_markdown(regions[:3], texts)
    assert result == "A line that ends in lighthouse and goes on to Stratford- Upon and ends.\n"


@pytest.mark.parametrize(
    ("ordered", "marker"), [(False, "•"), (False, "-"), (False, "·"), (True, "."), (True, ")")]
)
def test_lists(draw: Draw, ordered: bool, marker: str) -> None:
    items = [
        ListItem(words("Rope and tar")),
        ListItem(
            words(PROSE), ListBlock(False, "•", [ListItem(words("Whale oil")), ListItem(words("Wicks"))])
        ),
        ListItem(words("Bread for the week")),
    ]
    blocks = [Paragraph(words(PROSE)), ListBlock(ordered, marker, items), Paragraph(words(SHORT))]
    assert written(draw(*blocks)) == to_markdown(blocks)


@pytest.mark.parametrize("borders", ["none", "rows", "all"])
def test_tables(draw: Draw, borders: str) -> None:
    rows = [
        ["Ship", "Captain", "Tons"],
        ["Ariel", "John Keay", "852.9"],
        ["Taeping", "Donald McKinnon", "767.0"],
        ["Fiery Cross", "Richard Robinson", "695.5"],
    ]
    blocks = [Paragraph(words(PROSE)), Table(rows, frozenset({2}), borders), Paragraph(words(PROSE))]  # type: ignore[arg-type]
    drawn = draw(*blocks)
    assert written(drawn).replace("**", "") == to_markdown(blocks)
    table = page_blocks(drawn[1], drawn[2], drawn[0])[1]
    assert isinstance(table, Table)
    assert table.right_aligned == {2}


def test_code_keeps_its_indentation(draw: Draw) -> None:
    code = [
        "def tide(hour: int) -> float:",
        "    if hour == 12:",
        "        return high[hour] / 2",
        "    return low(hour)",
    ]
    blocks = [Paragraph(words(PROSE)), CodeBlock(code), Paragraph(words(PROSE))]
    assert written(draw(*blocks)) == to_markdown(blocks)


@pytest.mark.parametrize("bar", [False, True])
def test_quotes_are_set_in_from_both_sides(draw: Draw, bar: bool) -> None:
    blocks = [Paragraph(words(PROSE)), Quote(words(PROSE)), Paragraph(words(PROSE))]
    assert written(draw(*blocks, quote_bar=bar)) == to_markdown(blocks)


def test_rules_across_the_page_are_seen_when_the_page_is_given(draw: Draw) -> None:
    blocks = [Paragraph(words(PROSE)), HorizontalRule(), Paragraph(words(SHORT))]
    prepared, regions, texts = draw(*blocks)
    assert lines_to_markdown(regions, texts, prepared) == to_markdown(blocks)
    assert "---" not in lines_to_markdown(regions, texts)


def test_bold_words_are_marked(draw: Draw) -> None:
    run = words(PROSE)
    run[12:15] = [(word, "bold") for word, _ in run[12:15]]
    blocks = [Paragraph(run), Paragraph(words(PROSE))]
    assert written(draw(*blocks)) == to_markdown(blocks)


def test_wide_words_are_code_where_most_of_the_page_share_one_advance() -> None:
    def word(text: str, advance: float) -> PlacedWord:
        return PlacedWord(text, 0.0, advance * (len(text) - 0.15))

    code = [word("split_lines(file)", 13.2), word("of", 13.0), word("tiles", 13.1)]
    others = [word("keeper", 13.2), word("weather", 12.1)]
    advances = np.array([12.1, 13.1, 13.2, 13.2])
    assert _in_company(code, [True] * 3, advances) == [True] * 3
    assert _in_company(others, [True, True], advances) == [False, False]  # a run of two advances
    assert _in_company([others[1]], [True], advances) == [False]  # alone with its advance on the page
    assert _in_company(code, [True, False, False], advances[:2]) == [False] * 3


def test_a_word_that_was_read_too_short_is_no_code(draw: Draw) -> None:
    blocks = [Paragraph(words(PROSE)) for _ in range(5)]
    prepared, regions, texts = draw(*blocks)
    texts[1] = texts[1].replace("passed", "pased", 1)
    assert "`" not in lines_to_markdown(
        regions, [text.replace("weather", "weathr") for text in texts], prepared
    )


def test_a_paragraph_goes_on_in_the_next_column(draw: Draw) -> None:
    long = " ".join([PROSE, SHORT] * 2)
    blocks = [Paragraph(words(PROSE)), Paragraph(words(long))]
    assert written(draw(*blocks, columns=2, align="justify")) == to_markdown(blocks)


def test_what_looks_like_markup_is_shown_as_it_was_read(draw: Draw) -> None:
    _, regions, _ = draw(Paragraph(words(SHORT)))
    text = "# 5 * 4 | a_b _c_ <tag> `x` [1](2) &amp; ~~no~~"
    result = lines_to_markdown(regions[:1], [text])
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(result)
    assert html == "<p># 5 * 4 | a_b _c_ &lt;tag&gt; `x` [1](2) &amp;amp; ~~no~~</p>\n"
