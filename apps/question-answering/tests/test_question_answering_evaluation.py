"""The evaluation against a slow restatement of SQuAD's script, the server, and the demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from multiway_core.errors import InputError

ROWS = [
    ("a anna 1 lives in paris it was", "lives in", "paris"),
    ("b tom 2 was very bad it was", "lives in", ""),
    ("c tom 3 lives in london it was", "lives in", "london"),
    ("d anna 4 lives in paris it was", "lives in", "anna"),  # the model says paris
    ("e anna 5 lives in london it was", "lives in", ""),  # and london
]


@pytest.fixture
def pipeline(model: Path) -> Any:
    from multiway_text.question_answering.pipeline import QuestionAnsweringPipeline

    return QuestionAnsweringPipeline.from_pretrained(str(model))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    from multiway_text.data.squad import Answer, Question, write_squad

    write_squad(
        tmp_path / "own.en.json",
        [
            Question(str(n), question, text, (Answer(answer, text.index(answer)),) if answer else (), "")
            for n, (text, question, answer) in enumerate(ROWS)
        ],
    )
    return tmp_path / "own.en.json"


def test_scores_are_the_scripts(model: Path, file: Path, pipeline: Any, command) -> None:
    code, out, err = command("evaluate", file, "--model", model, "--json")
    assert code == 0, err
    found = json.loads(out)
    said = []
    for text, question, answer in ROWS:
        reading = next(pipeline.reader.read([(question, text)]))
        given = pipeline.answerability.probability(reading.margin) >= 0.5
        said.append((reading.best().text if given else "", answer))
    right = [float(a == b) for a, b in said]
    has = [r for r, row in zip(right, ROWS, strict=True) if row[2]]
    none = [r for r, row in zip(right, ROWS, strict=True) if not row[2]]
    metrics = {key: value["mean"] for key, value in found["metrics"].items()}
    assert metrics["exact match"] == pytest.approx(sum(right) / 5)
    assert metrics["HasAns exact match"] == pytest.approx(sum(has) / 3)
    assert metrics["NoAns accuracy"] == pytest.approx(sum(none) / 2)
    assert metrics["best exact match"] >= metrics["exact match"]
    assert 0 < metrics["sentence f1"] < 1
    assert 0 < metrics["brier"] < 1
    assert set(found["groups"]) == {"with an answer", "without an answer"}
    other = file.with_name("own.de.json")
    other.write_text(file.read_text())
    code, out, _ = command("evaluate", file, other, "--dev", file, "--model", model, "--json", "--limit", 9)
    found = json.loads(out)
    assert {"de", "en"} <= set(found["groups"])
    assert "threshold" in found["name"]
    assert found["n"] == 9
    code, out, _ = command("evaluate", file, "--model", model, "--among-all", "--json")
    found = json.loads(out)
    assert (found["n"], code) == (3, 0)
    assert "right context" in found["metrics"]
    assert command("evaluate", "--among-all", "--model", model)[0] == 2


def test_the_calibration_error_is_by_bins() -> None:
    from multiway_question_answering.evaluation import calibration_error

    assert calibration_error([(0.75, True), (0.75, True), (0.75, True), (0.75, False)]) == pytest.approx(0)
    assert calibration_error([(1.0, False), (0.0, False)]) == pytest.approx(0.5)


def test_the_apps_own_questions(pipeline: Any) -> None:
    from multiway_question_answering.evaluation import own_questions, own_texts

    report = own_questions(pipeline)
    assert report.n > 40
    assert report.failed == 0
    assert "of our own" in report.name
    assert all(len(questions) > 3 for _, questions in own_texts().values())


def test_texts_are_asked_over_http(pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from multiway_core.app.serve.service import Limits, build_server, endpoint
    from multiway_question_answering.server import SERVED_VARIABLE, SERVICE

    testing = pytest.importorskip("fastapi.testclient")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "a.txt").write_text("g tom 6 lives in london it was")

    def client() -> Any:
        served = endpoint("tiny", SERVICE, lambda: SERVICE.prepare(pipeline), Limits())  # type: ignore[misc]
        return testing.TestClient(build_server([served], title="test"))

    texts = [{"id": "one", "text": ROWS[1][0]}, {"id": "two", "text": ROWS[2][0]}]
    with client() as server:
        found = server.post("/v1/answer", json={"question": "lives in", "texts": texts}).json()
        assert found["schema"] == "multiway.question-answering/1"
        assert (found["answers"][0]["text"], found["answers"][0]["source"]) == ("london", "two")
        for body in (
            {"question": "lives in"},
            {"question": "?", "texts": texts},
            {"question": "x" * 3000, "texts": texts},
            {"question": "x", "texts": [{"id": "one", "text": " "}]},
            {"question": "x", "texts": texts, "top": 0},
        ):
            assert server.post("/v1/answer", json=body).status_code in (400, 422), body
        shown = server.get("/openapi.json").json()["paths"]["/v1/answer"]["post"]
        assert "content" in shown["responses"]["200"]
    monkeypatch.setenv(SERVED_VARIABLE, str(tmp_path / "a.txt"))
    with client() as server:
        found = server.post("/v1/answer", json={"question": "lives in"}).json()
        assert (found["answers"][0]["text"], found["answers"][0]["place"]) == ("london", "line 1")


def test_the_demo_marks_answers_where_they_stand(pipeline: Any, tmp_path: Path) -> None:
    from multiway_question_answering.demo.session import Session

    session = Session(pipeline)
    text = "h tom 7 lives in Paris it was <b>"
    page = session.ask("lives in", text, None)
    assert "<mark class='best'>Paris<sup>1</sup></mark>" in page
    assert "it was &lt;b&gt;" in page
    assert session.is_known(text, None)
    (tmp_path / "a.md").write_text("h anna 8 lives in London it was")
    (tmp_path / "b.txt").write_bytes(b"\x00\x01")
    page = session.ask("lives in", "", [str(tmp_path / "a.md"), str(tmp_path / "b.txt")])
    assert "<div class='note'>b.txt: binary data, not text</div>" in page
    assert "<h3>a.md, line 1</h3>" in page
    assert "<b>No answer.</b>" in session.ask("lives in", "b tom 2 was very bad it was", None)
    for number in range(9):
        session.ask("lives in", f"a tom {number} lives in paris", None)
    assert not session.is_known(text, None)
    for question, text in (("?", "a"), ("who", " ")):
        with pytest.raises(InputError):
            session.ask(question, text, None)
