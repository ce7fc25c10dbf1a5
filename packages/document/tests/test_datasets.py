"""Every data set layout, read from small samples made here; and what a broken file is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from multiway_core.errors import DataError, InputError
from multiway_document.datasets import KINDS, OcrSample, detect, load
from multiway_document.export import export
from multiway_document.result import Document, Line, Page
from PIL import Image

SROIE = Path(__file__).parents[4] / "shared" / "data" / "documents" / "sroie"
ROWS = "72,25,326,25,326,64,72,64,TAN WOON YANN\n5,70,90,71,90,82,5,81,27,JALAN DEDAP 13,\n\n"


def put(path: Path, content: Any) -> Path:
    """A file with the content: a picture for True, JSON for data, else text or bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is True:
        Image.new("L", (40, 30), 255).save(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def one(path: Path, kind: str | None = None) -> OcrSample:
    (sample,) = load(path, kind)
    assert sample.image_path.is_file()
    return sample


def word(text: str, *box: int) -> dict[str, Any]:
    return {"text": text, "box": list(box)}


@pytest.fixture
def funsd(tmp_path: Path) -> Path:
    form = [
        # out of visual order, as FUNSD is: the answer comes first
        {"id": 1, "label": "answer", "words": [word("12", 120, 10, 140, 22), word("", 141, 10, 142, 22)]},
        {
            "id": 0,
            "label": "question",
            "words": [
                word("Total", 10, 11, 50, 23),
                word("due:", 55, 11, 90, 23),
                word("(net)", 10, 30, 50, 42),
            ],
        },
    ]
    put(tmp_path / "annotations" / "0001.json", {"form": form})
    put(tmp_path / "images" / "0001.png", True)
    return tmp_path


def test_funsd(funsd: Path) -> None:
    assert detect(funsd) == "funsd"
    sample = one(funsd)
    assert sample.name == "0001"
    assert sample.text == "Total due:\n12\n(net)"
    assert sample.boxes == [(10, 11, 90, 23), (120, 10, 140, 22), (10, 30, 50, 42)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"form": [\n{"words": 3}]}', r"0001\.json\.form\[0\]\.words: expected a list, got 3"),
        ('{"form": [\n{"words": []},\n', r"0001\.json:3: not JSON"),
        ({"forms": []}, r"0001\.json: missing key 'form'"),
        ([], r"0001\.json: expected an object, got \[\]"),
        ({"form": [{"words": [word("a", 1, 2, 3)]}]}, r"form\[0\]\.words\[0\]\.box: expected 4 or 8"),
        (
            {"form": [{"words": [{"text": "a", "box": [1, 2, 3, "x"]}]}]},
            r"words\[0\]\.box: expected a number",
        ),
        ({"form": [{"words": [{"text": 7, "box": [1, 2, 3, 4]}]}]}, r"words\[0\]\.text: expected a string"),
        (b'{"form":\n [\xff]}', r"0001\.json:2: not UTF-8"),
        ("[" * 100_000, r"0001\.json: not JSON: nested too deeply"),
    ],
)
def test_funsd_errors(funsd: Path, content: Any, message: str) -> None:
    put(funsd / "annotations" / "0001.json", content)
    with pytest.raises(DataError, match=message):
        list(load(funsd))


def test_missing_picture_is_named(funsd: Path) -> None:
    (funsd / "images" / "0001.png").unlink()
    with pytest.raises(DataError, match=r"0001\.json: no picture .*images/0001\{\.png"):
        list(load(funsd))


def test_sroie_in_its_three_layouts(tmp_path: Path) -> None:
    facts = {"company": "TAN", "total": "60.30"}
    challenge, apart, together = (tmp_path / name for name in ("challenge", "apart", "together"))
    put(challenge / "X1.jpg", True)
    put(challenge / "X1.txt", "\ufeff" + ROWS.replace("\n", "\r\n"))
    put(apart / "img" / "X1.jpg", True)
    put(apart / "box" / "X1.txt", ROWS)
    put(apart / "entities" / "X1.txt", facts)
    put(together / "X1.jpg", True)
    put(together / "X1.box.csv", ROWS)
    put(together / "X1.key.json", facts)
    for folder in (challenge, apart, together):
        assert detect(folder) == "sroie"
        sample = one(folder)
        assert sample.name == "X1"
        assert sample.text == "TAN WOON YANN\n27,JALAN DEDAP 13,"  # commas belong to the text
        assert sample.boxes == [(72, 25, 326, 64), (5, 70, 90, 82)]
        assert sample.fields == ({} if folder is challenge else facts)


