"""Questions on contexts: SQuAD files and scores, windows over long contexts, the best span, a model that learns."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from multiway_core import training
from multiway_core.errors import DataError, InputError
from multiway_core.training import TrainOptions
from multiway_text.data.squad import exact_match, read_squad, token_f1
from multiway_text.encoder import tasks
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.recipe import RECIPES
from multiway_text.encoder.spans import Passage, best_span

from packages.text.tests.tiny_encoder import sentence_model, tokenizer


def squad(path: Path, contexts: list[tuple[str, str, str]]) -> str:
    """(context, question, answer) in SQuAD's form."""
    paragraphs = [
        {
            "context": context,
            "qas": [
                {
                    "id": str(number),
                    "question": question,
                    "answers": [{"text": answer, "answer_start": context.find(answer)}] if answer else [],
                }
            ],
        }
        for number, (context, question, answer) in enumerate(contexts)
    ]
    path.write_text(json.dumps({"version": "1.1", "data": [{"paragraphs": paragraphs}]}))
    return str(path)


def test_scores_are_squads() -> None:
    assert exact_match("The Cat!", ["cat"]) == 1.0
    assert exact_match("", []) == 1.0
    assert exact_match("x", []) == 0.0
    assert token_f1("a black cat", ["cat", "black cats"]) == pytest.approx(2 / 3)
    assert token_f1("the", ["an"]) == 1.0  # nothing is left of both
    assert token_f1("dog", ["cat"]) == 0.0
    assert token_f1("in in paris", ["in paris in town"]) == pytest.approx(2 * 3 / 7)


def test_answers_stand_where_the_file_says_or_near(tmp_path: Path) -> None:
    path = squad(tmp_path / "a.json", [("anna lives in paris in it", "where", "paris")])
    content = json.loads(Path(path).read_text())
    item = content["data"][0]["paragraphs"][0]["qas"][0]
    item["answers"] = [{"text": "in", "answer_start": 18}]
    Path(path).write_text(json.dumps(content))
    assert read_squad([path])[0].answers[0].start == 20
    for change, said in [
        (
            {"answers": [{"text": "rome", "answer_start": 0}]},
            r"answers\[0\]: the answer 'rome' does not occur",
        ),
        ({"answers": [{"text": "", "answer_start": 0}]}, "empty; a question without"),
        ({"answers": [{"text": "in"}]}, "missing key 'answer_start'"),
        ({"question": 3}, "expected a string"),
    ]:
        content["data"][0]["paragraphs"][0]["qas"][0] = {**item, **change}
        Path(path).write_text(json.dumps(content))
        with pytest.raises(DataError, match=said):
            read_squad([path])
    Path(path).write_text('{"data": [{"paragraphs": [{"context": "a", "qas": ["b"]}]}]}')
    with pytest.raises(DataError, match="expected an object"):
        read_squad([path])
    Path(path).write_text('{"data": []}')
    with pytest.raises(InputError, match="no question"):
        read_squad([path])


def test_windows_cover_the_context_and_know_the_answer(tmp_path: Path) -> None:
    words = tokenizer(tmp_path)
    context = " ".join("abcdefghijklmnopqrstuvwxyz")
    passage = Passage(words, "where is it", context, 15)
    windows = passage.windows(stride=4)
    assert {place for window in windows for place in range(window.start, window.stop)} == set(range(26))
    for window in windows:
        assert len(window.ids) <= 15
        assert (
            window.ids[window.first : window.first + window.stop - window.start]
            == (passage.context[window.start : window.stop])
        )
    path = squad(tmp_path / "a.json", [(context, "where is it", "k l")])
    question = read_squad([path])[0]
    passage = Passage(words, question.question, question.context, 15)
    for window, (first, last) in tasks.answer_windows(passage, question):
        if (first, last) != (0, 0):
            assert words.decode(window.ids[first : last + 1]).split() == ["k", "l"]
    assert passage.characters(*passage.tokens(context.index("k"), context.index("l") + 1)) == (20, 23)
    with pytest.raises(InputError, match="no room for a context"):
        Passage(words, "where is it", context, 8)


def test_the_best_span_is_brute_forces(tmp_path: Path) -> None:
    passage = Passage(tokenizer(tmp_path), "a", "b c d e f g h", 40)
    window = passage.windows()[0]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits_T2 = torch.randn(len(window.ids), 2, generator=generator)
        log_T2 = logits_T2.double().log_softmax(0)
        spans = {
            (first, last): float(log_T2[window.first + first, 0] + log_T2[window.first + last, 1])
            for first, last in itertools.product(range(7), range(7))
            if first <= last < first + 3
        }
        score, none, first, last = best_span(logits_T2, window, max_answer=3)
        assert (first, last) == max(spans, key=lambda span: spans[span])
        assert score == pytest.approx(spans[first, last], abs=1e-5)
        assert none == pytest.approx(float(log_T2[0].sum()), abs=1e-5)


def test_answers_are_learnt_from_squad(tmp_path: Path) -> None:
    sentence_model(tmp_path / "base", num_positions=40)
    names, cities = ("anna", "tom"), ("paris", "london")
    rows: list[tuple[str, str, str]] = []
    for number in range(60):
        name, city, letter = names[number % 2], cities[number // 2 % 2], "abcdefghij"[number % 10]
        rows.append((f"{letter} {name} {number} lives in {city} it was", "lives in", city))
    data = squad(tmp_path / "train.json", rows)
    recipe: Any = replace(RECIPES["extract"], batch_size=8, max_length=24)
    recipe = replace(recipe, train=replace(recipe.train, learning_rate=3e-3))
    report = training.run(
        recipe, TrainOptions(tmp_path / "run", data=(data,), init_from=str(tmp_path / "base"), steps=40)
    )
    assert report.held_out["exact_match"] > 0.9 > report.held_out_before["exact_match"]
    pipeline = EncoderPipeline.from_pretrained(str(report.folder))
    context = "z Anna 77 lives in Paris it was"
    found = pipeline.answer("lives in", context)
    assert context[found.start : found.end] == found.text == "Paris"
    with pytest.raises(InputError, match="extracts no answers"):
        EncoderPipeline.from_pretrained(str(tmp_path / "base")).answer("a", "b")
