"""Fine-tuning on pairs: what is learnt, prompts, and that the result is a model that an index takes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from multiway_core import training
from multiway_core.errors import DataError
from multiway_core.training import TrainOptions
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings
from multiway_text.search.pipeline import SearchPipeline
from multiway_text.search.recipe import RECIPES

from packages.text.tests.tiny_encoder import sentence_model

LETTERS = "abcdefghijklmnop"
PROMPTS = {"query": "anna ", "passage": "tom "}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    settings = SentenceSettings(normalize=True, prompts=PROMPTS, default_prompt="query", languages=("en",))
    sentence_model(tmp_path / "base", settings)
    rows = [
        f"{letter} {letter} film\tit was {other}"
        for letter, other in zip(LETTERS, LETTERS[::-1], strict=True)
    ]
    (tmp_path / "pairs.tsv").write_text("text\tpair\n" + "\n".join(rows))
    return tmp_path / "base"


def train(base: Path, output: str, steps: int, **more: Any) -> Any:
    recipe = replace(
        RECIPES["pairs"], batch_size=8, max_length=24, held_out=(str(base.parent / "pairs.tsv"),)
    )
    recipe = replace(recipe, train=replace(recipe.train, learning_rate=3e-3))
    data = (str(base.parent / "pairs.tsv"),)
    return training.run(recipe, TrainOptions(base.parent / output, data, str(base), steps=steps, **more))


def test_pairs_are_learnt_and_the_result_is_an_indexs_model(base: Path, tmp_path: Path) -> None:
    report = train(base, "run", 60)
    assert report.held_out_before["accuracy@1"] < 0.5
    assert report.held_out["accuracy@1"] > 0.8
    settings = SentenceModel.load(tmp_path / "run" / "model").settings
    assert (settings.prompts, settings.default_prompt, settings.languages) == (PROMPTS, "query", ("en",))
    pipeline = SearchPipeline.from_pretrained(str(tmp_path / "run" / "model"))
    with pipeline.open(tmp_path / "index", create=True) as index:
        pipeline.add(index, {other: f"it was {other}" for other in LETTERS})
        queries = [f"{letter} {letter} film" for letter in LETTERS]
        found = [pipeline.query(index, query, mode="dense", highlight=False).hits[0] for query in queries]
    # The same accuracy by the prompts of an index as in training: a wrong one would lose it.
    right = sum(hit.passage.path == other for hit, other in zip(found, LETTERS[::-1], strict=True))
    assert right / len(LETTERS) == report.held_out["accuracy@1"]


def test_a_run_resumes_to_the_same_bits(base: Path, tmp_path: Path) -> None:
    def bits(name: str) -> str:
        return hashlib.sha256((tmp_path / name / "model" / "model.safetensors").read_bytes()).hexdigest()

    train(base, "whole", 6)
    first = train(base, "parts", 6, minutes=1e-5)
    assert first.steps < 6
    train(base, "parts", 6)
    assert bits("parts") == bits("whole")


def test_bad_pairs_are_one_line(base: Path) -> None:
    path = base.parent / "pairs.tsv"
    for text, message in {
        "text\tpair\na\t \nb\tc\n": "pairs.tsv:2: an empty text belongs to nothing",
        "one\ttwo\na\tb\n": "no field 'text'; there are one, two",
    }.items():
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            train(base, "bad", 2)
