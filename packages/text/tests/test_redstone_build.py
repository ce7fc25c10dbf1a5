"""A build's files: the same bytes for any division of the work, nothing lost or twice, every reason reported."""

import json

import pyarrow.parquet as pq
import pytest
from multiway_core.errors import DataError, InputError
from multiway_text.documents import TextFiles
from multiway_text.redstone.archive_writer import warc_record
from multiway_text.redstone.minhash import hash64
from multiway_text.redstone.pipeline import Pipeline, Recipe
from multiway_text.redstone.sentences import split_sentences
from multiway_text.redstone.shards import (
    DROPPED,
    WORK,
    Repeats,
    connect,
    divide_lines,
    finish,
    group_band,
    group_lines,
    merged,
    read_input,
    work_on,
)
from multiway_text.redstone.storage import read_records

STORIES = [
    "Rain fell on the hills all night, and by morning the small river had left its bed. The miller opened both gates.",
    "His daughter carried sacks of flour to the upper floor, where they would stay dry until the boat came.",
    "At noon a neighbour came with a boat to ask whether anyone needed help. They drank tea and watched the water.",
    "Nobody younger than sixty could have seen the earlier floods of which the three of them spoke that afternoon.",
    "When the sun came back the fields lay under a shining sheet, and herons walked where the barley had been.",
    "The council met in the school, because the town hall had a foot of mud on its floor and no light at all.",
]


def page(*numbers, extra=""):
    text = "".join(f"<p>{STORIES[number]}</p>" for number in numbers)
    return f"<html><body><article><h1>A flood</h1>{text}{extra}</article></body></html>".encode()


PAGES = {
    "http://e.org/a": page(0, 1, 2, 3),
    "http://e.org/a-again": page(0, 1, 2, 3),
    "http://e.org/b": page(5, 4, 3, 2, extra="<p>17 comments</p>"),
    "http://e.org/short": page(0),
    "http://e.org/de": b"<html><body><p>" + "In der Nacht regnete es auf den Hügeln. ".encode() * 20,
    "http://e.org/empty": b"<html></html>",
}


@pytest.fixture(scope="module")
def pipeline():
    with Pipeline(Recipe("web", extractor="resiliparse")) as found:
        yield found


def build(folder, groups, pipeline, form="parquet", lines=False, line_shares=3):
    """The parts of a build whose inputs hold these groups of addresses."""
    works, repeats = [], Repeats(lines=lines)
    for number, group in enumerate(groups):
        path = folder / f"{number}.warc.gz"
        path.write_bytes(b"".join(warc_record(uri, PAGES[uri]) for uri in group) + b"\x1f\x8b\x08broken")
        works.append(folder / WORK.format(number))
        work_on(path, works[-1], pipeline, repeats)
    edges = [folder / f"work/{band}.npy" for band in range(repeats.minhash.bands)]
    for band, path in enumerate(edges):
        group_band(works, band, path)
    connect(works, edges)
    if lines:
        shares = [folder / f"work/lines-{share}.npy" for share in range(line_shares)]
        for share, path in enumerate(shares):
            group_lines(works, share, line_shares, path)
        divide_lines(works, shares)
    return merged([finish(work, i, folder, form) for i, work in enumerate(works)])