def test_sroie_errors_and_odd_rows(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", True)
    rows = put(tmp_path / "a.txt", ROWS + "1,2,3,4,five\n")
    with pytest.raises(DataError, match=r"a\.txt:4: expected x1,y1,.*got '1,2,3,4,five'"):
        list(load(tmp_path))
    put(rows, ROWS + "1,2,3,4,5,6,7,x,text\n")
    with pytest.raises(DataError, match=r"a\.txt:4: expected a number, got 'x'"):
        list(load(tmp_path))
    put(rows, "1,2,3,4,5,6,7,8,\n1,2,3,4,5,6,7,8,CAF\xc9\n".encode("cp1252"))
    assert one(tmp_path).text == "CAFÉ"


@pytest.mark.shared_data
@pytest.mark.skipif(not SROIE.is_dir(), reason="needs ../shared/data")
def test_real_sroie() -> None:
    samples = list(load(SROIE / "test"))
    assert len(samples) == 25
    first = samples[0]
    assert (first.name, first.fields["total"], len(first.lines or ())) == ("001", "60.30", 48)
    for sample in samples:
        with Image.open(sample.image_path) as image:
            for x0, y0, x1, y1 in sample.boxes:
                assert -2 <= x0 < x1 <= image.width + 2
                assert -2 <= y0 < y1 <= image.height + 2


def test_cord(tmp_path: Path) -> None:
    def quad(x0: int, y0: int, x1: int, y1: int) -> dict[str, int]:
        return {"x1": x0, "y1": y0, "x2": x1, "y2": y0, "x3": x1, "y3": y1, "x4": x0, "y4": y1}

    def entry(text: str, row: int, *box: int) -> dict[str, Any]:
        return {"text": text, "row_id": row, "is_key": 0, "quad": quad(*box)}

    receipt = {
        "valid_line": [
            {"category": "total.total_price", "words": [entry("9.00", 7, 70, 50, 95, 62)]},
            {"category": "menu.price", "words": [entry("4.50", 3, 70, 20, 95, 32)]},
            {"category": "menu.nm", "words": [entry("TEA", 3, 30, 20, 60, 31), entry("", 3, 0, 0, 1, 1)]},
            {"category": "menu.cnt", "words": [entry("2x", 3, 10, 21, 25, 32)]},
            {"category": "total.total_price", "words": [entry("Total", 7, 10, 50, 40, 62)]},
        ],
        "dontcare": [],
        "meta": {"image_id": 0},
    }
    put(tmp_path / "json" / "receipt_00000.json", receipt)
    put(tmp_path / "image" / "receipt_00000.png", True)
    assert detect(tmp_path) == "cord"
    sample = one(tmp_path)
    assert sample.text == "2x TEA 4.50\nTotal 9.00"
    assert sample.boxes == [(10, 20, 95, 32), (10, 50, 95, 62)]

    del receipt["valid_line"][0]["words"][0]["quad"]["y3"]  # type: ignore[index]
    put(tmp_path / "json" / "receipt_00000.json", receipt)
    with pytest.raises(DataError, match=r"valid_line\[0\]\.words\[0\]\.quad: missing key 'y3'"):
        list(load(tmp_path))


@pytest.fixture
def omnidocbench(tmp_path: Path) -> Path:
    def block(category: str, order: int | None, y: int, name: int, **content: Any) -> dict[str, Any]:
        poly = [10.0, y, 200.0, y, 200.0, y + 20, 10.0, y + 20]
        return {
            "category_type": category, "poly": poly, "ignore": False, "order": order, "anno_id": name,
            **content,
        }  # fmt: skip

    def span(text: str, x: int, y: int, kind: str = "text_span", key: str = "text") -> dict[str, Any]:
        return {"category_type": kind, "poly": [x, y, x + 50, y, x + 50, y + 8, x, y + 8], key: text}

    paragraph = [
        span("First line", 10, 60),
        span("x^2", 70, 60, "equation_inline", "latex"),
        span("second", 10, 70),
    ]
    page = {
        "layout_dets": [
            block("page_number", None, 400, 9, text="7"),
            block("header", None, 1, 8, text="Running head"),
            block("text_block", 2, 60, 2, text="First line $x^2$ second", line_with_spans=paragraph),
            block("title", 1, 30, 1, text="The title"),
            block("text_block", 3, 100, 3, text="goes on."),
            block("table", 4, 130, 4, html="<table><tr><td>1</td></tr></table>", latex="\\begin{tabular}"),
            block("equation_isolated", 5, 160, 5, latex="$$a+b$$"),
            block("figure", 6, 190, 6),
            block("text_block", 7, 220, 7, text="hidden") | {"ignore": True},
        ],
        "page_info": {
            "page_no": 0, "width": 300, "height": 500, "image_path": "p1.png",
            "page_attribute": {"data_source": "book", "language": "english"},
        },
        "extra": {"relation": [{"source_anno_id": 2, "target_anno_id": 3, "relation_type": "truncated"}]},
    }  # fmt: skip
    put(tmp_path / "OmniDocBench.json", [page])
    put(tmp_path / "images" / "p1.png", True)
    return tmp_path


def test_omnidocbench(omnidocbench: Path) -> None:
    assert detect(omnidocbench) == detect(omnidocbench / "OmniDocBench.json") == "omnidocbench"
    sample = one(omnidocbench)
    assert (sample.name, sample.category) == ("p1", "book")
    assert sample.text.split("\n") == [
        "Running head",
        "The title",
        "First line x^2",
        "second",
        "goes on.",
        "$$a+b$$",
        "7",
    ]
    assert sample.boxes[2] == (10, 60, 120, 68)
    assert sample.markdown == (
        "# The title\n\nFirst line $x^2$ second goes on.\n\n<table><tr><td>1</td></tr></table>\n\n$$\na+b\n$$"
    )
    assert one(omnidocbench / "OmniDocBench.json") == sample


def test_omnidocbench_merged_blocks_and_ignored_spans(omnidocbench: Path) -> None:
    path = omnidocbench / "OmniDocBench.json"
    (page,) = json.loads(path.read_text())
    paragraph = page["layout_dets"][2]
    parts = [
        {
            **paragraph,
            "anno_id": 20,
            "text": "one",
            "poly": [10, 60, 90, 60, 90, 68, 10, 68],
            "line_with_spans": [],
        },
        {**paragraph, "anno_id": 21, "text": "two", "poly": [10, 70, 90, 70, 90, 78, 10, 78]},
    ]
    parts[1]["line_with_spans"] = [
        {"category_type": "text_span", "poly": [10, 70, 40, 70, 40, 78, 10, 78], "text": "two"},
        {
            "category_type": "equation_ignore",
            "poly": [50, 70, 80, 70, 80, 78, 50, 78],
            "latex": "$z$",
            "ignore": True,
        },
    ]
    paragraph |= {"text": "one\ntwo", "merge_list": parts}
    del paragraph["line_with_spans"]
    put(path, [page])
    sample = one(omnidocbench)
    assert sample.text.split("\n")[2:4] == ["one", "two"]
    assert sample.boxes[2:4] == [(10, 60, 90, 68), (10, 70, 40, 78)]
    assert sample.markdown is not None
    assert "one\ntwo goes on." in sample.markdown


def test_omnidocbench_errors(omnidocbench: Path) -> None:
    path = omnidocbench / "OmniDocBench.json"
    (page,) = json.loads(path.read_text())
    page["layout_dets"][2]["line_with_spans"][1]["poly"] = [1, 2]
    put(path, [page])
    with pytest.raises(
        DataError, match=r"\[0\]\.layout_dets\[2\]\.line_with_spans\[1\]\.poly: expected 4 or 8"
    ):
        list(load(omnidocbench))
    page["layout_dets"][3]["order"] = "first"
    put(path, [page])
    with pytest.raises(DataError, match=r"layout_dets\[3\]\.order: expected a number or null"):
        list(load(omnidocbench))
    page["page_info"]["image_path"] = "../../p2.png"
    put(path, [page])
    with pytest.raises(DataError, match=r"image_path: no picture .*images/p2\.png"):
        list(load(omnidocbench))
    put(path, {"pages": []})
    with pytest.raises(DataError, match="expected a list of pages"):
        list(load(omnidocbench))


def test_pictures_with_ground_truth_of_the_same_name(tmp_path: Path) -> None:
    lines = (Line("Grüße 中文", (1, 2, 30, 12), 0.5), Line("b <c>", (1, 14, 20, 24), 1.0))
    document = Document("d.png", "human", (Page(0, 40, 30, lines, markdown="# m"),))
    for name in ("a.png", "b.jpg", "c.tif", "clean/d.png", "clean/e.png"):
        put(tmp_path / name, True)
    put(tmp_path / "a.txt", "one\r\ntwo\n")
    put(tmp_path / "a.md", "# one\n\ntwo\n")
    put(tmp_path / "b.md", "# only markdown\n")
    put(tmp_path / "c.hocr", export(document, "hocr"))
    put(tmp_path / "clean" / "d.json", export(document, "json"))
    put(tmp_path / "clean" / "e.json", export(document, "jsonl"))
    put(tmp_path / "clean" / "e.txt", "typed by hand\n")
    assert detect(tmp_path) == "paired"
    a, b, c, d, e = load(tmp_path)
    assert [s.name for s in (a, b, c, d, e)] == ["a", "b", "c", "clean/d", "clean/e"]
    assert (a.text, a.markdown, a.lines, a.category) == ("one\ntwo", "# one\n\ntwo\n", None, None)
    assert (b.text, b.markdown, b.boxes) == ("# only markdown\n", "# only markdown\n", [])
    assert (c.text, c.boxes) == ("Grüße 中文\nb <c>", [(1, 2, 30, 12), (1, 14, 20, 24)])
    assert (d.text, d.lines, d.markdown, d.category) == (c.text, lines, "# m", "clean")
    assert (e.text, e.lines) == ("typed by hand", lines)

    put(tmp_path / "clean" / "f.png", True)
    with pytest.raises(DataError, match=r"f\.png: no ground truth beside it \(any of f\.txt, f\.md"):
        list(load(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.json",
            {"schema": "other/1", "source": "", "model": "", "pages": []},
            r"a\.json\.schema: expected",
        ),
        ("a.json", {"schema": "multiway.ocr/1", "source": "", "model": "", "pages": []}, "expected one page"),
        ("a.txt", b"good\nb\xffd", r"a\.txt:2: not UTF-8"),
        (
            "a.hocr",
            "<div class='ocr_page'>\n<span class='ocr_line'>x</span></div>",
            r"a\.hocr:2: a line without",
        ),
        ("a.hocr", "<p>no page</p>", "expected one ocr_page, got 0"),
        (
            "a.hocr",
            "<b class='ocr_page'><i class='ocr_line' title='bbox 1 2 3'>x</i></b>",
            r":1: expected bbox",
        ),
    ],
)
def test_paired_errors(tmp_path: Path, name: str, content: Any, message: str) -> None:
    put(tmp_path / "a.png", True)
    put(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        list(load(tmp_path))


def test_tesseract_style_hocr(tmp_path: Path) -> None:
    put(tmp_path / "a.png", True)
    put(
        tmp_path / "a.hocr",
        "<html><body><div class='ocr_page' title='image \"x.png\"; bbox 0 0 40 30'><div class='ocr_carea'>"
        "<p class='ocr_par'><span class='ocr_line' title=\"bbox 1 2 30 12; baseline 0 -5; x_size 20\">"
        "<span class='ocrx_word' title='bbox 1 2 9 12; x_wconf 90'><strong>Hi</strong></span> "
        "<span class='ocrx_word' title='bbox 10 2 30 12'>R&amp;D<br>x</span></span></p>"
        "<p><span class='ocr_header' title='bbox 0 20 9 29'> </span></p></div></div>",
    )
    assert one(tmp_path).lines == (Line("Hi R&D x", (1, 2, 30, 12), 1.0),)


def test_unknown_layouts_kinds_and_parts(tmp_path: Path, funsd: Path) -> None:
    with pytest.raises(InputError, match="no data set at"):
        load(tmp_path / "absent")
    with pytest.raises(InputError, match=f"unknown data set kind 'mnist'; one of: {', '.join(KINDS)}"):
        load(tmp_path, "mnist")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="is no known data set; known layouts: FUNSD"):
        load(empty)
    parts = tmp_path / "parts"
    for part in ("testing_data", "training_data"):
        put(parts / part / "annotations" / "1.json", {"form": []})
        put(parts / part / "images" / "1.png", True)
    with pytest.raises(DataError, match=r"has the parts testing_data, training_data; .*parts/testing_data"):
        load(parts)
    assert one(parts / "testing_data").text == ""


def test_samples_come_lazily(funsd: Path) -> None:
    put(funsd / "annotations" / "0002.json", "broken")
    samples = load(funsd)
    assert next(samples).name == "0001"
    with pytest.raises(DataError, match="0002"):
        next(samples)
