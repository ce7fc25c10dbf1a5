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
from multiway_text.data.squad import (
    Answer,
    Question,
    best_threshold,
    exact_match,
    read_squad,
    token_f1,
    write_squad,
)
from multiway_text.encoder import checkpoint, tasks
from multiway_text.encoder.heads import SpanExtractor
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.recipe import RECIPES
from multiway_text.encoder.spans import Passage, best_spans

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
    # An answer of which nothing is left counts only where all are such: as the script's list of gold answers.
    assert (exact_match("", ["the", "cat"]), token_f1("", ["the", "cat"])) == (0.0, 0.0)
    assert (exact_match("", ["the", "!"]), token_f1("a", ["the"])) == (1.0, 1.0)
    assert exact_match("l'été  n’est", ["lété n’est"]) == 1.0  # ASCII punctuation alone is taken away


def test_the_best_threshold_is_brute_forces() -> None:
    import random

    draw = random.Random(0)
    for _ in range(200):
        count = draw.randint(1, 8)
        scores = [draw.choice([0.0, 0.5, 1.0]) for _ in range(count)]
        has = [draw.random() < 0.5 for _ in range(count)]
        scores = [score if there else 0.0 for score, there in zip(scores, has, strict=True)]
        no_answer = [float(draw.randint(0, 4)) for _ in range(count)]
        rows = list(zip(scores, no_answer, has, strict=True))
        means = {
            threshold: sum(s if v <= threshold else float(not h) for s, v, h in rows) / count
            for threshold in (float("-inf"), *no_answer)
        }
        best, threshold = best_threshold(scores, no_answer, has)
        assert best == pytest.approx(max(means.values()))
        assert means[threshold] == pytest.approx(best)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rows = [
        Question("1", "Where?", "anna in paris", (Answer("paris", 8), Answer("in paris", 5)), "", (), "A"),
        Question("2", "When?", "anna in paris", (), "", (Answer("anna", 0),), "A"),
        Question("3", "Who — “é”?", "tom", (Answer("tom", 0),), "", (), "B"),
    ]
    write_squad(tmp_path / "a.json", rows)
    found = read_squad([str(tmp_path / "a.json")])
    assert [replace(one, where="") for one in found] == rows
    assert found[1].where.endswith("a.json.data[0].paragraphs[0].qas[1]")
    content = json.loads((tmp_path / "a.json").read_text())
    assert [len(article["paragraphs"]) for article in content["data"]] == [1, 1]
    assert content["data"][0]["paragraphs"][0]["qas"][1]["is_impossible"] is True
    assert len(read_squad([str(tmp_path)])) == 3  # a folder of such files
    row = {"id": "1", "title": "A", "context": "anna in paris", "question": "Where?"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**row, "answers": {"text": ["paris", "in paris"], "answer_start": [8, 5]}}))
    assert [replace(one, where="") for one in read_squad([str(path)])] == rows[:1]
    path.write_text(json.dumps({**row, "question": "W\ud800", "answers": {"text": [], "answer_start": []}}))
    assert read_squad([str(path)])[0].question == "W?"
    path.write_text(json.dumps({**row, "answers": {"text": ["paris"], "answer_start": []}}))
    with pytest.raises(DataError, match=r"rows.jsonl:1: answers: 1 texts, but 0 starts"):
        read_squad([str(path)])


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
        ({"question": " "}, r"qas\[0\].question: empty"),
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
    text = "Tom's goodness, film東京 xfilm"  # pieces of words are given as whole words; scripts without spaces are not
    passage = Passage(words, "where", text, 40)
    for piece, whole in [("odne", "goodness"), ("film", "film"), ("film", "xfilm"), ("m", "Tom")]:
        start = text.rindex(piece) if whole == "xfilm" else text.index(piece)
        first, last = passage.characters(*passage.tokens(start, start + len(piece)))
        assert text[first:last] == whole
    with pytest.raises(InputError, match="no room for a context"):
        Passage(words, "where is it", context, 8)


