"""Logs as they come: one clear line for what is wrong, and nothing lost of what is merely odd."""

from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture
def log(world, tmp_path):
    """A copy of the portal's dev split: its folder, and a function that rewrites the lines of one of its files."""
    folder = tmp_path / "log"
    shutil.copytree(world.portal / "dev", folder)

    def change(name, function):
        path = folder / name
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(function(lines)))
        return folder

    return change


def _set(number, column, value):
    def change(lines):
        fields = lines[number].rstrip("\n").split("\t")
        fields[column] = value
        lines[number] = "\t".join(fields) + "\n"
        return lines

    return change


BAD = [
    ("behaviors.tsv", lambda lines: [*lines, lines[0]], "behaviors.tsv:"),  # an impression twice
    (
        "behaviors.tsv",
        lambda lines: [*lines[:-1], lines[-1].rstrip("\n")[:-1]],
        "behaviors.tsv:",
    ),  # cut mid-line
    ("behaviors.tsv", _set(2, 2, "yesterday"), "behaviors.tsv:3:"),
    ("behaviors.tsv", _set(1, 4, "N1-1 N2"), "behaviors.tsv:2:"),  # labelled and not
    ("behaviors.tsv", _set(1, 4, ""), "behaviors.tsv:2:"),
    ("behaviors.tsv", _set(0, 4, "N999999999-1 N1-0"), "behaviors.tsv:1:"),  # an unknown candidate
    ("news.tsv", _set(4, 6, "{not json"), "news.tsv:5:"),
    ("news.tsv", lambda lines: ["N1\tonly three\tcolumns\n", *lines[1:]], "news.tsv:1:"),
]


@pytest.mark.parametrize(("name", "change", "place"), BAD)
@pytest.mark.parametrize("command", ["check", "evaluate"])
def test_a_bad_row_is_named_by_file_and_line(world, log, call, name, change, place, command):
    folder = log(name, change)
    arguments = [command, "--data", folder]
    if command == "evaluate":
        arguments += ["--model", world.model, "--fresh-graph"]
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert place in err
    assert "expected" in err


def test_one_id_with_two_texts(log, call):
    folder = log("news.tsv", lambda lines: [*lines, lines[3].replace("\t", "\tother ", 3)])
    code, _, err = call("check", "--data", folder)
    assert code == 2
    assert "news.tsv:" in err
    assert len(err.splitlines()) == 1


def test_vectors_of_another_width_name_their_line(log, call, tmp_path):
    folder = log(
        "entity_embedding.vec", lambda lines: [*lines[:2], lines[2].rstrip("\n") + "\t0.5\n", *lines[3:]]
    )
    code, _, err = call("train", "--data", folder, "--output", tmp_path / "run", "--epochs", "0.01")
    assert code == 2
    assert "entity_embedding.vec:3" in err
    assert len(err.splitlines()) == 1


def test_unsorted_rows_titles_that_are_missing_and_empty_histories_are_taken(log, call):
    log("behaviors.tsv", lambda lines: lines[::-1])
    log("behaviors.tsv", _set(0, 3, ""))
    folder = log("news.tsv", _set(0, 3, ""))
    code, out, _ = call("check", "--data", folder, "--json")
    assert code == 0
    values = json.loads(out)["statistics"]
    assert values["news without title"] >= 1
    assert values["impressions without history"] >= 1


def test_histories_that_go_round_or_never_leave_a_news(world, call, tmp_path):
    """Cyclic paths, one news over and over, and a log of a single impression."""
    lines = (world.portal / "dev" / "behaviors.tsv").read_text().splitlines()
    ids = [
        line.split("\t", 1)[0] for line in (world.portal / "dev" / "news.tsv").read_text().splitlines()[:3]
    ]
    a, b, c = ids
    for name, history in (("cycle", f"{a} {b} {a} {b} {a}"), ("one", " ".join([c] * 6)), ("single", a)):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(world.portal / "dev" / "news.tsv", folder / "news.tsv")
        fields = next(line for line in lines if "-1" in line and "-0" in line).split("\t")
        fields[3] = history
        (folder / "behaviors.tsv").write_text("\t".join(fields) + "\n")
        code, out, _ = call("check", "--data", folder, "--json")
        assert code == 0
        values = json.loads(out)["statistics"]
        assert values["edges of the click graph"] == (2 if name == "cycle" else 0)
        code, out, _ = call("evaluate", "--data", folder, "--model", world.model, "--fresh-graph", "--json")
        assert code == 0
        assert 0 <= json.loads(out)["metrics"]["auc"]["mean"] <= 1
        code, out, _ = call(
            "recommend", "--history", history.replace(" ", ","), "--model", world.model, "--explain"
        )
        assert code == 0
        assert "You read" in out


def test_too_little_to_train_on_is_one_line(world, call, tmp_path):
    folder = tmp_path / "few"
    folder.mkdir()
    shutil.copy(world.portal / "dev" / "news.tsv", folder / "news.tsv")
    first = (world.portal / "dev" / "behaviors.tsv").read_text().splitlines()[0]
    (folder / "behaviors.tsv").write_text(first + "\n")
    code, out, err = call("train", "--data", folder, "--output", tmp_path / "run")
    assert (code, out) == (2, "")
    assert "too few" in err
    assert len(err.splitlines()) == 1
