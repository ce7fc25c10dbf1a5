"""The command line on a tiny model: a folder indexed and asked, the last index, and what is said about bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from multiway_core.errors import InputError
from multiway_search import listing, places
from multiway_search.cli import cli
from multiway_text.search.store import Index
from typer.testing import CliRunner

from packages.text.tests.tiny_encoder import sentence_model


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("Anna lives in Paris. It was good.")
    (folder / "b.txt").write_text("A very bad film in London.")
    return folder


def run(*arguments: object, text: bytes | None = None) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=text)


def printed(result: Any) -> Any:
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def test_a_folder_is_indexed_and_asked(tiny_encoder: Path, notes: Path) -> None:
    made = run("index", notes, "-m", tiny_encoder)
    assert made.exit_code == 0, made.exception
    assert "2 new; the index has 2 documents, 2 passages" in made.stderr
    assert not list(notes.glob(".*"))  # nothing of ours in the folder
    found = printed(run("query", "paris", "--mode", "bm25", "--json"))
    assert found["schema"] == "multiway.search.results/1"
    assert [Path(hit["path"]).name for hit in found["hits"]] == ["a.md"]
    plain = run("query", "Who", "is", "Anna", "in", "Paris?", "--top", 1).stdout
    assert plain.startswith(" 1  notes/a.md  [0:33]\n")
    assert "**Anna lives in Paris.** It was good." in plain
    assert printed(run("query", "-", "--json", text=b"paris"))["query"] == "paris"
    (notes / "a.md").unlink()
    (notes / "bad.txt").write_bytes(b"\x00\x01")
    again = run("index")  # the last one, with its own model
    assert again.exit_code == 1
    assert "bad.txt: binary data, not text" in again.stderr
    assert "1 removed, 1 unchanged, 1 not readable; the index has 2 documents, 1 passages" in again.stderr
    report = json.loads(run("index", "--json").stdout)
    assert (report["unchanged"], report["failed"][0]["error"]) == (1, "binary data, not text (as before)")


def test_what_an_index_holds(tiny_encoder: Path, notes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    run("index", notes, "-m", tiny_encoder, "-o", folder, "--chunk-tokens", 16)
    facts = printed(run("info", "--index", folder, "--json"))
    assert (facts["documents"], facts["chunk_tokens"], facts["width"]) == (2, 16, 32)
    assert "passages   2 of at most 16 tokens" in run("info").stdout
    assert [row["passages"] for row in printed(run("list", "--json"))["documents"]] == [1, 1]
    near = printed(run("similar", notes / "a.md", "--json"))
    assert [Path(row["path"]).name for row in near["documents"]] == ["b.txt"]
    assert run("delete", "*.txt").exit_code == 0
    again = run("delete", "*.txt")
    assert isinstance(again.exception, InputError)
    assert "no document of the index" in str(again.exception)
    assert run("list").stdout == f"     1  {notes}/a.md\n"


def test_bad_input_is_one_line(tiny_encoder: Path, notes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no index yet"):
        places.chosen(None)
    run("index", notes, "-m", tiny_encoder)
    sentence_model(tmp_path / "other", hidden_size=16)
    folder = places.chosen(None)
    with Index(folder) as index, index.writing():
        cases = [
            (["index", notes, "-m", tiny_encoder], "another process writes to this index"),
            (["index", tmp_path / "nowhere", "-m", tiny_encoder], "no such file or folder"),
            (["index", notes, "-m", tmp_path / "other"], "the index was made with"),
            (["query", " "], "the query is empty"),
            (["query", "-"], "too long"),
            (["query", "x", "--model", tmp_path / "other"], "the index was made with"),
            (["query", "x", "--index", notes], "no index is here"),
            (["similar", tmp_path / "nowhere.txt"], "cannot be read"),
        ]
        for arguments, message in cases:
            result = run(*arguments, text=b"x" * 50_000)
            assert result.exit_code != 0, arguments
            assert message in str(result.exception), arguments


def test_snippets_keep_the_marked_sentence() -> None:
    from multiway_text.search.result import Hit
    from multiway_text.search.store import Passage

    text = "Before it. " * 60 + "Here it is. " + "After it. " * 60
    place = text.index("Here")
    hit = Hit(Passage(1, "x", "text", "", 0, len(text), text), 1.0, highlight=(place, place + 11))
    before, marked, after = listing.snippet(hit)
    assert marked == "Here it is."
    assert before.startswith("… ")
    assert after.endswith(" …")
    assert len(before + marked + after) < listing.SNIPPET + 10
