"""The measures against an independent slow version, BEIR's and Tatoeba's files, and what is said about bad ones."""

from __future__ import annotations

import gzip
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from multiway_core.errors import DataError, InputError
from multiway_search import beir, evaluation
from multiway_search.cli import cli
from multiway_text.search.pipeline import SearchPipeline
from typer.testing import CliRunner


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def slow_measures(ranking: list[str], grades: dict[str, int]) -> dict[str, float]:
    """From their definitions: gains are grades, discounted by the logarithm of the place."""
    relevant = {id for id, grade in grades.items() if grade > 0}
    gained = sum(max(0, grades.get(id, 0)) / math.log2(place + 1) for place, id in enumerate(ranking[:10], 1))
    ideal_grades = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:10]
    ideal = sum(grade / math.log2(place + 1) for place, grade in enumerate(ideal_grades, 1))
    places = [place for place, id in enumerate(ranking, 1) if id in relevant]
    return {
        "ndcg@10": gained / ideal,
        "recall@10": len(relevant & set(ranking[:10])) / len(relevant),
        "recall@100": len(relevant & set(ranking[:100])) / len(relevant),
        "accuracy@1": float(bool(places) and places[0] == 1),
        "mrr@10": 1 / places[0] if places and places[0] <= 10 else 0.0,
    }


def test_measures_are_those_of_their_definitions() -> None:
    generator = random.Random(0)
    for _ in range(300):
        ids = [str(number) for number in range(generator.choice([3, 15, 130]))]
        grades = {id: generator.choice([-1, 0, 0, 1, 2]) for id in generator.sample(ids, len(ids) // 2 + 1)}
        grades["not in the corpus"] = 1
        ranking = generator.sample(ids, generator.randrange(len(ids) + 1))
        assert beir.score(ranking, grades) == pytest.approx(slow_measures(ranking, grades), abs=1e-6)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    documents = {
        "d1": "Anna lives in Paris.",
        "d2": "A very bad film. " * 60,
        "d3": "Tom was in London.",
        "q3": "tom",
    }
    rows = [
        {"_id": id, "title": "anna" if id == "d1" else "", "text": text} for id, text in documents.items()
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = {"q1": "paris", "q2": "bad film", "q3": "tom", "q4": "nothing"}
    text = "".join(json.dumps({"_id": id, "text": query}) + "\n" for id, query in queries.items())
    (folder / "queries.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    judged = "q1\td1\t2\nq1\td3\t0\nq2\td2\t1\nq3\td3\t1\nq4\td1\t0\n"
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return folder


def test_a_data_set_is_measured_in_each_mode(data: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    read = beir.DataSet.read(data)
    assert read.documents["d1"] == "anna\n\nAnna lives in Paris."
    assert list(read.judgements) == ["q1", "q2", "q3"]  # nothing is relevant to the fourth
    index = tmp_path / "index"
    shown = run("evaluate", "beir", data, "-m", tiny_encoder, "--index", index)
    assert shown.exit_code == 0, shown.exception
    assert [line.split(" |")[0] for line in shown.stdout.splitlines()[4:]] == [
        "|",
        "| ---",
        "| hybrid",
        "| rrf",
        "| dense",
        "| bm25",
    ]
    again = json.loads(run("evaluate", "beir", data, "-m", tiny_encoder, "--index", index, "--json").stdout)
    assert again["n"] == 3
    assert (
        again["metrics"]["bm25 accuracy@1"]["mean"] == 1.0
    )  # of q3 too: the document of its id is passed over
    assert again["metrics"]["bm25 recall@10"]["mean"] == 1.0
    assert set(again["metrics"]) == {
        beir.metric_name(name, mode) for name in beir.MEASURES for mode in beir.MODES
    }


def test_bad_data_sets_are_one_line(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dev.tsv: no such file; .*--split takes test"):
        beir.DataSet.read(data, "dev")
    qrels = data / "qrels" / "test.tsv"
    cases = {
        "query-id\tcorpus-id\tscore\nq9\td1\t1\n": (DataError, "test.tsv:2: queries.jsonl has no query 'q9'"),
        "query-id\tcorpus-id\tscore\nq1\td1\tgood\n": (DataError, "test.tsv:2.score: expected a number"),
        "query-id\tcorpus-id\tscore\nq1\td9\t1\n": (
            InputError,
            "no document of corpus.jsonl is judged relevant",
        ),
        "q1\td1\t1\nq2\td2\t1\n": (DataError, "no field 'query-id'"),
    }
    for text, (kind, message) in cases.items():
        qrels.write_text(text)
        with pytest.raises(kind, match=message):
            beir.DataSet.read(data)
    corpus = data / "corpus.jsonl"
    corpus.write_text('{"_id": "d1", "text": "x"}\n{"_id": "d1", "text": "y"}\n')
    with pytest.raises(DataError, match=r"corpus.jsonl:2: _id 'd1' stands twice"):
        beir.DataSet.read(data)
    corpus.unlink()
    with pytest.raises(InputError, match=r"corpus.jsonl: no such file; expected corpus.jsonl"):
        beir.DataSet.read(data)
    assert "evaluate beir takes a folder, not 0 paths" in str(run("evaluate", "beir").exception)


def test_translations_are_found_in_both_directions(tiny_encoder: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "a.txt", tmp_path / "b.txt"
    one.write_text("anna\nbad film\nlondon\n\n")
    other.write_text("anna\nbad film\nlondon\nno pair\n")
    pipeline = SearchPipeline.from_pretrained(str(tiny_encoder))
    report = evaluation.translations_evaluation(pipeline, one, other)
    assert report.n == 3
    assert report.metrics["accuracy@1"].mean == report.metrics["accuracy@1 backward"].mean == 1.0
    assert report.metrics["chance"].mean == pytest.approx(1 / 3)
    other.write_text("bad film\nanna\nlondon\nno pair\n")
    assert evaluation.translations_evaluation(pipeline, one, other).metrics[
        "accuracy@1"
    ].mean == pytest.approx(1 / 3)
    other.write_text("anna\n")
    message = str(run("evaluate", "tatoeba", one, other, "-m", tiny_encoder).exception)
    assert "a.txt has 4 lines and" in message
    assert "b.txt has 1 lines; line n of the one must be the translation of line n of the other" in message
