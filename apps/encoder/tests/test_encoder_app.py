"""The command line on a tiny model: every verb on real files, what is said about bad ones, and the server's batches."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder
from multiway_core.app.serve.service import Limits, build_server, endpoint
from multiway_core.errors import ConfigError, DataError, InputError, MultiwayError
from multiway_encoder import evaluation
from multiway_encoder.batcher import Batcher
from multiway_encoder.cli import cli
from multiway_encoder.evaluation import Columns, Question
from multiway_encoder.server import SERVICE
from multiway_text.data.vocabulary import train_word_piece
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import SequenceClassifier, SpanExtractor, TokenClassifier
from multiway_text.encoder.pipeline import EncoderPipeline
from typer.testing import CliRunner

from packages.text.tests.tiny_encoder import CONFIG, sentence_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    sentence_model(folder)
    return folder


def run(*arguments: object, text: bytes | None = None) -> Any:
    return CliRunner().invoke(
        cli, [str(argument) for argument in arguments], input=text, catch_exceptions=True
    )


def lines(result: Any) -> list[Any]:
    assert result.exit_code == 0, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_embed_writes_the_same_vectors_in_every_form(model: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    (tmp_path / "a.txt").write_text("good film\n\nanna lives in paris\n")
    (tmp_path / "b.jsonl").write_text('{"text": "good film"}\n"bad film"\n')
    printed = run("embed", tmp_path / "a.txt", tmp_path / "b.jsonl", "-m", model)
    rows = lines(printed)
    assert "a.txt:2: empty" in printed.stderr
    assert [Path(row["source"]).name for row in rows] == [
        "a.txt:1",
        "a.txt:2",
        "a.txt:3",
        "b.jsonl:1",
        "b.jsonl:2",
    ]
    vectors = np.array([row["embedding"] for row in rows])
    np.testing.assert_allclose(vectors[0], vectors[3])
    for ending in (".npy", ".parquet", ".jsonl"):
        path = tmp_path / f"out{ending}"
        assert run("embed", tmp_path / "a.txt", tmp_path / "b.jsonl", "-m", model, "-o", path).exit_code == 0
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), vectors, atol=1e-6)
    table = parquet.read_table(tmp_path / "out.parquet")
    np.testing.assert_allclose(
        np.stack(table["embedding"].to_numpy(zero_copy_only=False)), vectors, atol=1e-6
    )
    assert table["text"].to_pylist() == ["good film", "", "anna lives in paris", "good film", "bad film"]
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == rows
    assert lines(run("embed", "-", "-m", model, text=b"good film\n"))[0]["embedding"] == rows[0]["embedding"]


def test_a_line_of_a_megabyte_is_cut_with_notice(model: Path, tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_text("good " * 200_000)
    found = run("embed", tmp_path / "big.txt", "-m", model, "-o", tmp_path / "x.npy")
    assert "big.txt:1: too long: the beginning counts; --windows takes all of it" in found.stderr
    whole = run("embed", tmp_path / "big.txt", "-m", model, "-o", tmp_path / "x.npy", "--windows")
    assert "too long" not in whole.stderr


def test_bad_input_is_one_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n' * 16 + "{bad\n")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "texts.txt").write_text("good film\n")
    (tmp_path / "rows.jsonl").write_text('{"a": "x"}\n')
    cases = [
        (["embed", tmp_path / "bad.jsonl", "-m", model], r"bad.jsonl:17: not JSON"),
        (["embed", tmp_path / "empty.txt", "-m", model], "all 2 texts are empty"),
        (["embed", tmp_path / "no.txt", "-m", model], "no such file"),
        (["embed", tmp_path / "bad.jsonl", "-o", "x.csv", "-m", model], "expected a file ending in .npy"),
        (["classify", tmp_path / "bad.jsonl", "-m", model], "bad.jsonl:17"),
        (["similarity", "one", "--json", "-m", model], "at least two texts"),
        (["similarity", "one", " ", "-m", model], "text 2 of 2 is empty"),
        (["similarity", "", "--in", tmp_path / "texts.txt", "-m", model], "text 1 of 1 is empty"),
        (["evaluate", "retrieval", "-m", model], "needs a file"),
        (["embed", tmp_path / "rows.jsonl", "-m", model], "there are a; --field names another"),
        (["evaluate", "similarity", tmp_path / "rows.jsonl", "-m", model], "a; --text-column names another"),
        (
            ["pretrain", "--data", tmp_path / "empty.txt", "-o", tmp_path / "run"],
            "no text to learn a vocabulary",
        ),
    ]
    for arguments, message in cases:
        found = run(*arguments)
        assert isinstance(found.exception, InputError | DataError), arguments
        assert message in str(found.exception)


def test_similarity_of_texts_and_nearest_in_a_file(model: Path, tmp_path: Path) -> None:
    found = json.loads(run("similarity", "good film", "bad film", "-m", model, "--json").stdout)
    assert found["cosines"][0][0] == pytest.approx(1, abs=1e-5)
    assert found["cosines"][0][1] == found["cosines"][1][0]
    (tmp_path / "c.txt").write_text("anna\n\ngood film\n \ntom\n")
    near = json.loads(
        run("similarity", "good film", "--in", tmp_path / "c.txt", "-m", model, "--json").stdout
    )
    # Empty lines are no neighbours: a Markdown file is full of them.
    assert [one["text"].strip() != "" for one in near[0]["nearest"]] == [True] * 3
    assert near[0]["nearest"][0]["text"] == "good film"
    assert near[0]["nearest"][0]["source"].endswith("c.txt:3")
    assert (
        "1.000  good film" in run("similarity", "good film", "--in", tmp_path / "c.txt", "-m", model).stdout
    )


def test_classify_and_tag(model: Path, tmp_path: Path) -> None:
    base = EncoderPipeline.from_pretrained(str(model))
    for name, make, labels in (
        ("classes", SequenceClassifier, ["no", "yes"]),
        ("tags", TokenClassifier, ["O", "B-PER", "I-PER"]),
    ):
        checkpoint.save(make(base.sentence.encoder, len(labels)), tmp_path / name, labels=labels)
        base.tokenizer.save(tmp_path / name)
    (tmp_path / "t.csv").write_text("text,label\ngood film,yes\nbad film,no\n")
    rows = lines(run("classify", tmp_path / "t.csv", "-m", tmp_path / "classes", "--json"))
    assert {row["label"] for row in rows} <= {"no", "yes"}
    plain = run("classify", tmp_path / "t.csv", "-m", tmp_path / "classes").stdout
    assert plain.splitlines()[0].split("\t")[0] == rows[0]["label"]
    tagged = lines(run("tag", tmp_path / "t.csv", "-m", tmp_path / "tags", "--json"))
    assert [word["word"] for word in tagged[0]["words"]] == ["good", "film"]
    report = json.loads(
        run("evaluate", "classification", tmp_path / "t.csv", "-m", tmp_path / "classes", "--json").stdout
    )
    right = np.mean([row["label"] == label for row, label in zip(rows, ["yes", "no"], strict=True)])
    assert report["metrics"]["accuracy"]["mean"] == right
    assert report["metrics"]["most frequent label"]["mean"] == 0.5


def test_tags_are_evaluated_by_words_and_by_what_they_mark(model: Path, tmp_path: Path) -> None:
    base = EncoderPipeline.from_pretrained(str(model))
    tagger = TokenClassifier(base.sentence.encoder, 2)
    with torch.no_grad():  # every word is a person
        tagger.head.output.weight.zero_()
        tagger.head.output.bias.copy_(torch.tensor([0.0, 1.0]))
    checkpoint.save(tagger, tmp_path / "tags", labels=["O", "B-PER"])
    base.tokenizer.save(tmp_path / "tags")
    (tmp_path / "x.conll").write_text("anna B-PER\nlives O\n\ntom B-PER\n\n")
    done = run("evaluate", "tagging", tmp_path / "x.conll", "-m", tmp_path / "tags", "--json")
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["f1"]["mean"] == pytest.approx(0.8)  # two of three marks are right, and none is missed
    assert metrics["accuracy"]["mean"] == metrics["most frequent tag"]["mean"] == 0.75
    (tmp_path / "y.conll").write_text("paris B-LOC\n")
    refused = run("evaluate", "tagging", tmp_path / "y.conll", "-m", tmp_path / "tags")
    assert "y.conll:1: the label 'B-LOC' does not occur in the training data" in str(refused.exception)


def test_what_training_refuses_says_what_would_be_right(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "good film"}\n' * 16 + '{"text": bad}\n')
    (tmp_path / "number.jsonl").write_text('{"text": "good film"}\n' * 16 + '{"text": 5}\n')
    (tmp_path / "texts.jsonl").write_text('{"text": "anna lives in paris it was a very good film"}\n' * 40)
    (tmp_path / "labelled.csv").write_text("text,label\n" + "".join(f"good {i},{i % 2}\n" for i in range(20)))
    rows = 'not JSON (Expecting value); expected an object a line, such as {"text": "..."}'
    other, run_dir = tmp_path / "other", tmp_path / "run"
    shutil.copytree(model, other)
    text_encoder.save(TextEncoder(replace(CONFIG, vocab_size=250_037, hidden_size=4, inner_size=4)), other)
    strange = tmp_path / "strange"
    shutil.copytree(model, strange)
    train_word_piece(["good film"], 100).save(strange)
    trap = "Multilingual-MiniLM takes XLM-R's sentencepiece.bpe.model"
    long = "a length of 41 tokens is beyond the model's 40 positions; take at most 40"
    vocabulary = "is not the teacher's (WordPiece, "
    pretrain = ["pretrain", "--preset", "smoke", "--length", 16, "--data"]
    distill = ["distill", "--preset", "minilm-smoke", "--relation-heads", 4, "--length", 16, "--teacher"]
    adapt = ["distill", "--preset", "adalm-smoke", "--teacher", model, "--student", strange, "--data"]
    finetune = ["finetune", "--max-length", 41, "--data", "labelled.csv", "--init-from", model]
    cases = [
        ([*pretrain, "bad.jsonl"], f"bad.jsonl:17: {rows}"),
        ([*distill, model, "--data", "bad.jsonl"], f"bad.jsonl:17: {rows}"),
        (["adapt-vocab", model, "--data", "bad.jsonl"], f"bad.jsonl:17: {rows}"),
        (["adapt-vocab", model, "--data", "number.jsonl"], ":17: the field 'text': expected text, got 5"),
        ([*distill, other, "--data", "texts.jsonl"], trap),
        ([*pretrain, "texts.jsonl", "--init-from", other], trap),
        (["adapt-vocab", other, "--data", "texts.jsonl"], trap),
        ([*distill, model, "--length", 41, "--data", "texts.jsonl"], long),
        ([*pretrain, "texts.jsonl", "--length", 41, "--init-from", model], long),
        (finetune, long),
        ([*adapt, "texts.jsonl"], vocabulary),
        ([*distill, model, "--relation-heads", 0, "--data", "texts.jsonl"], "0 relation heads"),
    ]
    for arguments, message in cases:
        shutil.rmtree(run_dir, ignore_errors=True)
        paths = [tmp_path / one if str(one).endswith((".jsonl", ".csv")) else one for one in arguments]
        found = run(*paths, "--output", run_dir)
        assert isinstance(found.exception, MultiwayError), (arguments, found.exception)
        assert message in str(found.exception), arguments


class FixedVectors:
    """In place of the pipeline: the vectors of a table."""

    name = "fixed"

    def embed(self, texts: list[str], **options: Any) -> Any:
        table = {"q1": [1, 0], "q2": [0, 1], "a": [0.9, 0.1], "b": [0.2, 0.9], "c": [0, 2.0]}
        return type("Found", (), {"vectors": np.array([table[text] for text in texts], np.float32)})


def test_retrieval_counts_places_by_hand() -> None:
    questions = [Question("q1", "a", "1"), Question("q2", "b", "2"), Question("q1", "c", "3")]
    report = evaluation.retrieval(FixedVectors(), questions)  # type: ignore[arg-type]
    assert [row["metrics"]["accuracy@1"] for row in report.rows] == [1.0, 0.0, 0.0]
    assert [row["metrics"]["mrr@10"] for row in report.rows] == [1.0, 0.5, 1 / 3]
    assert report.metrics["chance"].mean == pytest.approx(1 / 3)
    assert evaluation._place(np.array([1.0, 1.0, 1.0]), 0) == 2  # all equal: nobody is first


def test_squad_files_and_rank_correlation(model: Path, tmp_path: Path) -> None:
    squad = {"data": [{"paragraphs": [{"context": "anna lives in paris", "qas": [{"question": "anna"}]}]}]}
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(json.dumps(squad).encode()))
    found = evaluation.read_questions([str(tmp_path / "x.json.gz")], Columns())
    assert (found[0].text, found[0].target) == ("anna", "anna lives in paris")
    (tmp_path / "y.json").write_text('{"data": [{"paragraphs": [{}]}]}')
    with pytest.raises(DataError, match=r"data\[0\]\.paragraphs\[0\]: missing key 'context'"):
        evaluation.read_questions([str(tmp_path / "y.json")], Columns())
    (tmp_path / "s.csv").write_text("text,pair,label\nanna,anna,5\nanna,bad film,1\nanna,anna bad,3\n")
    report = json.loads(run("evaluate", "similarity", tmp_path / "s.csv", "-m", model, "--json").stdout)
    assert report["metrics"]["common words spearman"]["mean"] == pytest.approx(1)


@pytest.fixture
def client(model: Path) -> Any:
    testing = pytest.importorskip("fastapi.testclient")
    pipeline = EncoderPipeline.from_pretrained(str(model))
    served = endpoint("tiny", SERVICE, lambda: SERVICE.prepare(pipeline), Limits())  # type: ignore[misc]
    with testing.TestClient(build_server([served], title="test")) as client:
        client.pipeline = pipeline
        yield client


def test_embeddings_in_the_form_of_the_openai_api(client: Any) -> None:
    asked = {"model": "tiny", "input": ["good film", "bad " * 100]}
    found = client.post("/v1/embeddings", json=asked).json()
    expected = client.pipeline.embed(asked["input"], windows=True)
    np.testing.assert_allclose([row["embedding"] for row in found["data"]], expected.vectors, atol=1e-6)
    assert found["usage"] == {"prompt_tokens": 106, "total_tokens": 106}
    packed = client.post("/v1/embeddings", json={**asked, "encoding_format": "base64"}).json()
    numbers = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(numbers, np.array(found["data"][0]["embedding"], np.float32))
    for change, message in (
        ({"input": ["a", " "]}, "input[1] is an empty text"),
        ({"input": []}, "0 texts"),
        ({"input": [1, 2]}, "token ids are another model's"),
        ({"dimensions": 7}, "this model's vectors have 32 numbers"),
    ):
        refused = client.post("/v1/embeddings", json={**asked, **change})
        assert refused.status_code == 400
        assert message in refused.json()["error"]["message"]
    assert client.post("/v1/embeddings", json={**asked, "model": "gpt"}).status_code == 404
    assert client.post("/v1/similarity", json={"texts": ["anna", ""]}).status_code == 400
    near = client.post("/v1/similarity", json={"texts": ["anna", "tom"]}).json()
    assert near["schema"] == "multiway.encoder.similarity/1"


def test_what_waits_is_computed_together(model: Path) -> None:
    pipeline = EncoderPipeline.from_pretrained(str(model))
    batcher = Batcher(pipeline)
    jobs = [batcher.submit(pipeline.encode([text])) for text in ("good", "bad film", "anna")]
    cancelled = batcher.submit(pipeline.encode(["tom"]))
    cancelled.vectors.cancel()
    batcher.start()
    found = np.concatenate([job.vectors.result(timeout=30) for job in jobs])
    np.testing.assert_allclose(found, pipeline.embed(["good", "bad film", "anna"]).vectors, atol=1e-5)
    assert batcher.batches == [3]
    batcher.stop()
    from multiway_core.app.serve.errors import ApiError

    with pytest.raises(ApiError):
        batcher.submit([[1]])
    full = Batcher(pipeline, max_waiting=1)
    full.submit([[2, 3]])
    with pytest.raises(ApiError) as refused:
        full.submit([[2, 3]])
    assert refused.value.status == 429


def test_descriptions_are_split_by_source_package(tmp_path: Path) -> None:
    names = [f"{first}{second}" for first in "abcdefgh" for second in "klmnopqrst"]
    packages = "".join(f"Package: {n}\nSection: games\nDescription-md5: {n}\n\n" for n in names)
    texts = "".join(
        f"Package: {n}\nDescription-md5: {n}\nDescription-en: about {n}\n All of {n}.\n"
        f"Description-de: {n} eben\n Alles von {n}.\n\n"
        for n in names
    )
    (tmp_path / "Packages").write_text(packages)
    (tmp_path / "Translation").write_text(texts)
    indexes = (tmp_path / "Packages", tmp_path / "Translation")

    def made(name: str, *options: object) -> dict[str, list[dict[str, str]]]:
        result = run("descriptions", *indexes, "--output", tmp_path / name, *options)
        assert result.exit_code == 0, result.exception
        files = sorted((tmp_path / name).iterdir())
        return {file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in files}

    english = made("en")
    assert set(english) == {"train", "dev", "test"}
    assert sorted(r["package"] for part in english.values() for r in part) == names
    assert {r["language"] for part in english.values() for r in part} == {"en"}
    assert len(english["train"]) > len(english["test"]) > 0
    assert made("seed", "--seed", 1) != english
    both = made("both", "--language", "en", "--language", "de")
    assert sum(map(len, both.values())) == 2 * len(names)
    assert isinstance(run("descriptions", indexes[0], "-o", tmp_path / "none").exception, DataError)


def test_xtune_is_a_method_of_finetune(model: Path, tmp_path: Path) -> None:
    rows = [{"text": f"it was {('good', 'bad')[n % 2]} {n}", "label": "+-"[n % 2]} for n in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "en-de.txt").write_text("good tom\nbad paris\n")
    given = [
        "finetune",
        "--data",
        tmp_path / "rows.jsonl",
        "--init-from",
        model,
        "--steps",
        2,
        "--device",
        "cpu",
    ]
    given += ["--output", tmp_path / "run", "--dictionary", tmp_path / "en-de.txt", "--max-length", 24]
    done = run(*given, "--method", "xtune", "--lambda2", 2, "--json")
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["method"] == "xtune"
    for more, said in [
        (["--method", "xtune", "--languages", "xx"], "no dictionary into 'xx'; there are: de"),
        (["--method", "xtune", "--preset", "xnil"], "unknown preset 'xnil'"),
        ([], "--dictionary belongs to --method xtune"),
    ]:
        refused = run(*given, *more)
        assert isinstance(refused.exception, InputError | ConfigError)
        assert said in str(refused.exception)


def test_answers_are_evaluated_as_squad_does(tmp_path: Path) -> None:
    sentence = sentence_model(tmp_path / "base")
    checkpoint.save(SpanExtractor(sentence.encoder), tmp_path / "qa")
    sentence.tokenizer.save(tmp_path / "qa")
    qas = [{"id": "1", "question": "where", "answers": [{"text": "paris", "answer_start": 14}]}]
    squad = {"data": [{"paragraphs": [{"context": "anna lives in paris", "qas": qas}]}]}
    (tmp_path / "qa.json").write_text(json.dumps(squad))
    done = run("evaluate", "extraction", tmp_path / "qa.json", "-m", tmp_path / "qa", "--json")
    assert done.exit_code == 0, done.exception
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["whole context f1"]["mean"] == pytest.approx(0.4)
    assert 0 <= metrics["f1"]["mean"] <= 1
