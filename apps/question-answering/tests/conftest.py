from __future__ import annotations

from pathlib import Path

import pytest

CITIES = ("paris", "london")


def squad(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    """(context, question, answer or nothing), written as SQuAD 2.0."""
    from multiway_text.data.squad import Answer, Question, write_squad

    write_squad(
        path,
        [
            Question(
                str(number), question, context, (Answer(answer, context.index(answer)),) if answer else (), ""
            )
            for number, (context, question, answer) in enumerate(rows)
        ],
    )
    return path


def rows(count: int, first: int = 0) -> list[tuple[str, str, str]]:
    """``anna lives in paris``: a question with a city as its answer, or without any."""
    found = []
    for number in range(first, first + count):
        name, letter = ("anna", "tom")[number % 2], "abcdefghij"[number % 10]
        city = CITIES[number // 2 % 2] if number % 3 else ""
        place = f"lives in {city}" if city else "was very bad"
        found.append((f"{letter} {name} {number} {place} it was", "lives in", city))
    return found


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny reader that `train` taught to find where somebody lives, and to say when a text does not tell."""
    from typer.testing import CliRunner

    from packages.text.tests.tiny_encoder import sentence_model

    folder = tmp_path_factory.mktemp("question-answering")
    sentence_model(folder / "base", num_positions=64)
    data = squad(folder / "train.json", rows(90))
    held_out = squad(folder / "held-out.json", rows(30, 90))
    from multiway_question_answering.cli import cli

    options = ["--steps", "90", "--batch-size", "8", "--max-length", "32", "--learning-rate", "0.003"]
    arguments = [
        "train",
        "--data",
        data,
        "--held-out",
        held_out,
        "--init-from",
        folder / "base",
        "--output",
        folder / "run",
        *options,
    ]
    done = CliRunner().invoke(cli, [*map(str, arguments), "--device", "cpu"])
    assert done.exit_code == 0, done.exception
    return folder / "run" / "model"


@pytest.fixture
def command(capfd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the command line in this process: (exit code, standard output, standard error)."""
    from multiway_core.app.command import run
    from multiway_question_answering.cli import cli

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(cli, [str(argument) for argument in arguments], name="multiway-question-answering")
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call
