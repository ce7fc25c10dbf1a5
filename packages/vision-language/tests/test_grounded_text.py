"""Grounded text against the post-processing of `transformers`, and what is told about malformed tags."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_vision_language import grounded_text
from multiway_vision_language.grounded_text import DELIMITER, Phrase, build, insert_boxes, parse
from multiway_vision_language.locations import LocationGrid

GRID = LocationGrid()
SNOWMAN = (
    "<grounding> An image of<phrase> a snowman</phrase><object><patch_index_0044><patch_index_0863></object> warming"
    " himself by<phrase> a fire</phrase><object><patch_index_0005><patch_index_0911></object>."
)
WORDS = [" a", " dog", "  two\n", " puppies ", "in the grass", ", ", "é", ".", " ", "", "3 > 2", "日本"]
SCRAPS = [
    *(WORDS * 2), "<phrase>", "</phrase>", "<object>", "</object>", DELIMITER, "<patch_index_0007>",
    "<patch_index_1023>", "<patch_index_0500>", "<patch_index_12>", "<grounding>", "<", ">", "< b", "<p>", "</s>",
]  # fmt: skip


def random_text(rng: random.Random) -> str:
    """Well-formed text with up to five entities."""
    parts: list[str | Phrase] = []
    for _ in range(rng.randrange(6)):
        parts += rng.choices(WORDS, k=rng.randrange(3))
        text = "".join(rng.choices(WORDS, k=rng.randrange(1, 3)))
        boxes = [GRID.ordered((rng.randrange(1024), rng.randrange(1024))) for _ in range(rng.randrange(1, 4))]
        if text.strip():
            parts.append(Phrase(text, tuple(boxes)))
        else:
            parts.append(grounded_text.object_tags(boxes))
    parts += rng.choices(WORDS, k=rng.randrange(3))
    return "".join(build([part]) if isinstance(part, Phrase) else part for part in parts)


def ours(text: str):
    found = parse(text)
    return found.text, [(entity.phrase, entity.span, list(entity.boxes)) for entity in found.entities]


@pytest.mark.peer
def test_10000_well_formed_texts_as_the_peer_reads_them() -> None:
    peer = pytest.importorskip("transformers.models.kosmos2.processing_kosmos2")
    rng = random.Random(0)
    entities = 0
    for _ in range(10_000):
        text = random_text(rng)
        theirs = peer.clean_text_and_extract_entities_with_bboxes(text)
        assert ours(text) == theirs
        assert not parse(text).problems
        entities += len(theirs[1])
    assert entities > 10_000


@pytest.mark.peer
def test_10000_malformed_texts_as_the_peer_reads_them() -> None:
    """The same, wherever what the peer finds makes sense: cells of the grid in order, phrases with words."""
    peer = pytest.importorskip("transformers.models.kosmos2.processing_kosmos2")
    rng = random.Random(1)
    told = compared = 0
    for _ in range(10_000):
        text = "".join(rng.choices(SCRAPS, k=rng.randrange(1, 25)))
        if rng.random() < 0.7:  # a sound text that was cut or lost a tag
            text = random_text(rng)
            start, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
            text = text[:start] + "".join(rng.choices(SCRAPS, k=rng.randrange(3))) + text[end:]
        clean, expected = peer.clean_text_and_extract_entities_with_bboxes(text)
        found = parse(text)
        assert found.text == clean
        cells = [
            [int(n) for n in pair] for pair in re.findall(r"<patch_index_(\d+)><patch_index_(\d+)>", text)
        ]
        if all(max(pair) < 1024 and GRID.in_order(tuple(pair)) for pair in cells) and all(
            e[0] for e in expected
        ):
            assert ours(text)[1] == expected
            compared += 1
        told += bool(found.problems)
    assert compared > 5000
    assert told > 5000


@pytest.mark.peer
def test_insertion_as_the_peer_does_it() -> None:
    peer = pytest.importorskip("transformers.models.kosmos2.processing_kosmos2")
    theirs = peer.Kosmos2Processor.__new__(peer.Kosmos2Processor)
    theirs.num_patch_index_tokens = 1024
    rng = random.Random(2)
    words = [word for word in WORDS if "\n" not in word]  # the peer does not find phrases of two lines
    for _ in range(2000):
        text, boxes = "", []
        for _ in range(rng.randrange(1, 4)):
            text += f"{rng.choice(words)}<phrase>{rng.choice(words)}x</phrase>"
            (left, right), (top, bottom) = (sorted((rng.random(), rng.random())) for _ in range(2))
            drawn = [(left, top, right, bottom)]
            boxes.append([None, drawn, [(3, 700), *drawn]][rng.randrange(3)])
        expected = theirs._insert_patch_index_tokens(text, boxes)
        cells = [[box if len(box) == 2 else GRID.encode(box) for box in own or ()] for own in boxes]
        # The peer writes spaces between tags, which its tokenizer takes away again.
        squeezed = re.sub(r"\s+(?=<patch|</object>|</delim)", "", expected)
        assert insert_boxes(text, cells) == squeezed


def test_golden_snowman() -> None:
    found = parse(SNOWMAN)
    assert found.text == "An image of a snowman warming himself by a fire."
    assert [(e.phrase, e.span, e.cells, e.locations) for e in found.entities] == [
        ("a snowman", (12, 21), ((44, 863),), (0,)),
        ("a fire", (41, 47), ((5, 911),), (2,)),
    ]
    assert found.entities[0].boxes == ((0.390625, 0.046875, 0.984375, 0.828125),)
    assert found.entities[1].boxes == ((0.171875, 0.015625, 0.484375, 0.890625),)
    assert not found.problems
    assert grounded_text.clean(SNOWMAN) == found.text


def test_what_is_built_is_parsed_back() -> None:
    parts = [
        "A photo of",
        Phrase(" two dogs", ((0, 33), (40, 1023))),
        " and",
        Phrase(" a cat", ((5, 5),)),
        ".",
    ]
    found = parse(build(parts))
    assert found.text == "A photo of two dogs and a cat."
    assert [(e.phrase, e.cells, e.locations) for e in found.entities] == [
        ("two dogs", ((0, 33), (40, 1023)), (0, 2)),
        ("a cat", ((5, 5),), (4,)),
    ]
    assert all(found.text[slice(*e.span)] == e.phrase for e in found.entities)


BOX = "<patch_index_0000><patch_index_0033>"


@pytest.mark.parametrize(
    ("tagged", "entities", "problems"),
    [
        ("<phrase>a</phrase> b", 0, ["the phrase 'a' has no box"]),
        ("<phrase> </phrase>" + f"<object>{BOX}</object>", 0, ["a phrase is empty"]),
        (f"<phrase>a<object>{BOX}</object>", 1, ["<phrase> is not closed by </phrase> before the next tag"]),
        (f"a</phrase><object>{BOX}</object>", 1, ["</phrase> without <phrase>"]),
        ("<object><patch_index_0000></object>", 0, ["the locations of an object (1) are not whole boxes"]),
        (f"<object>{BOX}{DELIMITER}</object>", 0, ["the locations of an object (2) are not whole boxes"]),
        ("<object></object>", 0, ["the locations of an object (0) are not whole boxes"]),
        (
            f"<phrase>a</phrase><object>{BOX}",
            0,
            [
                "the phrase 'a' has no box",
                "<object> is not followed by locations and </object>",
                "<patch_index_0000> outside <object>",
                "<patch_index_0033> outside <object>",
            ],
        ),
        (f"{BOX}", 0, ["<patch_index_0000> outside <object>", "<patch_index_0033> outside <object>"]),
        (DELIMITER, 0, [f"{DELIMITER} outside <object>"]),
        ("</object>", 0, ["</object> without <object>"]),
        ("<object><patch_index_0000><patch_index_1024></object>", 0, ["location 1024 is outside the grid of 1024"]),
        (
            "<object><patch_index_0033><patch_index_0000></object>",
            1,
            ["the corners (33, 0) of a box are in the wrong order"],
        ),
        ("a <b> c", 0, ["'<b>' looks like a tag and was left out"]),
        ("<grounding> a </s>", 0, []),
    ],
)  # fmt: skip
def test_malformed_tags_are_told(tagged: str, entities: int, problems: list[str]) -> None:
    found = parse(tagged)
    assert len(found.entities) == entities
    assert list(found.problems) == problems


def test_a_bad_box_among_good_ones_is_left_out() -> None:
    tagged = f"<phrase>a</phrase><object>{BOX}{DELIMITER}<patch_index_0000><patch_index_4096>{DELIMITER}{BOX}</object>"
    (entity,) = parse(tagged).entities
    assert entity.cells == ((0, 33), (0, 33))
    assert entity.locations == (0, 4)


def test_text_that_spells_tags_is_refused() -> None:
    with pytest.raises(InputError, match="'<' at character 3"):
        build(["a ", Phrase("b <phrase>", ((0, 1),))])


def test_boxes_for_other_phrases_are_refused() -> None:
    with pytest.raises(InputError, match="1 phrases, but boxes are given for 2"):
        insert_boxes("<phrase>a</phrase>", [None, [(0, 1)]])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(SCRAPS), st.text(max_size=6)), max_size=30).map("".join))
def test_anything_is_parsed(tagged: str) -> None:
    found = parse(tagged)
    for entity in found.entities:
        start, end = entity.span
        assert 0 <= start <= end <= len(found.text)
        assert len(entity.cells) == len(entity.boxes) == len(entity.locations) > 0
        if start < end:
            assert found.text[start:end] == entity.phrase
        for cells, box in zip(entity.cells, entity.boxes, strict=True):
            assert GRID.in_order(cells)
            assert 0 <= box[0] < box[2] <= 1
            assert 0 <= box[1] < box[3] <= 1


@pytest.mark.parametrize(
    "scrap", ["<", "<phrase>", "<phrase>a", "<object>", "<object><patch_index_0001>", "<\n>", " "]
)
def test_long_malformed_output_takes_no_long_time(scrap: str) -> None:
    start = time.perf_counter()
    parse(scrap * 50_000)
    assert time.perf_counter() - start < 20
