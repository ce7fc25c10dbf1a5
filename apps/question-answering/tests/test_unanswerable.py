"""The ``unanswerable`` command, with rules and with a generator that ``train`` wrote."""

from __future__ import annotations

import json
from pathlib import Path

from multiway_text.data.squad import Answer, Question, write_squad


def test_unanswerable_twins_by_rules_and_by_a_generator(tmp_path: Path, command) -> None:
    context = "The bridge of Oslo was built in 1822 by the people of the town."
    answer = Answer("1822", context.index("1822"))
    data = tmp_path / "squad.json"
    write_squad(data, [Question("a", "When was the bridge of Oslo built?", context, (answer,), "")])
    output = tmp_path / "out.json"
    code, out, err = command("unanswerable", data, "-o", output)
    assert (code, out) == (
        0,
        "1 twins of 1 answerable questions, beside 0 unanswerable ones; dropped 0 copies; 0 without a twin\n",
    )
    assert "by rules" in err
    [question, twin] = json.loads(output.read_text())["data"][0]["paragraphs"][0]["qas"]
    assert not question["is_impossible"]
    assert (twin["question"], twin["answers"], twin["is_impossible"]) == (
        "When was the bridge of Oslo destroyed?",
        [],
        True,
    )
    assert twin["plausible_answers"] == question["answers"]
    run = tmp_path / "run"
    code, _, err = command(
        "train", "--preset", "unanswerable-smoke", "--steps", 2, "-o", run, "--device", "cpu"
    )
    assert code == 0, err
    code, out, err = command("unanswerable", data, "-o", output, "--model", run / "model", "--json")
    assert code == 0, err
    assert json.loads(out)["answerable"] == 1
    code, out, err = command("unanswerable", data, "-o", output, "--model", "bundled:minilm-l6")
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
