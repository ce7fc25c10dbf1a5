"""The server, the demo's session and the quick evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from multiway_core.app.serve.service import Limits, build_server, endpoint
from multiway_core.errors import InputError
from multiway_search import evaluation
from multiway_search.collection import LANGUAGES, NOTES, PHOTOGRAPHS, QUESTIONS
from multiway_search.demo.session import OWN, SAMPLE, Session
from multiway_search.server import INDEX_VARIABLE, SERVICE
from multiway_text.search.pipeline import SearchPipeline
from multiway_text.search.result import Hit, Results
from multiway_text.search.store import Passage


@pytest.fixture(scope="module")
def pipeline(tiny_encoder: Path) -> SearchPipeline:
    return SearchPipeline.from_pretrained(str(tiny_encoder))


def client_of(pipeline: SearchPipeline) -> Any:
    testing = pytest.importorskip("fastapi.testclient")
    served = endpoint("tiny", SERVICE, lambda: SERVICE.prepare(pipeline), Limits())  # type: ignore[misc]
    return testing.TestClient(build_server([served], title="test"))


def test_documents_are_put_in_found_and_taken_out(
    pipeline: SearchPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INDEX_VARIABLE, str(tmp_path / "index"))
    documents = [{"id": "a/one*", "text": "Anna lives in Paris."}, {"id": "a/one", "text": "A bad film."}]
    with client_of(pipeline) as client:
        put = client.post("/v1/index", json={"documents": documents}).json()
        assert put == {"schema": "multiway.search.change/1", "changed": 2, "passages": 2}
        found = client.post("/v1/search", json={"query": "paris", "mode": "bm25"}).json()
        assert [hit["path"] for hit in found["hits"]] == ["a/one*"]
        nowhere = client.post("/v1/search", json={"query": "paris", "near": [48.1, 11.5]}).json()
        assert nowhere["hits"] == []  # texts have no place
        for body in (
            {"query": " "},
            {"query": "x" * 20_000},
            {"query": "x", "mode": "best"},
            {"query": "x", "top": 0},
            {"query": "x", "near": [48.1]},
            {"query": "x", "near": [48.1, 11.5, -1]},
            {"query": "x", "near": "Munich"},
        ):
            assert client.post("/v1/search", json=body).status_code in (400, 422), body
        for bad in ([], [{"id": "", "text": "x"}], [{"id": "x\n", "text": "y"}], [{"id": "x"}]):
            assert client.post("/v1/index", json={"documents": bad}).status_code in (400, 422), bad
        described = client.get("/openapi.json").json()
        assert "delete" in described["paths"]["/v1/index/{id}"]
    with client_of(pipeline) as client:  # another process: the index is still there
        gone = client.delete("/v1/index/a/one*").json()
        assert (gone["changed"], gone["passages"]) == (1, 1)  # no pattern: "a/one" stays
        assert client.delete("/v1/index/nothing").status_code == 400


def test_the_demo_shows_hits_map_and_languages(
    pipeline: SearchPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    session = Session.of(pipeline.name, "cpu", "auto")
    assert OWN not in session.collections  # none was made
    page, pictures = session.search("<i>rent</i> landlady", "bm25", SAMPLE)
    assert pictures == []
    assert session.names == [SAMPLE]  # the photo encoder goes with another text encoder than this one
    assert page.count("<circle") == len(list((NOTES / "en").iterdir()))
    assert "<b class='term'>landlady</b>" in page
    assert "<i>" not in page
    assert all(name in session.languages("tomatoes") for name in LANGUAGES.values())
    with pytest.raises(InputError):
        session.search(" ", "hybrid", SAMPLE)


def test_pictures_are_in_the_gallery_with_score_day_and_place(
    pipeline: SearchPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    session = Session.of(pipeline.name, "cpu", "auto")
    shown = str(PHOTOGRAPHS / "dog.jpg")
    hits = tuple(
        Hit(Passage(number, path, "picture", "2024-05-31; 48.1000, 11.5000", 0, 3, "dog"), 1.0, cosine=0.4)
        for number, path in enumerate((shown, str(tmp_path / "gone.jpg")))
    )
    monkeypatch.setattr(pipeline.__class__, "query", lambda *_, **__: Results("dog", "dense", hits, 2, 0.0))
    page, ((picture, caption),) = session.search("dog", "dense", SAMPLE)
    assert max(picture.size) == 480
    assert caption == "dog.jpg · cosine 0.40 · 2024-05-31; 48.1000, 11.5000"
    assert "gone.jpg" in page
    assert "dog.jpg" not in page


def test_the_quick_evaluation_counts_places(pipeline: SearchPipeline) -> None:
    report = evaluation.notes_evaluation(pipeline)
    assert len(report.rows) == len(QUESTIONS)
    assert report.metrics["chance"].mean == pytest.approx(1 / len(list((NOTES / "en").iterdir())))
    assert all((NOTES / "en" / f"{name}.md").is_file() for name in QUESTIONS.values())
    assert evaluation.Places({"dense": 4}).reciprocal("dense") == 0.25
    assert evaluation.Places({"dense": 0}).reciprocal("dense") == 0.0