def rows(folder):
    """What the parts hold, in the order of ids; at least the two stories."""
    found = [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert len(found) == 2
    return sorted((row["id"], row["uri"], row["text"]) for row in found)


def test_a_build_keeps_drops_and_reports(tmp_path, pipeline):
    report = build(tmp_path, [list(PAGES)], pipeline)
    kept = pq.read_table(tmp_path / "part-00000.parquet").to_pylist()
    assert {row["uri"] for row in kept} in (
        {"http://e.org/a", "http://e.org/b"},
        {"http://e.org/a-again", "http://e.org/b"},
    )
    assert "17 comments" not in kept[-1]["text"]
    assert kept[0]["extractor"].startswith("resiliparse ")
    assert kept[0]["language"] == "en"
    assert json.loads(kept[0]["meta"])["rules"]["words"] > 50
    assert (report["pages"], report["kept"]) == (7, 2)
    assert report["dropped"] == {
        "duplicate": 1,
        "document: words": 1,
        "language: de": 1,
        "extraction: no text": 1,
        "archive: a damaged gzip member (unknown header flags set)": 1,
    }
    assert report["bad_records"][0].startswith("0.warc.gz, offset ")
    dropped = list(read_records(tmp_path / DROPPED.format(0)))
    assert len(dropped) == 5
    assert {r.uri: r.drop_reason for r in dropped}["http://e.org/de"] == "language: de"
    assert next(iter(TextFiles([tmp_path]))).text == kept[0]["text"]  # what a training reads of the folder


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_rows_do_not_depend_on_the_number_of_inputs(tmp_path, pipeline, groups):
    (tmp_path / "one").mkdir()
    build(tmp_path / "one", [list(PAGES)], pipeline)
    addresses = list(reversed(PAGES))
    build(tmp_path, [addresses[i::groups] for i in range(groups)], pipeline)
    assert rows(tmp_path) == rows(tmp_path / "one")
    before = [path.read_bytes() for path in sorted(tmp_path.glob("part-*"))]
    build(tmp_path, [addresses[i::groups] for i in range(groups)], pipeline)
    assert [path.read_bytes() for path in sorted(tmp_path.glob("part-*"))] == before


def test_the_same_archive_twice_gives_its_pages_once(tmp_path, pipeline):
    (tmp_path / "one").mkdir()
    build(tmp_path / "one", [list(PAGES)], pipeline)
    build(tmp_path, [list(PAGES), list(PAGES)], pipeline)
    assert rows(tmp_path) == rows(tmp_path / "one")


@pytest.mark.parametrize(("groups", "shares"), [(1, 1), (2, 3), (6, 8)])
def test_lines_that_stand_elsewhere_go_once(tmp_path, pipeline, groups, shares):
    addresses = list(PAGES)
    report = build(
        tmp_path, [addresses[i::groups] for i in range(groups)], pipeline, lines=True, line_shares=shares
    )
    kept = sorted(
        (row for path in tmp_path.glob("part-*") for row in pq.read_table(path).to_pylist()),
        key=lambda row: hash64(row["id"]),
    )
    assert report["repeated_lines"] == 4  # the heading, and two stories of three sentences
    first, second = (row["text"].split("\n") for row in kept)
    assert not set(first) & set(second)
    whole = {sentence for number in range(6) for sentence in split_sentences(STORIES[number])}
    assert {line for line in first + second if line != "A flood"} == whole
    assert len(first) + len(second) == len(whole) + 1


def test_json_lines_with_zstd_are_read_by_a_training(tmp_path, pipeline):
    build(tmp_path, [list(PAGES)], pipeline, form="jsonl.zst")
    texts = [document.text for document in TextFiles([tmp_path])]
    assert len(texts) == 2
    assert texts[0] in (record.text for record in pipeline(read_input(tmp_path / "0.warc.gz")))
    (tmp_path / "parquet").mkdir()
    build(tmp_path / "parquet", [list(PAGES)], pipeline)
    lines, table = (
        list(read_records(tmp_path / name)) for name in ("part-00000.jsonl.zst", "parquet/part-00000.parquet")
    )
    assert lines == table


def test_inputs_of_other_kinds(tmp_path):
    (tmp_path / "x.html").write_bytes(PAGES["http://e.org/a"])
    (tmp_path / "x.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n')
    (record,) = read_input(tmp_path / "x.html")
    assert (record.html, record.uri) == (PAGES["http://e.org/a"], "x.html")
    assert [(r.text, r.meta["offset"]) for r in read_input(tmp_path / "x.jsonl")] == [("one", 1), ("two", 3)]
    (tmp_path / "y.jsonl").write_text(
        '{"text": "one", "url": "http://x/", "label": 3}\n{"text": \n[1]\n{"text": 2}\n'
    )
    kept, *bad = read_input(tmp_path / "y.jsonl")
    assert (kept.uri, kept.meta["source"]) == ("http://x/", {"url": "http://x/", "label": 3})
    assert [record.meta["offset"] for record in bad] == [2, 3, 4]
    assert {record.drop_reason.split(":")[0] for record in bad} == {"archive"}
    (tmp_path / "z.jsonl").write_bytes(b'{"text": "caf\xe9"}\n{"text": "one"}\n')
    assert [record.text for record in read_input(tmp_path / "z.jsonl")] == ["caf\ufffd", "one"]
    with Pipeline(Recipe("texts")) as pipeline:
        assert [r.text for r in pipeline(read_input(tmp_path / "x.jsonl"))] == ["one", "two"]


def test_a_trace_ends_where_the_page_is_dropped(tmp_path, pipeline):
    (tmp_path / "x.html").write_bytes(PAGES["http://e.org/de"])
    trace = pipeline.trace(next(iter(read_input(tmp_path / "x.html"))))
    assert [name for name, _ in trace] == ["extraction", "language"]
    assert trace[-1][1].drop_reason == "language: de"


def test_bad_recipes_and_files(tmp_path):
    with pytest.raises(InputError, match="no recipe 'x'; there are web, code, math, qa, texts"):
        Recipe("x")
    (tmp_path / "x.records").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a file of records"):
        list(read_records(tmp_path / "x.records"))


def test_the_recipes_of_math_and_code(tmp_path):
    formulas = "".join(
        rf'<script type="math/tex">\{name} x</script>' for name in ("alpha", "beta", "gamma", "sin", "cos")
    )
    PAGES_ = {
        "math": page(0, 1, extra=f"<p>{formulas}</p>"),
        "code": page(0, 1, extra="<pre>def f(x):\n    return x</pre>"),
    }
    for name, html in PAGES_.items():
        (tmp_path / f"{name}.html").write_bytes(html)
    for recipe in ("math", "code"):
        with Pipeline(Recipe(recipe)) as pipeline:
            found = {name: next(pipeline(read_input(tmp_path / f"{name}.html"))) for name in PAGES_}
        other = "code" if recipe == "math" else "math"
        assert found[recipe].drop_reason == ""
        assert found[other].drop_reason == f"{recipe}: no sign of it in the markup"
