"""What benchmarks share: contenders take turns, a report says where its numbers come from, tables come from values."""

from __future__ import annotations

import json

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
