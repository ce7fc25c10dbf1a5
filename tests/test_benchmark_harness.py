"""What benchmarks share: contenders take turns, a report says where its numbers come from, tables come from values."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from benchmarks import harness


def test_contenders_take_turns_and_the_warm_up_does_not_count():
    calls = []
    ticks = iter(range(100))
    contenders = {"ours": lambda: calls.append("ours"), "theirs": lambda: calls.append("theirs")}
    seconds = harness.in_turn(contenders, rounds=2, clock=lambda: next(ticks))
    assert calls == ["ours", "theirs"] * 3
    assert seconds == {"ours": [1, 1], "theirs": [1, 1]}


def test_a_report_names_command_machine_and_versions(tmp_path):
    report = harness.provenance("test", 2) | {"rows": [1]}
    assert report["schema"] == "multiway.benchmark.test/2"
    assert report["machine"]["instruction_set"]
    assert report["machine"]["load_average"] >= 0
    assert {"command", "started_at", "versions"} <= report.keys()
    harness.save(tmp_path / "new", "test", report, "# Page\n\n\n")
    assert json.loads((tmp_path / "new" / "test.json").read_text())["rows"] == [1]
    assert (tmp_path / "new" / "test.md").read_text() == "# Page\n"


def test_a_table_aligns_numbers_to_the_right():
    assert harness.table(["model", "ms"], [["a", 1.5], ["b", 20]]).splitlines() == [
        "| model | ms |",
        "| --- | --: |",
        "| a | 1.5 |",
        "| b | 20 |",
    ]


def test_output_is_asked_for_only_where_results_have_a_folder():
    assert harness.parser("d", "text").parse_args([]).output == harness.RESULTS / "text"
    with pytest.raises(SystemExit):
        harness.parser("d").parse_args(["--output", "x"])


def test_a_cell_is_computed_once_and_none_begins_late(tmp_path):
    made = []
    path = tmp_path / "cells" / "arm-0.json"
    for _ in range(2):
        assert harness.kept(path, lambda: made.append(1) or {"score": 0.5}, minutes=1e9) == {"score": 0.5}
    assert made == [1]
    assert harness.kept(path, dict, minutes=-1) == {"score": 0.5}
    assert harness.kept(tmp_path / "other.json", dict, minutes=-1) is None


def test_a_stopped_training_is_no_result(tmp_path, monkeypatch):
    import multiway_core.training as training

    for finished in (True, False):
        report = SimpleNamespace(finished=finished)
        monkeypatch.setattr(training, "run", lambda recipe, options, report=report: report)
        options = training.TrainOptions(tmp_path / "run")
        if finished:
            assert harness.trained(None, options) is report
        else:
            with pytest.raises(SystemExit, match="run: stopped; the same command goes on"):
                harness.trained(None, options)
