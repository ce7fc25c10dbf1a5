"""Fine-tuning: what is read, what is held out, that the three tasks are learnt, that runs repeat, and bad files."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from multiway_core import training
from multiway_core.errors import DataError, InputError
from multiway_core.training import TrainOptions
from multiway_text.encoder import examples, scores
from multiway_text.encoder.examples import Labelled
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.recipe import RECIPES, Recipe, Shuffled
from multiway_text.encoder.rows import read_rows

from packages.text.tests.tiny_encoder import sentence_model


def quick(task: str, **changes: Any) -> Recipe:
    recipe = replace(RECIPES[task], batch_size=8, max_length=24, **changes)
    return replace(recipe, train=replace(recipe.train, steps=40, learning_rate=3e-3))


def options_of(folder: Path, data: str) -> TrainOptions:
    return TrainOptions(folder / "run", data=(str(folder / data),), init_from=str(folder / "base"), steps=40)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_classifier_is_learnt_from_csv(tmp_path: Path) -> None:
    sentence_model(tmp_path / "base")
    lines = ["review,kind"]
    for number in range(60):
        letter = "abcdefghij"[number % 10]
        lines.append(
            f'"it was a good film, {letter} {number}",plus'
            if number % 2
            else f"bad film {letter} {number},minus"
        )
    (tmp_path / "data.csv").write_text("\n".join(lines))
    recipe = quick("classify", text="review", label="kind")
    options = TrainOptions(
        tmp_path / "run", data=(str(tmp_path / "data.csv"),), init_from=str(tmp_path / "base"), steps=40
    )
    report = training.run(recipe, options)
    assert report.held_out["accuracy"] == 1.0
    assert report.facts["labels"] == 2
    pipeline = EncoderPipeline.from_pretrained(str(report.folder))
    assert [item.label for item in pipeline.classify(["it was a good film, z 7", "bad film z 8"])] == [
        "plus",
        "minus",
    ]


def test_a_tagger_is_learnt_from_conll(tmp_path: Path) -> None:
    sentence_model(tmp_path / "base")
    sentences = []
    for number in range(40):
        name, city = ("anna", "tom")[number % 2], ("paris", "london")[number % 3 % 2]
        letter = "abcdefghij"[number % 10]
        sentences.append(f"{name} NNP B-PER\n{letter} NNP I-PER\nlives VBZ O\nin IN O\n{city} NNP B-LOC\n")
    (tmp_path / "data.conll").write_text("-DOCSTART- -X- O\n\n" + "\n".join(sentences))
    options = TrainOptions(
        tmp_path / "run", data=(str(tmp_path / "data.conll"),), init_from=str(tmp_path / "base"), steps=40
    )
    report = training.run(quick("tag"), options)
    assert report.held_out["f1"] == 1.0
    found = EncoderPipeline.from_pretrained(str(report.folder)).tag(["Tom b lives in Paris"])[0]
    assert [(span.text, span.label) for span in found.spans] == [("Tom b", "PER"), ("Paris", "LOC")]


def test_vectors_are_learnt_from_pairs(tmp_path: Path) -> None:
    sentence_model(tmp_path / "base")
    words = ["film", "paris", "anna", "london", "very", "good", "bad", "lives", "tom", "was"]
    rows = [{"text": f"{a} a {b}", "pair": f"it {b} {a}"} for a in words for b in words if a < b]
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    options = options_of(tmp_path, data)
    report = training.run(quick("pairs"), options)
    assert report.held_out["accuracy@1"] > report.held_out_before["accuracy@1"]
    pipeline = EncoderPipeline.from_pretrained(str(report.folder))
    assert pipeline.sentence.settings.max_length == 24


def test_rows_that_share_a_text_never_meet_in_a_batch() -> None:
    keys = [(number // 3, 100 + number) for number in range(30)]
    batches = Shuffled(lambda rows: rows, 30, 8, 0, keys)  # type: ignore[arg-type,return-value]
    for step in range(20):
        rows: Any = batches(step, 0, 1)
        assert len({keys[row][0] for row in rows}) == len(rows) == 8
        assert rows == batches(step, 0, 1)
    with pytest.raises(InputError, match="all rows share a text"):
        Shuffled(lambda rows: rows, 5, 4, 0, [(0,)] * 5)(0, 0, 1)  # type: ignore[arg-type,return-value]


def test_held_out_texts_are_not_trained_on() -> None:
    rows = [Labelled(f"text {number % 70}", "ab"[number % 2], f"f:{number}") for number in range(140)]
    kept, held_out = examples.split(rows)
    assert {one.text for one in kept}.isdisjoint(one.text for one in held_out)
    assert {one.label for one in kept} == {"a", "b"}
    assert 2 <= len(held_out) <= 40
    with pytest.raises(InputError, match="too few"):
        examples.split(rows[:1])


def test_bad_data_names_file_line_and_what_would_be_right(tmp_path: Path) -> None:
    sentence_model(tmp_path / "base")
    good = [{"text": f"good {n}", "label": "ab"[n % 2]} for n in range(40)]
    data = write_rows(tmp_path / "train.jsonl", good)

    def run(recipe: Recipe = RECIPES["classify"], *files: str) -> None:
        options = TrainOptions(tmp_path / "run", data=files, init_from=str(tmp_path / "base"))
        replace(recipe, max_length=24).build(options)

    unseen = write_rows(tmp_path / "dev.jsonl", [good[0], {"text": "x", "label": "c"}])
    with pytest.raises(
        DataError, match=r"dev\.jsonl:2: the label 'c' does not occur in the training data; it has a, b"
    ):
        run(replace(RECIPES["classify"], held_out=(unseen,)), data)
    path = tmp_path / "broken.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in good[:16]) + '{"text": "x", \n')
    with pytest.raises(DataError, match=r'broken\.jsonl:17: not JSON .*expected an object a line, \{"text"'):
        run(RECIPES["classify"], str(path))
    cases: list[tuple[str, str, str]] = [
        ("a.csv", "text,label\nx,a,b\n", r"a\.csv:2: 3 cells, expected 2: text, label"),
        ("b.csv", "x,x\n1,2\n", r"b\.csv:1: expected names of columns.*--columns"),
        ("c.csv", "body,label\nx,a\n", r"c\.csv:2: no field 'text'; there are body, label"),
        ("d.csv", "text,label\nx,\n", r"d\.csv:2: expected a label in 'label', got ''"),
        ("e.jsonl", '{"text": 5, "label": "a"}', r"e\.jsonl:1: text: expected text, got 5"),
        ("f.csv", "text,label\nx,a\ny,a\n", r"there is one label only \(a\)"),
        ("g.jsonl", "[1]", r"g\.jsonl:1: expected an object"),
        ("h.csv", "text,label\n", "no row"),
    ]
    for name, content, message in cases:
        (tmp_path / name).write_text(content)
        with pytest.raises((DataError, InputError), match=message):
            run(RECIPES["classify"], str(tmp_path / name))
    (tmp_path / "t.conll").write_text("Paris B-LOC\nalone\n")
    with pytest.raises(
        DataError, match=r"t\.conll:2: expected a word and its tag, such as 'Paris B-LOC', got 'alone'"
    ):
        run(RECIPES["tag"], str(tmp_path / "t.conll"))
    (tmp_path / "t.jsonl").write_text('{"tokens": ["a"], "tags": ["O", "O"]}')
    with pytest.raises(DataError, match=r"t\.jsonl:1: 1 words and 2 tags"):
        run(RECIPES["tag"], str(tmp_path / "t.jsonl"))
    with pytest.raises(DataError, match="an empty text belongs to nothing"):
        run(RECIPES["pairs"], write_rows(tmp_path / "p.jsonl", [{"text": "a", "pair": " "}]))
    with pytest.raises(InputError, match="needs --data"):
        run()


def test_rows_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b'one "quoted\tx\ntwo\ty\n'))
    rows = list(read_rows([str(tmp_path / "a.tsv.gz")], columns=("text", "label")))
    assert [row.fields for row in rows] == [
        {"text": 'one "quoted', "label": "x"},
        {"text": "two", "label": "y"},
    ]
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbffirst\r\n\r\nthird")
    assert [row.text("text") for row in read_rows([str(tmp_path / "b.txt")])] == ["first", "", "third"]
    assert [r.where.rpartition(":")[2] for r in read_rows([str(tmp_path / "b.txt")])] == ["1", "2", "3"]
    (tmp_path / "c.txt").write_bytes(b"good\nb\xffd\n")
    with pytest.raises(DataError, match=r"c\.txt:2: not UTF-8"):
        list(read_rows([str(tmp_path / "c.txt")]))
    (tmp_path / "d.conllu").write_text("# x\n1\tAnna\tAnna\tPROPN\n2-3\tdu\t_\t_\n2\tlives\tlive\tVERB\n\n")
    assert examples.read_tagged([str(tmp_path / "d.conllu")])[0].tags == ("PROPN", "VERB")
    # A word may be "#" or hold another end of a line; "# ..." without a tab is a remark.
    (tmp_path / "d.tsv").write_bytes("# about\n#\tSYM\r\na\u2028b\tNOUN\r\n\r\nc\tX\n".encode())
    found = examples.read_tagged([str(tmp_path / "d.tsv")])
    assert [one.words for one in found] == [("#", "a\u2028b"), ("c",)]
    assert found[0].tags == ("SYM", "NOUN")


def test_scores_against_slow_ones() -> None:
    pairs = [("a", "a"), ("a", "b"), ("b", "b"), ("c", "a")]
    sklearn = pytest.importorskip("sklearn.metrics")
    predicted, right = zip(*pairs, strict=True)
    assert scores.macro_f1(pairs) == pytest.approx(sklearn.f1_score(right, predicted, average="macro"))
    scipy = pytest.importorskip("scipy.stats")
    one, other = torch.randint(0, 5, (2, 50), generator=torch.Generator().manual_seed(0)).double().numpy()
    assert scores.spearman(one, other) == pytest.approx(scipy.spearmanr(one, other).statistic)
    assert scores.span_f1([(["B-X", "I-X", "O"], ["B-X", "O", "O"])]) == 0.0
    assert scores.span_f1([(["B-X", "O", "B-Y"], ["B-X", "O", "O"])]) == pytest.approx(2 / 3)


def test_smoke_in_two_processes_gives_the_same_bits(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from multiway_core import training; from multiway_text.encoder.recipe import RECIPES\n"
        "training.run(RECIPES['smoke'], training.TrainOptions(Path(sys.argv[1]), steps=2, seed=3))"
    )
    digests = []
    for number in (1, 2):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(number)}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / str(number))], env=environment, check=True)
        digests.append(
            {
                file.name: hashlib.sha256(file.read_bytes()).hexdigest()
                for file in sorted((tmp_path / str(number) / "model").iterdir())
            }
        )
    assert digests[0] == digests[1]
    assert "model.safetensors" in digests[0]
