"""The index and its pipeline on a tiny model: passages, updates, interruptions, both parts of a query, bad input."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import DataError, InputError
from multiway_text.search import extract, lexical, update, vectors
from multiway_text.search.chunks import ChunkSettings, sentences, split
from multiway_text.search.fusion import reciprocal_ranks, weighted_sum
from multiway_text.search.pictures import Scope
from multiway_text.search.pipeline import SearchPipeline, delete_documents, spans_of
from multiway_text.search.store import Index

from packages.text.tests.tiny_encoder import sentence_model, tokenizer


@pytest.fixture(scope="module")
def pipeline(tiny_encoder: Path) -> SearchPipeline:
    return SearchPipeline.from_pretrained(str(tiny_encoder))


@pytest.fixture
def index(pipeline: SearchPipeline, tmp_path: Path) -> Any:
    with pipeline.open(tmp_path / "index", create=True, tokens=16) as opened:
        yield opened


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.md").write_text("# Anna\n\nAnna lives in Paris. It was very good.\n\nTom was in London.")
    (folder / "deep" / "b.txt").write_text("A bad film. " * 40)
    (folder / "c.html").write_text("<title>Tom</title><script>var bad</script><p>Good <b>film</b> in London")
    (folder / "rows.jsonl").write_text('{"text": "anna"}\nnot json\n{"body": "x"}\n{"text": "paris"}\n')
    (folder / "empty.txt").write_text(" \n")
    (folder / "binary.txt").write_bytes(bytes(range(256)))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (folder / ".hidden.md").write_text("hidden")
    (folder / "picture.png").write_bytes(b"no text")
    return folder


def contents(index: Index) -> list[tuple[Any, ...]]:
    """All that a reader can see, but for ids."""
    rows = index.connection.execute(
        "SELECT d.path, c.place, c.start, c.end, c.text, v.vector FROM documents d JOIN chunks c ON c.document = d.id "
        "JOIN vectors v ON v.chunk = c.id WHERE d.whole ORDER BY 1, c.id"
    )
    return rows.fetchall()


def is_like(one: Index, other: Index) -> None:
    """The same passages with the same vectors, but for the order in which floats were added."""
    first, second = contents(one), contents(other)
    assert [row[:5] for row in first] == [row[:5] for row in second]
    near = [np.array([np.frombuffer(row[5], np.float16) for row in rows], float) for rows in (first, second)]
    np.testing.assert_allclose(*near, atol=2e-3)


def is_sound(index: Index) -> None:
    """No passage without its document, vector and words."""
    count = index.connection.execute("SELECT count(*) FROM chunks").fetchone()[0]
    for query in (
        "SELECT count(*) FROM chunks JOIN documents d ON d.id = document",
        "SELECT count(*) FROM chunks JOIN vectors ON chunk = id",
        "SELECT count(*) FROM words_docsize JOIN chunks USING (id)",
        "SELECT count(*) FROM words_docsize",
    ):
        assert index.connection.execute(query).fetchone()[0] == count, query
    index.connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab .!?\n。é-#", max_size=200), st.integers(4, 12), st.integers(0, 6))
def test_passages_have_their_characters_and_bounds(text: str, tokens: int, overlap: int) -> None:
    words = _tokenizer()
    found = split(text, words, ChunkSettings(tokens, overlap), "page 1")
    covered = set()
    for chunk in found:
        assert text[chunk.start : chunk.end] == chunk.text
        assert len(words.encode(chunk.text)) <= tokens
        assert chunk.place == "page 1"
        assert chunk.text == chunk.text.strip() or len(found) > 1
        covered |= set(range(chunk.start, chunk.end))
    assert all(place in covered for place, letter in enumerate(text) if letter.isalnum())
    if not overlap:
        assert sum(chunk.end - chunk.start for chunk in found) == len(covered)


def _tokenizer(cache: list[Any] = []) -> Any:  # noqa: B006 made once
    if not cache:
        import tempfile

        cache.append(tokenizer(Path(tempfile.mkdtemp())))
    return cache[0]


def test_sentences_and_headings() -> None:
    text = 'One. "Two?" Three\nwraps.\n- four\n\n# Five\nsix。七。'
    found = [text[start:end] for start, end in sentences(text)]
    assert found == ["One.", '"Two?"', "Three\nwraps.", "- four", "# Five\nsix。", "七。"]
    parts = split("Good film. Bad film.\n\n# Tom\n\nTom was in Paris.", _tokenizer(), ChunkSettings(60))
    assert [part.text[:5] for part in parts] == ["Good ", "# Tom"]


def test_overlap_repeats_the_last_sentences() -> None:
    text = "Anna lives in paris. Tom was in london. It was a film. Very good film."
    parts = split(text, _tokenizer(), ChunkSettings(12, 6))
    assert [part.text for part in parts] == [
        "Anna lives in paris. Tom was in london.",
        "Tom was in london. It was a film.",
        "It was a film. Very good film.",
    ]


def test_an_update_reads_what_changed_alone(pipeline: SearchPipeline, index: Index, notes: Path) -> None:
    first = pipeline.update(index, [notes])
    assert (first.added, first.empty, first.documents) == (5, 1, 7)
    assert {Path(path).name for path, _ in first.failed} == {"binary.txt", "broken.pdf"}
    assert [(Path(path).name, reason) for path, reason in first.problems] == [
        ("rows.jsonl", f"{notes}/rows.jsonl:2: not JSON (and 1 more)")
    ]
    is_sound(index)
    before = contents(index)
    assert {(Path(row[0]).name, row[1]) for row in before} >= {
        ("rows.jsonl", "line 1"),
        ("rows.jsonl", "line 4"),
    }
    assert [row[4] for row in before if row[0].endswith("c.html")] == ["Tom\n\nGood film in London"]

    again = pipeline.update(index, [])
    assert (again.unchanged, again.embedded, len(again.failed)) == (5, 0, 2)
    assert contents(index) == before

    (notes / "a.md").rename(notes / "deep" / "renamed.md")
    (notes / "c.html").unlink()
    text = (notes / "deep" / "b.txt").read_text()
    (notes / "deep" / "b.txt").write_text("Tom lives in a good film.\n\n" + text)
    os.utime(notes / "rows.jsonl", (1, 1))
    second = pipeline.update(index, [notes])
    assert (second.renamed, second.removed, second.changed, second.unchanged) == (1, 1, 1, 2)
    assert second.embedded == 2  # the passages around the new sentence; the others keep their vectors
    is_sound(index)

    with pipeline.open(index.folder.parent / "fresh", create=True, tokens=16) as fresh:
        pipeline.update(fresh, [notes])
        is_like(fresh, index)
    assert pipeline.update(index, [notes / "deep"]).removed == 0  # what is outside stays


class Stopped(BaseException):
    """In place of a signal."""


@pytest.mark.parametrize("moment", range(1, 7))
def test_a_stopped_update_goes_on_and_doubles_nothing(
    pipeline: SearchPipeline, index: Index, notes: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "GROUP", 3)
    rows = "".join(json.dumps({"text": f"anna {number} good film"}) + "\n" for number in range(10))
    (notes / "many.jsonl").write_text(rows)
    calls = 0
    embedded: list[str] = []

    def embed(texts: list[str], **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == moment:
            raise Stopped
        embedded.extend(texts)
        return type(pipeline).embed(pipeline, texts)

    monkeypatch.setattr(pipeline, "embed", embed)
    with pytest.raises(Stopped):
        pipeline.update(index, [notes])
    is_sound(index)
    pipeline.update(index, [notes])
    is_sound(index)
    assert list(index.documents(whole=False)) == []
    assert len([text for text in embedded if text.startswith("anna 5")]) == 1
    monkeypatch.undo()
    with pipeline.open(index.folder.parent / "fresh", create=True, tokens=16) as fresh:
        pipeline.update(fresh, [notes])
        is_like(fresh, index)


def test_a_file_changed_during_the_stop_is_read_anew(
    pipeline: SearchPipeline, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "GROUP", 2)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'"good {n}"\n' for n in range(6)))
    calls = iter([False, True, *[False] * 20])
    monkeypatch.setattr(
        pipeline, "embed", lambda texts: _stop() if next(calls) else type(pipeline).embed(pipeline, texts)
    )
    with pytest.raises(Stopped):
        pipeline.update(index, [path])
    assert index.count() == 0  # part of a document is not shown
    assert [part.sections for part in index.documents(whole=False)] == [2]
    path.write_text('"bad"\n')
    pipeline.update(index, [path])
    assert [row[4] for row in contents(index)] == ["bad"]
    is_sound(index)


def _stop() -> Any:
    raise Stopped


def test_one_writer_at_a_time(pipeline: SearchPipeline, index: Index, notes: Path) -> None:
    with Index(index.folder) as other, other.writing():
        with pytest.raises(InputError, match="another process writes to this index"):
            pipeline.update(index, [notes])
        assert pipeline.query(index, "anna").hits == ()  # readers do not wait
    assert pipeline.update(index, [notes]).added == 5


def test_a_query_by_meaning_words_or_both(pipeline: SearchPipeline, index: Index, notes: Path) -> None:
    pipeline.update(index, [notes])
    by_words = pipeline.query(index, "Paris", mode="bm25")
    assert [Path(hit.passage.path).name for hit in by_words.hits] == ["rows.jsonl", "a.md"]
    hit = by_words.hits[1]
    assert [hit.passage.text[a:b] for a, b in hit.terms] == ["Paris"]
    whole = Path(hit.passage.path).read_text()
    assert whole[hit.passage.start : hit.passage.end] == hit.passage.text
    dense = pipeline.query(index, "anna lives in paris.", mode="dense", top=100)
    cosines = [hit.cosine for hit in dense.hits]
    assert cosines == sorted(cosines, reverse=True)
    assert len(dense.hits) == index.count()
    expected = pipeline.embed(["anna lives in paris."])[0] @ pipeline.embed([dense.hits[3].passage.text])[0]
    assert cosines[3] == pytest.approx(expected, abs=2e-3)
    both = pipeline.query(index, "anna lives in paris.")
    best = next(hit for hit in both.hits if hit.passage.path.endswith("a.md") and "lives" in hit.passage.text)
    assert best.highlight is not None
    assert "Anna lives in Paris." in best.passage.text[slice(*best.highlight)]
    assert {hit.passage.path for hit in pipeline.query(index, "film", path="deep/*").hits} == {
        str(notes / "deep" / "b.txt")
    }
    assert both.to_json()["hits"][0]["id"] == both.hits[0].passage.id


def test_common_words_choose_passages_together(pipeline: SearchPipeline, index: Index) -> None:
    generator = np.random.default_rng(0)
    words = ["good", "bad", "very", "film"] * 12 + ["tom", "anna", "paris"]
    texts = {str(n): " ".join(generator.choice(words, 8)) for n in range(200)}
    pipeline.add(index, texts)

    def having(*wanted: str) -> set[int]:
        path = {passage.path: number for number, passage in index.passages(range(1, 201)).items()}
        return {path[name] for name, text in texts.items() if set(wanted) <= set(text.split())}

    terms = lexical.match("good tom paris bad very film")
    full = index.lexical(terms, 1000)
    few = index.lexical(terms, 1000, candidates=100)
    rare = having("tom") | having("paris")
    assert rare < {number for number, _ in few} <= {number for number, _ in full}
    assert len(few) <= 100 < len(full)
    assert (
        len({number for number, _ in few} & having("good", "bad", "very")) > 10
    )  # what has several is looked at
    assert dict(few) == {number: dict(full)[number] for number, _ in few}
    assert few == sorted(few, key=lambda pair: (-pair[1], pair[0]))
    assert few[:10] == full[:10]
    path = index.passages([full[-1][0]])[full[-1][0]].path
    assert index.lexical(terms, 5, Scope(path=path), candidates=1) == [full[-1]]
    assert len(index.lexical(['"good"'], 1000, candidates=7)) == 7  # one word that stands in nearly all


def test_similar_documents(pipeline: SearchPipeline, index: Index, notes: Path) -> None:
    pipeline.update(index, [notes])
    (notes / "copy.txt").write_text((notes / "a.md").read_text())
    found = pipeline.similar(index, notes / "copy.txt", top=3)
    assert found[0].path == str(notes / "a.md")
    assert found[0].cosine == pytest.approx(1, abs=1e-3)
    assert str(notes / "a.md") not in [item.path for item in pipeline.similar(index, notes / "a.md")]


def test_texts_without_files(pipeline: SearchPipeline, index: Index, notes: Path) -> None:
    assert pipeline.add(index, {"one": "good film", "two": "tom"}) == 2
    pipeline.add(index, {"one": "bad film in paris"})
    pipeline.update(index, [notes])
    assert [row[4] for row in contents(index) if row[0] == "one"] == ["bad film in paris"]
    assert delete_documents(index, "one") == 1
    is_sound(index)
    assert pipeline.query(index, "tom", mode="bm25").hits[0].passage.path == "two"


@pytest.mark.parametrize(
    ("text", "message"),
    [(" \n", "the query is empty"), ("x" * (10 << 20), "10,485,760 characters; at most 10,000")],
)
def test_bad_queries(pipeline: SearchPipeline, index: Index, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipeline.query(index, text)


@pytest.mark.parametrize(
    "text", ['"', "AND OR NOT", "a* NEAR(b)", "\x00", "()", "\ud800 tom", "-x:y^2", "''"]
)
def test_any_characters_are_a_query(pipeline: SearchPipeline, index: Index, text: str) -> None:
    pipeline.add(index, {"one": "tom and anna"})
    assert pipeline.query(index, text).mode == "hybrid"


def test_an_index_of_another_model_or_format(pipeline: SearchPipeline, index: Index, tmp_path: Path) -> None:
    sentence_model(tmp_path / "other", hidden_size=16)
    other = SearchPipeline.from_pretrained(str(tmp_path / "other"))
    with pytest.raises(InputError, match=r"the index was made with .*give that model, or a new index"):
        other.open(index.folder)
    with pytest.raises(InputError, match="chunk_tokens 16, not 99"):
        pipeline.open(index.folder, tokens=99)
    with pytest.raises(InputError, match="no index is here"):
        pipeline.open(tmp_path / "nowhere")
    with index.transaction():
        index.set_meta("format", 99)
    with pytest.raises(InputError, match="format 99"):
        Index(index.folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        pipeline.open(tmp_path / "full", create=True)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "index.sqlite").write_bytes(b"nonsense " * 1000)
    with pytest.raises(InputError, match="cannot be read"):
        Index(tmp_path / "bad")


def test_the_graph_finds_what_comparing_all_finds(pipeline: SearchPipeline, index: Index) -> None:
    generator = np.random.default_rng(0)
    texts = {str(n): " ".join(generator.choice(["good", "bad", "tom", "anna", "x"], 6)) for n in range(300)}
    pipeline.add(index, texts)
    query_E = pipeline.embed(["good tom"])[0]
    exact = vectors.VectorSearch(index).nearest(query_E, 10)
    assert vectors.extend_graph(index, exact=50)
    assert not vectors.extend_graph(index, exact=50)
    search = vectors.VectorSearch(index)
    near = search.nearest(query_E, 10)
    np.testing.assert_allclose([c for _, c in near], [c for _, c in exact], atol=2e-3)
    best = index.passages([exact[0][0]])[exact[0][0]].path
    delete_documents(index, best)
    pipeline.add(index, {"new": "good tom"})
    hits = pipeline.query(index, "good tom", mode="dense").hits
    assert hits[0].passage.path == "new"  # newer than the graph
    assert best not in [hit.passage.path for hit in hits]
    for path in sorted(texts)[:120]:
        delete_documents(index, path)
    assert vectors.extend_graph(index, exact=50)  # many of its passages are gone
    assert len(vectors.open_graph(index)[0]) == index.count()
    expected = pipeline.query(index, "good tom", mode="dense").hits
    (graph,) = index.folder.glob("*.usearch")
    graph.unlink()
    graph.write_bytes(b"damaged")
    with Index(index.folder) as reader:
        found = pipeline.query(reader, "good tom", mode="dense").hits
    assert [h.cosine for h in found] == pytest.approx([h.cosine for h in expected], abs=2e-3)
    assert vectors.extend_graph(index, exact=10**6)
    assert list(index.folder.glob("*.usearch")) == []


def test_words_of_scripts_without_spaces(pipeline: SearchPipeline, index: Index) -> None:
    texts = {"zh": "北京是中国的首都。", "ja": "東京は日本の首都です", "th": "กรุงเทพเป็นเมืองหลวง"}
    texts |= {
        "hi": "दिल्ली भारत की राजधानी है",
    }
    pipeline.add(index, {**texts, "de": "Die Straße ist schön"})
    for query, expected in {
        "中国首都": "zh",
        "日本": "ja",
        "เมืองหลวง": "th",
        "राजधानी": "hi",
        "schon": "de",
        "京": "ja",
    }.items():
        found = [hit.passage.path for hit in pipeline.query(index, query, mode="bm25").hits]
        assert expected in found, query
    assert pipeline.query(index, "上海", mode="bm25").hits == ()
    assert lexical.match("... !") == []
    assert spans_of(lexical.words("中国首都"), texts["zh"]) == [(3, 5), (6, 8)]
    delete_documents(index, "zh")
    is_sound(index)


def test_the_text_of_pages(tmp_path: Path) -> None:
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    page = canvas.Canvas(str(tmp_path / "x.pdf"))
    for text in ("Anna lives in Paris.", "Tom was in London."):
        page.drawString(72, 700, text)
        page.showPage()
    page.save()
    found = list(extract.sections(tmp_path / "x.pdf", field="text", on_problem=pytest.fail))
    assert [(s.place, s.text.strip()) for s in found] == [
        ("page 1", "Anna lives in Paris."),
        ("page 2", "Tom was in London."),
    ]
    (tmp_path / "table.csv").write_text("text,title\nfilm,Tom\n")
    (section,) = extract.sections(tmp_path / "table.csv", field="text", on_problem=pytest.fail)
    assert (section.text, section.place) == ("Tom\n\nfilm", "line 2")
    (tmp_path / "latin.txt").write_bytes("schön".encode("cp1252"))
    (tmp_path / "wide.txt").write_bytes("schön".encode("utf-16"))
    for name in ("latin.txt", "wide.txt"):
        assert [s.text for s in extract.sections(tmp_path / name, field="text", on_problem=pytest.fail)] == [
            "schön"
        ]
    (tmp_path / "y.pdf").write_bytes(b"%PDF-1.7\n")
    with pytest.raises(DataError, match="damaged PDF"):
        list(extract.sections(tmp_path / "y.pdf", field="text", on_problem=pytest.fail))


def test_a_query_in_another_language_is_told_so(pipeline: SearchPipeline, index: Index) -> None:
    from multiway_text.search.languages import unknown_language

    for query, expected in {
        "when is the rent due": None,
        "rent": None,
        "Wann muss ich die Miete zahlen?": "the language 'de'",
        "où est la clé de la maison": "the language 'fr'",
        "когда платить": "Cyrillic script",
        "什么时候付房租": "Han script",
    }.items():
        assert unknown_language(query, ["en"]) == expected, query
    assert unknown_language("Wann muss ich die Miete zahlen?", ["en", "de"]) is None
    pipeline.languages = ("en",)
    try:
        assert "only words can be found" in pipeline.query(index, "когда платить").notes[0]
        assert pipeline.query(index, "когда платить", mode="bm25").notes == ()
    finally:
        pipeline.languages = ()


def test_a_query_counts_each_of_its_terms_once(
    pipeline: SearchPipeline, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For its candidates and for its best score; a change of the index has them counted again."""
    pipeline.add(index, {str(number): "anna in paris" for number in range(9)})
    terms, counted, count = lexical.match("anna paris"), [], index._matches
    monkeypatch.setattr(index, "_matches", lambda term: counted.append(term) or count(term))
    index.lexical(terms, 3, candidates=1)
    index.best_bm25(terms)
    assert [term for term in counted if term in terms] == terms
    pipeline.add(index, {"more": "anna", "other": "tom"})
    index.best_bm25(terms)
    assert [term for term in counted if term in terms] == [*terms, *terms]


