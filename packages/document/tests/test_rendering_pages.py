"""Synthetic pages: the markdown tree, the layout's boxes, and the suites. Needs no fonts or texts of the
machine.
"""

from __future__ import annotations

import numpy as np
import pytest
from markdown_it import MarkdownIt
from multiway_document.rendering import suites
from multiway_document.rendering.documents import Writer
from multiway_document.rendering.fonts import FontLibrary, built_in_face
from multiway_document.rendering.layout import Canvas, measure, wrap
from multiway_document.rendering.markdown_tree import (
    CodeBlock,
    Heading,
    HorizontalRule,
    ListBlock,
    ListItem,
    Paragraph,
    Quote,
    Table,
    TextLines,
    plain,
    restrict,
    to_markdown,
    words,
)
from multiway_document.rendering.pages import KINDS, PageSampler
from multiway_document.rendering.text import TextSource

STYLES = ("regular", "bold", "italic", "bold_italic", "code")
MARKDOWN = MarkdownIt("commonmark").enable("table")


@pytest.fixture(scope="module")
def sampler() -> PageSampler:
    return PageSampler(FontLibrary([]), TextSource())


@pytest.fixture(scope="module")
def system_sampler() -> PageSampler:
    fonts = FontLibrary.discover()
    if "built-in" in fonts.families:
        pytest.skip("this machine has no fonts")
    return PageSampler(fonts.split("train"), TextSource())


def test_markdown_of_every_block():
    nested = ListBlock(True, ")", [ListItem(words("one")), ListItem(words("two"))])
    blocks = [
        Heading(2, words("A title")),
        Paragraph(
            [("plain", "regular"), ("very", "bold"), ("bold", "bold"), ("both", "bold_italic"), ("x", "code")]
        ),
        ListBlock(False, "•", [ListItem(words("first"), nested), ListItem(words("last"))]),
        Quote(words("said someone")),
        CodeBlock(["if x:", "    y"]),
        Table([["a", "b"], ["1", "2"]]),
        HorizontalRule(),
        TextLines([("left", "1.00"), ("below",)]),
    ]
    assert to_markdown(blocks) == (
        "## A title\n\nplain **very bold** ***both*** `x`\n\n"
        "- first\n  1. one\n  2. two\n- last\n\n> said someone\n\n"
        "```\nif x:\n    y\n```\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n---\n\nleft 1.00\nbelow\n"
    )


def test_plain_text_holds_no_markup():
    assert plain("- *a* _b_ [c](d) `e` | <f> 1. g") == "a b c(d) e f 1. g"
    assert plain("12. twelve") == "twelve"
    assert plain("# x") == "x"


def test_restriction_keeps_the_structure():
    covered = frozenset("abc -")
    inner = ListBlock(True, ".", [ListItem(words("xx"))])
    block = restrict(ListBlock(False, "•", [ListItem(words("abc xyz"), inner)]), covered)
    assert isinstance(block, ListBlock)
    assert block.items[0].words == words("abc")
    assert block.marker == "-"
    assert restrict(HorizontalRule(), covered) == HorizontalRule()


def test_wrapped_lines_fit_and_keep_every_word():
    faces = dict.fromkeys(STYLES, built_in_face())
    run = words("the quick brown fox jumps over the lazy dog " * 5)
    rows = wrap(run, faces, 12, 150, indent=20)
    assert [word for row in rows for word in row] == run
    assert all(measure(row, faces, 12) <= 150 for row in rows)
    assert all(measure(row, faces, 12) <= 30 for row in wrap(words("w" * 80), faces, 12, 30))


def test_boxes_hold_the_ink_of_their_line():
    faces = dict.fromkeys(STYLES, built_in_face())
    canvas = Canvas(np.full((80, 400), 255, np.uint8))
    canvas.draw_words(words("Spread gjpqy"), faces, 20, 50, 40, extra=9, first="1.", first_left=20)
    ((text, (x0, y0, x1, y1)),) = canvas.lines
    assert text == "1. Spread gjpqy"
    rows, columns = np.nonzero(canvas.image < 128)
    assert x0 == 20
    assert x0 - 2 <= columns.min()
    assert columns.max() <= x1 + 2
    assert y0 - 1 <= rows.min()
    assert rows.max() <= y1 + 1


@pytest.mark.parametrize("kind", KINDS)
def test_pages_of_every_kind_are_what_they_say(sampler, kind):
    for seed in range(4):
        page = sampler(np.random.default_rng(seed), 60, kind)
        height, width = page.image.shape
        assert page.image.dtype == np.uint8
        assert page.lines
        assert page.kind == kind
        covered = np.full(page.image.shape, 255, np.uint8)
        for text, (x0, y0, x1, y1) in page.lines:
            assert text == " ".join(text.split()) != ""
            assert -1 <= x0 < x1 <= width + 1
            assert 0 <= y0 < y1 <= height + 1
            inside = page.image[max(0, int(y0)) : int(y1) + 1, max(0, int(x0)) : int(x1) + 1]
            covered[max(0, int(y0) - 1) : int(y1) + 2, max(0, int(x0) - 2) : int(x1) + 3] = 0
            assert inside.min() < 200, f"nothing is drawn where {text!r} is said to be"
        if kind in ("text", "letter"):
            assert page.image[covered == 255].min() > 200, "ink outside every box"


