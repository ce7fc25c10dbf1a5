"""The fuzz targets are sound: whole files are read, mutated ones end with a result or one line, and a bug is found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.__main__ import attempt
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import Target, targets

INPUTS = 30  # for each reader; `python -m tests.fuzz` runs a million


@pytest.mark.parametrize("name", targets())
@pytest.mark.filterwarnings("ignore")
def test_a_reader_takes_whole_files_and_survives_mutated_ones(name: str, tmp_path: Path) -> None:
    target = targets()[name]
    seeds = target.seeds()
    path = tmp_path / target.name
    for seed in seeds:
        path.write_bytes(seed)
        target.read(path)
    for number in range(INPUTS):
        path.write_bytes(mutated(seeds, random.Random(f"0.{name}.{number}")))
        assert attempt(target, path, 60) is None


def test_what_is_no_error_of_ours_is_a_finding(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        raise KeyError(path.name)

    found = attempt(Target("a", lambda folder: None, read), tmp_path / "a")
    assert found is not None
    assert "KeyError" in found


def test_mutations_differ_and_repeat() -> None:
    seeds = [b"one whole file", b"another one"]
    made = [mutated(seeds, random.Random(number)) for number in range(200)]
    assert made == [mutated(seeds, random.Random(number)) for number in range(200)]
    assert len(set(made)) > 150