def test_no_passage_has_more_than_the_best_bm25(pipeline: SearchPipeline, index: Index) -> None:
    pipeline.add(
        index, {"long": "anna " * 12, "one": "anna in paris", "tom": "tom", "film": "film", "x": "bad"}
    )
    terms = lexical.match("anna paris xyz")
    best = index.best_bm25(terms)
    assert best == pytest.approx(2.2 * (math.log(3.5 / 2.5) + math.log(4.5 / 1.5) + math.log(5.5 / 0.5)))
    anna = index.best_bm25(terms[:1])
    assert 0.75 * anna < dict(index.lexical(terms[:1], 9))[1] < anna


def test_fusion_by_hand() -> None:
    assert reciprocal_ranks([[7, 8], [8, 9]]) == pytest.approx({7: 1 / 61, 8: 1 / 62 + 1 / 61, 9: 1 / 62})
    cosines = {7: 0.9, 8: 0.7, 9: 0.5}
    assert weighted_sum(cosines, {8: 2.0, 6: 4.0}, 8.0) == pytest.approx(
        {7: 0.3, 8: 0.15 + 0.7 / 4, 9: 0.0, 6: 0.35}
    )
    many = {number: 1 - number / 1000 for number in range(150)}
    scores = weighted_sum(many, {500: 1.0, 149: 1.0}, 2.0)
    assert scores[99] == pytest.approx(0)
    assert scores[149] == scores[500] < scores[120] + 0.35  # not nearer than the last
    assert weighted_sum({}, {3: 1.0}, 2.0) == {3: 0.35}
    assert weighted_sum({3: 0.4}, {}, 0.0) == {3: 0.0}


def test_both_modes_of_fusion_are_of_what_the_parts_find(pipeline: SearchPipeline, index: Index) -> None:
    generator = np.random.default_rng(2)
    words = ["good", "bad", "tom", "anna", "paris", "film"]
    pipeline.add(index, {str(n): " ".join(generator.choice(words, 5)) for n in range(30)})
    text = "tom lives in paris xyz"
    found = {
        mode: pipeline.query(index, text, mode=mode, top=100).hits
        for mode in ("dense", "bm25", "hybrid", "rrf")
    }
    cosines = {hit.passage.id: hit.score for hit in found["dense"]}
    bm25 = {hit.passage.id: hit.score for hit in found["bm25"]}
    expected = {
        "hybrid": weighted_sum(cosines, bm25, index.best_bm25(lexical.match(text))),
        "rrf": reciprocal_ranks([list(cosines), list(bm25)]),
    }
    for mode, scores in expected.items():
        assert {hit.passage.id: hit.score for hit in found[mode]} == pytest.approx(scores)
        assert [hit.score for hit in found[mode]] == sorted(scores.values(), reverse=True)
