from __future__ import annotations

import contextlib
import json
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_document.result import SCHEMA, Document, Line, Page, Word, page_from_json, page_to_json

DOCUMENT = Document(
    source="scan.png",
    model="ocr-small",
    pages=(
        Page(
            index=0,
            width=640,
            height=480,
            lines=(
                Line(
                    "Invoice № 7",
                    (10.0, 12.5, 200.0, 30.0),
                    0.93,
                    words=(Word("Invoice", (10.0, 12.5, 90.0, 30.0), 0.5),),
                ),
                Line("", (0.0, 0.0, 0.0, 0.0), 0.0, ("empty", "low-confidence")),
            ),
            markdown="# Invoice № 7",
            truncated=True,
            flags=("unread_text",),
        ),
        Page(index=1, width=1, height=1, lines=()),
    ),
)


def test_json_has_exactly_the_documented_form():
    assert DOCUMENT.to_json() == {
        "schema": "multiway.ocr/1",
        "source": "scan.png",
        "model": "ocr-small",
        "pages": [
            {
                "index": 0,
                "width": 640,
                "height": 480,
                "lines": [
                    {
                        "text": "Invoice № 7",
                        "box": [10, 12.5, 200, 30],
                        "confidence": 0.93,
                        "flags": [],
                        "words": [{"text": "Invoice", "box": [10, 12.5, 90, 30], "confidence": 0.5}],
                    },
                    {
                        "text": "",
                        "box": [0, 0, 0, 0],
                        "confidence": 0,
                        "flags": ["empty", "low-confidence"],
                        "words": [],
                    },
                ],
                "markdown": "# Invoice № 7",
                "truncated": True,
                "looped": False,
                "flags": ["unread_text"],
            },
            {
                "index": 1,
                "width": 1,
                "height": 1,
                "lines": [],
                "markdown": None,
                "truncated": False,
                "looped": False,
                "flags": [],
            },
        ],
    }


def test_json_from_before_pages_had_flags_and_lines_words_is_read():
    data = DOCUMENT.to_json()
    for page in data["pages"]:
        del page["flags"]
        for line in page["lines"]:
            del line["words"]
    assert Document.from_json(data).text == DOCUMENT.text


def test_json_comes_back_equal():
    assert Document.from_json(json.loads(json.dumps(DOCUMENT.to_json()))) == DOCUMENT
    for page in DOCUMENT.pages:
        assert page_from_json(page_to_json(page)) == page


def test_text_joins_lines_and_pages():
    assert DOCUMENT.pages[0].text == "Invoice № 7\n"
    assert Document("s", "m", (DOCUMENT.pages[0], DOCUMENT.pages[0])).text == "Invoice № 7\n\n\nInvoice № 7\n"


def test_numpy_numbers_become_plain_json():
    import numpy as np

    line = Line("a", tuple(np.float32(v) for v in (1, 2, 3, 4.123456)), np.float64(0.5))
    page = page_to_json(Page(0, 5, 5, (line,)))
    assert json.loads(json.dumps(page))["lines"][0]["box"] == [1, 2, 3, 4.12]


def test_a_source_name_that_is_no_utf8_can_be_written():
    name = b"scan\xff.png".decode("utf-8", "surrogateescape")
    data = Document(name, "m", ()).to_json()
    assert json.dumps(data, ensure_ascii=False).encode("utf-8")
    assert data["source"] == "scan\ufffd.png"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), "multiway.ocr/2", "document.schema: expected 'multiway.ocr/1'"),
        (("source",), 3, "document.source: expected a string"),
        (("pages",), {}, "document.pages: expected a list"),
        (("pages", 0, "index"), -1, "document.pages[0].index: expected a whole number"),
        (("pages", 0, "width"), True, "document.pages[0].width"),
        (("pages", 0, "width"), 1.0, "document.pages[0].width"),
        (("pages", 0, "markdown"), 1, "document.pages[0].markdown: expected a string"),
        (("pages", 0, "looped"), 0, "document.pages[0].looped: expected true or false"),
        (("pages", 0, "lines", 1, "text"), None, "document.pages[0].lines[1].text"),
        (("pages", 0, "lines", 0, "box"), [1, 2, 3], "document.pages[0].lines[0].box"),
        (("pages", 0, "lines", 0, "box"), [3, 2, 1, 4], "document.pages[0].lines[0].box"),
        (("pages", 0, "lines", 0, "box"), [1, 2, 3, float("nan")], "finite"),
        (("pages", 0, "lines", 0, "box"), [1, 2, 3, 10**400], "finite"),
        (("pages", 0, "lines", 0, "confidence"), 1.5, "from 0 to 1"),
        (("pages", 0, "lines", 0, "flags"), ["a", 1], "flags[1]: expected a string"),
        (("extra",), 1, "unknown key 'extra'"),
        (("pages", 1, "words"), [], "document.pages[1]: unknown key 'words'"),
    ],
)
def test_wrong_data_is_refused_with_its_place(path, value, message):
    data = deepcopy(DOCUMENT.to_json())
    target = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(InputError) as caught:
        Document.from_json(data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named():
    data = DOCUMENT.to_json()
    del data["pages"][0]["height"]
    with pytest.raises(InputError, match=r"document\.pages\[0\]: missing key 'height'"):
        Document.from_json(data)


JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["schema", "source", "model", "pages", "index", "lines", "box"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON_DATA)
def test_any_json_is_read_or_refused(data):
    for candidate in (data, {"schema": SCHEMA, "source": "s", "model": "m", "pages": data}):
        with contextlib.suppress(InputError):
            assert isinstance(Document.from_json(candidate), Document)
