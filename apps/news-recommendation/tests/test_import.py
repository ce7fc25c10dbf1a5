"""import and simulate: other logs as MIND folders that the other commands take."""

from __future__ import annotations

import json

import numpy as np
import pytest


@pytest.fixture
def clicks(tmp_path):
    """A CSV log of 30 readers on 40 items with odd column names, and the items' file."""
    random = np.random.default_rng(0)
    rows = ["reader;article;when"]
    for step in range(600):
        rows.append(f"r{random.integers(30)};a{random.integers(40)};{1_700_000_000 + 60 * step}")
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    items = ["article;title;category"] + [f"a{i};Title of {i};c{i % 5}" for i in range(40)]
    (tmp_path / "items.csv").write_text("\n".join(items) + "\n")
    return tmp_path


def test_a_csv_log_becomes_a_folder(clicks, call):
    columns = "user=reader,item=article,time=when"
    code, out, err = call(
        "import",
        clicks / "log.csv",
        "--output",
        clicks / "mind",
        "--columns",
        columns,
        "--items",
        clicks / "items.csv",
    )
    assert code == 0
    assert out == f"{clicks / 'mind'}\n"
    assert "impressions are made of clicks by a rule" in err
    for split in ("train", "dev", "test"):
        assert (clicks / "mind" / split / "behaviors.tsv").is_file()
    code, out, _ = call("check", "--data", clicks / "mind", "--json")
    assert code == 0
    values = json.loads(out)["statistics"]
    assert values["news"] == 40
    assert values["categories"] == 5
    assert values["candidates an impression, mean"] > 10
    code, _, err = call("import", clicks / "log.csv", "--output", clicks / "mind")
    assert code == 2
    assert "is there already" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "no such file or folder"),
        (["{folder}/log.csv"], "log.csv"),  # no column user
        (["{folder}/log.csv", "--columns", "user"], "expected pairs such as"),
        (["{folder}/log.csv", "--columns", "visitor=reader"], "visitor"),
        (["{folder}/log.csv", "--format", "msweb"], "log.csv"),
        (["{folder}/log.csv", "--format", "xml"], "xml"),
        (["{folder}"], "unknown format of the file names"),
    ],
)
def test_mistakes_are_one_line(arguments, message, clicks, call):
    arguments = [argument.format(folder=clicks) for argument in arguments]
    code, out, err = call("import", *arguments, "--output", clicks / "out")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
    assert not (clicks / "out").exists()


def test_simulate(tmp_path, call):
    code, _, err = call("simulate", "--output", tmp_path / "portal", "--readers", 60, "--seed", 2)
    assert code == 0
    assert "simulated portal" in err
    assert "train:" in err
    assert (tmp_path / "portal" / "truth" / "portal.json").is_file()
    assert (tmp_path / "portal" / "test" / "news.tsv").is_file()
    code, _, err = call("simulate", "--output", tmp_path / "portal", "--readers", 60)
    assert code == 2
    assert "is there already" in err
    code, _, err = call("simulate", "--output", tmp_path / "other", "--headlines", tmp_path / "nowhere.jsonl")
    assert code == 2
    assert len(err.splitlines()) == 1
