"""The adapter in the LM Evaluation Harness itself: its three kinds of requests on a task of our own."""

from __future__ import annotations

import importlib
import json
import math

import pytest

lm_eval = pytest.importorskip("lm_eval", reason="needs lm-eval (extra harness)")

from multiway_text.language_model import LanguageModel  # noqa: E402
from multiway_text.lm_harness import HarnessModel  # noqa: E402
from multiway_text.sampling import SamplingOptions  # noqa: E402

tiny = importlib.import_module("packages.text.tests.tiny_lm")
pytestmark = pytest.mark.peer

CHOICE = """
task: toy_choice
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
target_delimiter: ""
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
ROLLING = """
task: toy_rolling
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: bits_per_byte}]
"""
UNTIL = """
task: toy_until
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{said}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: false}
metric_list: [{metric: exact_match}]
"""
QUESTIONS = ["The quick brown", "A river runs through", "Naïve café:"]
CHOICES = [" fox", " the town", " žluťoučký kůň"]


def test_the_three_kinds_of_requests(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    model = LanguageModel.from_pretrained(tiny.save_llama(tmp_path / "model"))
    until = SamplingOptions(max_tokens=6, stop=("\n",))
    rows = [
        {
            "question": question,
            "choices": CHOICES,
            "answer": number,
            "said": model.generate(question, until)[0].text,
        }
        for number, question in enumerate(QUESTIONS)
    ]
    data = tmp_path / "toy.json"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    for name, task in (("choice", CHOICE), ("rolling", ROLLING), ("until", UNTIL)):
        (tmp_path / f"{name}.yaml").write_text(task % data)
    from lm_eval.tasks import TaskManager

    results = lm_eval.simple_evaluate(
        model=HarnessModel(model),
        tasks=["toy_choice", "toy_rolling", "toy_until"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
    )["results"]
    right = [model.choose(q, CHOICES).best == number for number, q in enumerate(QUESTIONS)]
    assert results["toy_choice"]["acc,none"] == pytest.approx(sum(right) / 3)
    scores = [model.score(question) for question in QUESTIONS]
    bits = -sum(s.log_prob for s in scores) / math.log(2) / sum(s.num_bytes for s in scores)
    assert results["toy_rolling"]["bits_per_byte,none"] == pytest.approx(bits, rel=1e-3)
    assert results["toy_until"]["exact_match,none"] == 1.0


def test_a_pair_beyond_the_context_loses_its_beginning(tmp_path) -> None:
    model = LanguageModel.from_pretrained(tiny.save_llama(tmp_path / "model", max_positions=16))
    adapter = HarnessModel(model)
    assert adapter._cut(range(30), range(5)) == (list(range(19, 30)), list(range(5)))
    assert adapter._cut(range(30), range(40)) == ([29], list(range(25, 40)))
