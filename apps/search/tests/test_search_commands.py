"""The commands beside an index: pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from multiway_core.errors import InputError
from multiway_search.cli import cli
from typer.testing import CliRunner


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_pairs_are_written_as_train_reads_them(tiny_encoder: Path, tmp_path: Path) -> None:
    from multiway_text.encoder.examples import read_pairs

    one, other = tmp_path / "a.txt", tmp_path / "b.txt"
    one.write_text("anna lives in paris\ntom was bad\nsame\n")
    other.write_text("film\ntom was bad .\nanna lives in paris .\nsame\n")
    options = ("--threshold", 0, "--neighbours", 2, "-m", tiny_encoder)
    shown = run("pairs", one, other, *options)
    assert shown.exit_code == 0, shown.exception
    assert "pairs of 2 and 3 sentences; lines of both files, left out: 1" in shown.stderr
    for suffix in ("tsv", "jsonl"):
        output = tmp_path / f"pairs.{suffix}"
        assert run("pairs", one, other, "-o", output, *options).exit_code == 0
        rows = read_pairs([str(output)], text="text", pair="pair", negative=None)
        assert ("anna lives in paris", "anna lives in paris .") in {(row.text, row.positive) for row in rows}
        assert isinstance(run("pairs", one, other, "-o", output, *options).exception, InputError)  # is there
    assert (tmp_path / "pairs.tsv").read_text() == shown.stdout
    first = json.loads((tmp_path / "pairs.jsonl").read_text().splitlines()[0])
    assert list(first) == ["score", "text", "pair", "line", "pair_line"]
    assert "expected a file ending in .tsv or .jsonl" in str(
        run("pairs", one, other, "-o", "x.csv").exception
    )
