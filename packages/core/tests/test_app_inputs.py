import io
import os
import sys
from pathlib import Path

import pytest
from multiway_core.app import find_inputs, inputs, is_done, plan_outputs, stdin_file
from multiway_core.errors import InputError

SUFFIXES = {".png", ".jpg", ".pdf"}


@pytest.fixture
def folder(tmp_path):
    for name in ("p10.png", "p2.png", "P1.JPG", "notes.txt", "sub/a.pdf", "sub/.hidden.png", ".git/x.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "in"


def names(inputs):
    return [str(item.relative) for item in inputs]


def test_folders_are_searched_in_natural_order(folder):
    inputs, problems = find_inputs([str(folder)], SUFFIXES)
    assert problems == []
    assert names(inputs) == ["P1.JPG", "p2.png", "p10.png", "sub/a.pdf"]


def test_globs_files_and_repeats(folder):
    arguments = [
        str(folder / "p*.png"),
        str(folder / "p2.png"),
        str(folder / "notes.txt"),
        str(folder / "**"),
    ]
    inputs, problems = find_inputs(arguments, SUFFIXES)
    assert problems == []
    # a file named outright is taken whatever its ending; nothing is taken twice
    assert names(inputs) == ["p2.png", "p10.png", "notes.txt", "P1.JPG", "sub/a.pdf"]


def test_what_leads_to_nothing_is_said(folder):
    arguments = [str(folder / "no.png"), str(folder / "*.bmp"), str(folder / ".git" / "..") + "/sub"]
    (folder / "empty").mkdir()
    inputs, problems = find_inputs([*arguments, str(folder / "empty")], SUFFIXES)
    assert names(inputs) == ["a.pdf"]
    assert [reason for _, reason in problems] == [
        "no such file or folder",
        "nothing of .jpg, .pdf, .png matches",
        "the folder holds no file of .jpg, .pdf, .png",
    ]


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    (tmp_path / "scan[1].png").write_bytes(b"x")
    inputs, problems = find_inputs([str(tmp_path / "scan[1].png")], SUFFIXES)
    assert names(inputs) == ["scan[1].png"]
    assert not problems


def test_the_output_folder_is_not_an_input(folder):
    (folder / "out").mkdir()
    (folder / "out" / "p2.pdf").write_bytes(b"x")
    inputs, _ = find_inputs([str(folder)], SUFFIXES, exclude=folder / "out")
    assert "out/p2.pdf" not in names(inputs)


def test_names_that_are_not_utf8(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(raw)).write_bytes(b"x")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    inputs, problems = find_inputs([os.fsdecode(tmp_path)], SUFFIXES)
    assert not problems
    assert os.fsencode(inputs[0].path) == raw
    (output,) = plan_outputs(inputs, tmp_path / "out", ".txt")
    assert os.fsencode(output).endswith(b"/out/caf\xe9.txt")


def test_outputs_keep_the_tree(folder):
    inputs, _ = find_inputs([str(folder)], SUFFIXES)
    outputs = plan_outputs(inputs, Path("out"), ".txt")
    assert [str(path) for path in outputs] == ["out/P1.txt", "out/p2.txt", "out/p10.txt", "out/sub/a.txt"]


def test_outputs_that_would_be_alike_are_told_apart(tmp_path):
    for name in ("a/x.png", "a/x.jpg", "b/x.png", "b/X.png.jpg", "b/y.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    inputs, _ = find_inputs([str(tmp_path / "a"), str(tmp_path / "b")], SUFFIXES)
    outputs = [path.name for path in plan_outputs(inputs, Path("out"), ".txt")]
    assert len({name.casefold() for name in outputs}) == len(inputs) == 5
    by_input = dict(zip([str(item.path.relative_to(tmp_path)) for item in inputs], outputs, strict=True))
    assert by_input["b/y.png"] == "y.txt"
    assert by_input["a/x.jpg"] == "x.jpg.txt"
    assert by_input["a/x.png"].startswith("x.png-")
    assert by_input["b/x.png"].startswith("x.png-")
    assert by_input["a/x.png"] != by_input["b/x.png"]
    # the same inputs get the same names in a second run, whatever their order
    again = plan_outputs(list(reversed(inputs)), Path("out"), ".txt")
    assert [path.name for path in reversed(again)] == outputs


def test_an_input_is_never_overwritten(folder):
    inputs, _ = find_inputs([str(folder)], SUFFIXES)
    with pytest.raises(InputError, match=r"sub/a\.pdf would replace an input"):
        plan_outputs(inputs, folder, ".pdf")


def test_done_means_written_after_the_source(tmp_path):
    source, output = tmp_path / "a.png", tmp_path / "a.txt"
    source.write_bytes(b"x")
    assert not is_done(source, output)
    output.write_bytes(b"")
    os.utime(source, (1000, 1000))
    assert is_done(source, output)
    os.utime(output, (900, 900))
    assert not is_done(source, output)


def test_standard_input_is_a_file_of_this_user_alone(monkeypatch):
    with os.fdopen(os.open(os.devnull, os.O_RDONLY)) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(InputError, match="standard input gives nothing"):
            stdin_file("-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\x00bytes")))
    path = stdin_file(Path("-"))
    assert isinstance(path, Path)
    assert path.read_bytes() == b"\xff\x00bytes"
    assert path.parent.stat().st_mode & 0o077 == 0
    assert stdin_file(["a", "-"]) == ["a", str(path)]  # read once
    assert [item.relative for item in find_inputs(["-"], {".png"})[0]] == [Path("stdin")]
    assert stdin_file(None) is None
    inputs._standard_input.cache_clear()