@pytest.mark.parametrize("kind", KINDS)
def test_markdown_says_what_the_lines_say(system_sampler, kind):
    """Rendering the markdown to text gives the words of the page, in the order of its lines."""
    for seed in range(3):
        page = system_sampler(np.random.default_rng([seed, 1]), 72, kind)
        parsed = []
        for token in MARKDOWN.parse(page.markdown):
            if token.type == "inline":
                parsed += [child.content if child.content else " " for child in token.children or []] + [" "]
            elif token.type == "fence":
                parsed.append(token.content + " ")
        expected = "".join(character for character in "".join(parsed) if character.isalnum())
        drawn = [text for text, _ in page.lines]
        # List marks are drawn but are structure in markdown; without lists the two agree to the letter.
        if not any(isinstance(block, ListBlock) for block in page.blocks):
            assert "".join(c for c in "".join(drawn) if c.isalnum()) == expected
        assert len(expected) > 10


def test_markdown_structure_survives_a_parser(system_sampler):
    seen = set()
    for seed in range(12):
        page = system_sampler(np.random.default_rng(seed), 72, "report")
        tokens = [token.type for token in MARKDOWN.parse(page.markdown)]
        for kind, opening in (
            (Heading, "heading_open"), (Table, "table_open"), (CodeBlock, "fence"),
            (Quote, "blockquote_open"), (HorizontalRule, "hr"),
        ):  # fmt: skip
            count = sum(isinstance(block, kind) for block in page.blocks)
            assert tokens.count(opening) == count
            seen |= {kind} if count else set()
    assert len(seen) == 5


def test_only_styles_that_fonts_show_are_written(sampler):
    page = sampler(np.random.default_rng(0), 60, "report")
    assert "**" not in page.markdown
    assert "`a" not in page.markdown


def test_the_same_seed_draws_the_same_page(sampler):
    first, second = (sampler(np.random.default_rng(9), 60) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert (first.lines, first.markdown) == (second.lines, second.markdown)


def test_receipts_are_narrow_and_cut_to_their_length(sampler):
    page = sampler(np.random.default_rng(1), 100, "receipt")
    assert page.image.shape[1] == 315
    assert page.image.shape[0] - max(box[3] for _, box in page.lines) < 60


def test_the_writer_marks_runs_only_in_its_styles():
    writer = Writer(TextSource(), ("bold",))
    run = writer.styled(np.random.default_rng(0), "one two three four five six", share=1.0)
    assert {style for _, style in run} == {"regular", "bold"}


@pytest.mark.parametrize("condition", suites.CONDITIONS)
def test_conditions_change_the_picture_and_keep_the_text(sampler, condition):
    (page,) = suites.suite(condition, 1, seed=3, sampler=sampler)
    (clean,) = suites.suite("clean_150", 1, seed=3, sampler=sampler)
    (again,) = suites.suite(condition, 1, seed=3, sampler=sampler)
    assert np.array_equal(page.image, again.image)
    assert page.family == clean.family
    if condition == "dpi_60":
        assert abs(page.image.shape[0] - clean.image.shape[0] * 60 / 150) < 2
    else:
        assert [text for text, _ in page.lines] == [text for text, _ in clean.lines]
    if condition == "low_contrast_noise":
        assert np.subtract(*np.percentile(page.image, [99, 1])) < 80
    if condition == "uneven_light":
        ends = (slice(0, 40), slice(-40, None))
        corners = [page.image[y, x].mean() for y in ends for x in ends]
        assert max(corners) - min(corners) > 60
    if condition == "salt_pepper":
        assert 0.035 < (page.image != clean.image).mean() < 0.06  # white on white does not show


def test_boxes_turn_with_the_page(sampler):
    (page,) = suites.suite("skew_8", 1, seed=0, sampler=sampler)
    height, width = page.image.shape
    for _, (x0, y0, x1, y1) in page.lines:
        assert -2 <= x0 < x1 <= width + 2
        assert -2 <= y0 < y1 <= height + 2
        ink = page.image[max(0, int(y0)) : int(y1), max(0, int(x0)) : int(x1)]
        assert (ink < 128).any()
    _, box = max(page.lines, key=lambda line: line[1][2] - line[1][0])
    assert box[3] - box[1] > 0.1 * (box[2] - box[0])  # 8 degrees over the whole width


def test_an_unknown_condition_is_a_key_error():
    with pytest.raises(KeyError):
        next(suites.suite("no_such_condition", 1))