def test_the_best_spans_are_brute_forces(tmp_path: Path) -> None:
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
        found, none = best_spans(logits_T2, window, 30, max_answer=3)
        order = sorted(spans, key=lambda span: -spans[span])
        assert [(span.first, span.last) for span in found] == order
        assert [span.log_probability for span in found] == pytest.approx([spans[s] for s in order], abs=1e-5)
        assert none == pytest.approx(float(log_T2[0].sum()), abs=1e-5)
        assert found[0].margin == pytest.approx(spans[order[0]] - none, abs=1e-5)


def test_many_contexts_are_read_as_each_alone(tmp_path: Path) -> None:
    """Batches, windows and the order of contexts change nothing; the best span is the best of all windows."""
    base = sentence_model(tmp_path / "base", num_positions=40)
    head = SpanExtractor(base.encoder).eval()
    pipeline = EncoderPipeline(base, head=head)
    letters = "abcdefghijklmnopqrstuvwxyz"
    contexts = ["a b", " ".join(letters * 3), "", "tom lives in paris", " ".join(letters)]
    asked = [("where is tom", context) for context in contexts]
    together = list(pipeline.read(asked, count=4))
    for pair, reading in zip(asked, together, strict=True):
        (alone,) = pipeline.read([pair], count=4)
        assert [(s.start, s.end) for s in alone.spans] == [(s.start, s.end) for s in reading.spans]
        assert [s.margin for s in alone.spans] == pytest.approx([s.margin for s in reading.spans], abs=1e-4)
    assert together[2].spans == ()
    assert together[2].best().text == ""
    passage = Passage(base.tokenizer, *asked[1], max_length=40)
    best: dict[tuple[int, int], float] = {}
    for window in passage.windows():
        ids, types = torch.tensor([window.ids]), torch.tensor([window.types])
        with torch.inference_mode():
            logits_T2 = head(ids, torch.ones_like(ids, dtype=torch.bool), types_BT=types)[0]
        log_T2 = logits_T2.double().log_softmax(0)
        for first, last in itertools.product(range(window.start, window.stop), repeat=2):
            if first <= last < first + 30:
                place = window.first - window.start
                margin = float(log_T2[first + place, 0] + log_T2[last + place, 1] - log_T2[0].sum())
                best[first, last] = max(margin, best.get((first, last), -1e9))
    order = sorted(best, key=lambda span: -best[span])[:4]
    assert [(s.start, s.end) for s in together[1].spans] == [passage.characters(*span) for span in order]


def test_a_reader_in_8_bits_answers_as_in_32(tmp_path: Path) -> None:
    base = sentence_model(tmp_path / "base", num_positions=40)
    head = SpanExtractor(base.encoder).eval()
    with torch.no_grad():
        base.encoder.type_embedding.weight[1] += 0.7  # a reader that forgot types would be far off
        head.head.output.weight.normal_(generator=torch.Generator().manual_seed(0))
    checkpoint.save(head, tmp_path / "int8", int8=True)
    base.tokenizer.save(tmp_path / "int8")
    small = EncoderPipeline.from_pretrained(str(tmp_path / "int8"))
    assert small.sentence.int8 is not None
    assert small.sentence.int8.types == 2
    wide = EncoderPipeline.from_pretrained(str(tmp_path / "int8"), dtype=torch.float32)
    assert wide.sentence.int8 is None
    asked = [("where is tom", "a b c d e f g"), ("who", " ".join("abcdefghijklmnopqrstuvwxyz" * 2))]
    for exact, one, other in zip(
        EncoderPipeline(base, head=head).read(asked), wide.read(asked), small.read(asked), strict=True
    ):
        assert one.margin == pytest.approx(exact.margin, abs=0.5)
        assert other.margin == pytest.approx(one.margin, abs=0.5)
        assert other.none == pytest.approx(one.none, abs=0.05)


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
