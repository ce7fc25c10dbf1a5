"""Batch runs that resume and survive bad files, and results as files of other tools."""

from __future__ import annotations

import csv
import json

import pytest
from multiway_vision_language.result import Grounding
from PIL import Image


def rows_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path, picture):
    """Three pictures, one of them in a folder below."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.jpg", "below/c.png")):
        picture(seed=number).save(folder / name)
    return folder


def test_a_corrupt_file_among_a_hundred_costs_only_itself(tmp_path, picture, model, call):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(99):
        picture(20, 20, seed=number).save(folder / f"{number:03}.png")
    (folder / "050x.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    output = tmp_path / "out.jsonl"
    arguments = ("batch", folder, "-o", output, "--task", "locate", "--phrase", "grass", "--model", model)
    code, out, err = call(*arguments)
    assert (code, out) == (1, "")
    assert "050x.png" in err
    assert err.splitlines()[-1] == f"multiway-grounding: 99 written to {output}, 1 failed"
    before = output.read_bytes()
    assert len(before.splitlines()) == 99
    code, _, err = call(*arguments)
    assert code == 1
    assert (
        err.splitlines()[-1] == f"multiway-grounding: 0 written to {output}, 99 were there already, 1 failed"
    )
    assert output.read_bytes() == before
    picture(20, 20).save(folder / "050x.png")
    code, _, err = call(*arguments)
    assert code == 0
    assert f"1 written to {output}, 99 were there already" in err
    assert len(output.read_bytes().splitlines()) == 100


def test_lines_are_results_with_what_was_asked(folder, tmp_path, model, call):
    output = tmp_path / "out.jsonl"
    code, out, _ = call(
        "batch", folder, "-o", output, "--task", "locate", "--phrase", "a snowman", "--phrase", "grass",
        "--model", model, "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out) == {"output": str(output), "done": 3, "skipped": 0, "failed": []}
    rows = rows_of(output)
    assert [row["source"] for row in rows] == [
        str(folder / name) for name in ("a.png", "b.jpg", "below/c.png")
    ]
    for row in rows:
        assert row.pop("request") == {"task": "locate", "phrases": ["a snowman", "grass"]}
        Grounding.from_json(row)
    _, single, _ = call("locate", folder / "a.png", "a snowman", "grass", "--model", model, "--json")
    assert json.loads(single) == rows[0]
    # another request goes into the same file, beside the first
    code, _, err = call("batch", folder, "-o", output, "--model", model)
    assert code == 0
    assert "3 written" in err
    assert len(rows_of(output)) == 6


def test_a_run_that_was_killed_goes_on(folder, tmp_path, model, call):
    output = tmp_path / "out.jsonl"
    arguments = ("batch", folder, "-o", output, "--task", "locate", "--phrase", "grass", "--model", model)
    assert call(*arguments)[0] == 0
    whole = output.read_bytes()
    lines = whole.splitlines(keepends=True)
    output.write_bytes(lines[0] + lines[1][:70])  # torn in the middle of a line
    assert call(*arguments)[0] == 0
    assert output.read_bytes() == whole


def test_rows_of_a_jsonl_file(folder, tmp_path, model, call):
    table = folder / "asked.jsonl"
    rows = [
        {"image": "a.png", "task": "locate", "phrases": ["grass"]},
        {"image": "a.png", "task": "describe", "box": [0, 0, 40, 30]},
        {"image": "b.jpg", "task": "ask", "text": "What is it?"},
        {"image": "b.jpg"},
        {"image": "absent.png"},
        {"image": "a.png", "task": "locate", "phrases": []},
        {"image": "a.png", "colour": "red"},
        {"image": "a.png", "task": "sing"},
        {"image": 3},
        [],
    ]
    table.write_text("\n".join(map(json.dumps, rows)) + "\n\nnot json\n")
    output = tmp_path / "out.jsonl"
    code, out, err = call("batch", table, "-o", output, "--model", model, "--json")
    assert code == 1
    summary = json.loads(out)
    assert (summary["done"], len(summary["failed"])) == (4, 7)
    for reason in (
        "absent.png: no such file",
        "there is no phrase to look for",
        f"{table}:7",
        "colour",
        f"{table}:8",
        f"{table}:9: expected an object with a path",
        f"{table}:12: is no JSON",
    ):
        assert reason in err, reason
    assert [row["request"]["task"] for row in rows_of(output)] == ["locate", "describe", "ask", "caption"]
    assert rows_of(output)[0]["source"] == str(folder / "a.png")


def test_annotated_pictures_and_processes(folder, tmp_path, model, call):
    output, saved = tmp_path / "out.jsonl", tmp_path / "saved"
    arguments = ("--task", "locate", "--phrase", "grass", "--model", model, "--save", saved)
    assert call("batch", folder, "-o", output, "-j", "2", *arguments)[0] == 0
    assert {path.name for path in saved.iterdir()} == {"a.png", "b.png", "c.png"}
    assert Image.open(saved / "a.png").size == (80, 60)
    alone = tmp_path / "alone.jsonl"
    assert call("batch", folder, "-o", alone, *arguments)[0] == 0
    assert sorted(output.read_text().splitlines()) == sorted(alone.read_text().splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such file or folder"),
        (["EMPTY"], "the folder holds no file of"),
        (["absent.jsonl"], "cannot be read"),
        (["PICTURES", "--model", "bundled:nothing"], "no bundled model"),
        (["PICTURES", "--task", "sing"], "--task"),
        (["PICTURES", "--task", "describe", "--box", "1,2"], "is not a box"),
        (["PICTURES", "--task", "locate"], "there is no phrase to look for"),
        (["PICTURES", "-o", "FOLDER"], "it is a folder"),
        (["PICTURES", "-o", "TEXT"], "is no file of this command (line 1: is no JSON of results)"),
    ],
)
def test_bad_usage(arguments, message, folder, tmp_path, model, call):
    (tmp_path / "empty").mkdir()
    text = tmp_path / "text.jsonl"
    text.write_text("my diary\n")
    named = {"PICTURES": folder, "EMPTY": tmp_path / "empty", "FOLDER": tmp_path, "TEXT": text}
    given = [str(named.get(argument, argument)) for argument in arguments]
    if "-o" not in given:
        given += ["-o", str(tmp_path / "out.jsonl")]
    if "--model" not in given:
        given += ["--model", str(model)]
    code, out, err = call("batch", *given)
    assert (code, out) == (2, "")
    assert message in err
    assert text.read_text() == "my diary\n"
    assert not (tmp_path / "out.jsonl").exists() or "PICTURES" in arguments


@pytest.fixture
def results(tmp_path):
    """A file of two results as ``batch`` writes it."""
    lines = []
    for number in range(2):
        box = {"xyxy": [10.0, 5.0, 40.0, 30.0], "cells": [0, 5], "confidence": 0.75}
        entity = {"phrase": "a dog", "span": [12, 17], "present": 0.9, "boxes": [box] * (number + 1)}
        lines.append(
            {
                "schema": "multiway.grounding/1",
                "source": f"pictures/{number}.png",
                "model": "m",
                "width": 80,
                "height": 60,
                "frame": "pixel",
                "text": "An image of a dog",
                "tagged": "",
                "truncated": False,
                "problems": [],
                "entities": [entity],
                "request": {"task": "caption"},
            }
        )
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_export_to_every_format(results, tmp_path, call):
    for format, name in [
        ("coco", "coco.json"),
        ("referring", "referring.json"),
        ("yolo", "yolo"),
        ("voc", "voc"),
        ("label-studio", "studio"),
        ("csv", "boxes.csv"),
    ]:
        target = tmp_path / name
        code, out, err = call("export", results, "-f", format, "-o", target)
        assert (code, out) == (0, ""), err
        assert err == f"multiway-grounding: 2 results written to {target}\n"
        assert target.exists()
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [len(coco[key]) for key in ("images", "annotations", "categories")] == [2, 3, 1]
    assert coco["categories"][0]["name"] == "dog"
    assert coco["annotations"][0]["bbox"] == [10.0, 5.0, 30.0, 25.0]
    with (tmp_path / "boxes.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_export_reads_one_result_and_arrays(results, tmp_path, call):
    rows = rows_of(results)
    one, several = tmp_path / "one.json", tmp_path / "several.json"
    one.write_text(json.dumps(rows[0], indent=2))
    several.write_text(json.dumps(rows))
    code, _, err = call("export", one, several, "-o", tmp_path / "coco.json")
    assert code == 0
    assert "3 results" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no results"),
        (b"[]", "holds no results"),
        (b"hello", "is no JSON of results"),
        (b"\xff\xfe", "is no UTF-8 text"),
        (b'{"schema": "multiway.ocr/1"}', "bad.json"),
        (b"3", "bad.json"),
        (b"[" * 100_000, "is no JSON of results"),
    ],
)
def test_export_of_bad_files(content, message, tmp_path, call):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    code, out, err = call("export", path, "-o", tmp_path / "coco.json")
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "coco.json").exists()


def test_export_keeps_what_is_there(results, tmp_path, call):
    target = tmp_path / "yolo"
    target.mkdir()
    (target / "mine.txt").write_text("x")
    code, _, err = call("export", results, "-f", "yolo", "-o", target)
    assert code == 2
    assert "not empty" in err
    assert (target / "mine.txt").is_file()
    assert call("export", results, "-f", "yolo", "-o", target, "--overwrite")[0] == 0
    assert call("export", tmp_path / "absent.json", "-o", tmp_path / "x.json")[0] == 2
