"""The commands, from files to standard output, with a model of a few steps."""

from __future__ import annotations

import itertools
import json

import pytest

TEXT = "The bridge was closed on Monday. Engineers found cracks in two arches! Repair takes eleven months, they said."
LONG = " ".join(f"Sentence number {i} tells of the bridge and of its arches." for i in range(30))


def test_titles_of_files_folders_rows_and_lines(model, command, tmp_path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_text(LONG)
    code, out, _ = command("title", tmp_path, "--model", model, "--json")
    assert code == 0
    first, second = map(json.loads, out.splitlines())
    assert first["source"].endswith("a.txt")
    assert first["schema"] == "multiway.summarization/1"
    assert len(first["sections"]) == 1
    assert len(second["sections"]) > 3
    # No character of a long text is left out but the spaces between windows.
    ends = [(part["start"], part["end"]) for part in second["sections"]]
    assert ends[0][0] == 0
    assert ends[-1][1] == len(LONG)
    assert all(LONG[a:b].isspace() for (_, a), (b, _) in itertools.pairwise(ends))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"body": text}) + "\n" for text in (TEXT, LONG)))
    code, out, _ = command("title", rows, "--field", "body", "--model", model)
    assert (code, len(out.splitlines())) == (0, 2)
    (tmp_path / "lines.txt").write_text(f"{TEXT}\n\n{TEXT}\n")
    code, out, _ = command("title", tmp_path / "lines.txt", "--lines", "--model", model)
    assert len(out.splitlines()) == 2
    assert len(set(out.splitlines())) == 1


def test_summaries_are_sentences_of_the_text(model, command, tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    code, out, _ = command("summarize", path, "-n", 2, "--model", model, "--json")
    found = json.loads(out)
    assert code == 0
    assert len(found["sentences"]) == 2
    for sentence in found["sentences"]:
        assert TEXT[sentence["start"] : sentence["end"]] == sentence["text"]
    starts = [sentence["start"] for sentence in found["sentences"]]
    assert starts == sorted(starts)
    assert command("summarize", path, "-n", 9, "--model", model)[1].splitlines()[1] == TEXT


def test_questions(model, command, tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": f"{LONG} {TEXT} {LONG}", "answer": "eleven months"}) + "\n")
    code, out, _ = command("ask", path, "--model", model, "--json")
    found = json.loads(out)
    assert code == 0
    assert "eleven months" in f"{LONG} {TEXT} {LONG}"[found["start"] : found["end"]]
    code, _, err = command("ask", path, "--answer", "twelve months", "--model", model)
    assert code == 2
    assert "rows.jsonl:1: the answer 'twelve months' does not stand in the passage" in err


def test_evaluation_has_baselines(model, command, tmp_path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(
        json.dumps({"src": TEXT, "tgt": "The bridge was closed on Monday", "answer": "Monday"}) + "\n"
    )
    code, out, _ = command("evaluate", path, "--model", model, "--json")
    metrics = json.loads(out)["metrics"]
    assert code == 0
    assert metrics["rougeL:sentence"]["mean"] == 1.0
    assert metrics["meteor:sentence"]["mean"] > 0.99
    assert 0.8 < metrics["rougeL:lead"]["mean"] < 1.0
    assert "rougeL:random" in metrics
    assert "bleu4" in metrics
    code, out, _ = command("evaluate", path, "--task", "ask", "--model", model, "--json")
    assert code == 0
    assert "rougeL:template" in json.loads(out)["metrics"]
    code, out, _ = command("evaluate", path, "--task", "summarize", "--model", model, "--json")
    assert code == 0
    assert json.loads(out)["metrics"]["rougeL:lead"]["mean"] > 0


def test_bad_input_is_one_line(model, command, tmp_path) -> None:
    path = tmp_path / "pairs.jsonl"
    good = json.dumps({"src": "a text", "tgt": "a title"})
    path.write_text("\n".join([good] * 16 + ["{broken"]))
    cases = [
        (
            ("train", "--data", path, "--output", tmp_path / "run"),
            "pairs.jsonl:17: not JSON: expected an object",
        ),
        (("evaluate", path, "--model", model), "pairs.jsonl:17: not JSON"),
        (("title", path, "--field", "src", "--model", model), "pairs.jsonl:17: not JSON"),
        (("title", tmp_path / "none.txt", "--model", model), "none.txt"),
    ]
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    cases.append((("title", empty, "--model", model), "empty.txt: the text is empty"))
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    cases.append((("title", text, "--model", tmp_path), "was not fine-tuned to write"))
    cases.append(
        (("title", text, "--model", model, "--max-length", 400), "max_length is 400; the model has positions")
    )
    for arguments, message in cases:
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err, err
        assert len(err.strip().splitlines()) == 1, err


def test_service(model) -> None:
    from multiway_summarization.server import SERVICE
    from multiway_text.s2s_ft.pipeline import SummarizationPipeline

    pipeline = SummarizationPipeline.from_pretrained(str(model))
    named = {operation.name: operation for operation in SERVICE.operations}
    assert set(named) == {"title", "summarize", "ask"}
    assert named["title"].function(pipeline, TEXT)["kind"] == "title"
    assert len(named["summarize"].function(pipeline, TEXT, 1)["sentences"]) == 1
    assert named["ask"].function(pipeline, TEXT, "Monday")["answer"] == "Monday"


def test_demo_views() -> None:
    from multiway_summarization import demo
    from multiway_text.s2s_ft.result import Question, Section, Summary, SummarySentence, Title

    text = "One <b> here. Two there."
    title = Title("A & B", (Section(0, 13, "A & B", -1.0), Section(14, 24, "C", -1.0)))
    assert "A &amp; B" in demo.title_view(text, title)
    assert "&lt;b&gt;" in demo.title_view(text, title)
    summary = Summary("T", (SummarySentence("Two there.", 14, 24, -1.0),))
    assert "<mark>Two there.</mark>" in demo.summary_view(text, summary)
    view = demo.question_view(text, Question("Where?", "there", 14, 24, -1.0))
    assert "Two <mark>there</mark>." in view
    assert "class='unread'>One &lt;b&gt;" in view


@pytest.mark.parametrize(
    ("pieces", "source", "expected"),
    [
        (
            "perl module for class : : method",
            "Class::Method is a Perl module.",
            "Perl module for Class::Method",
        ),
        ("who did nikola tesla ' s work for ?", "It was Nikola Tesla.", "Who did Nikola Tesla's work for?"),
        ("the version 2 . 5 ( beta )", "The version 2.5 came.", "The version 2.5 (beta)"),
    ],
)
def test_spelling_follows_the_source(pieces, source, expected) -> None:
    from multiway_core.tokenization import TextTokenizer
    from multiway_text.data.vocabulary import train_word_piece
    from multiway_text.seq2seq.surface import Spelling

    tokenizer: TextTokenizer = train_word_piece([pieces, source] * 9, 400)
    assert Spelling(tokenizer, source).write(tokenizer.encode(pieces)) == expected


def test_titles_in_a_chosen_language(model, command, tmp_path) -> None:
    from multiway_core.training import TrainOptions, run
    from multiway_text.xnlg.recipe import RECIPES

    folder = run(RECIPES["xnlg-smoke"], TrainOptions(tmp_path / "run", steps=1)).folder
    text = tmp_path / "a.txt"
    text.write_text(LONG)
    code, out, _ = command("title", text, "--model", folder, "--language", "de", "--max-length", 8, "--json")
    assert code == 0
    assert len(json.loads(out)["sections"]) > 3
    for arguments, message in (
        (("title", text, "--model", folder), "in which language? The model writes de, en"),
        (("title", text, "--model", folder, "--language", "xx"), "the model has no language 'xx'"),
        (
            ("title", text, "--model", folder, "--language", "de", "--min-length", 3),
            "--min-length: the search of",
        ),
        (("title", text, "--model", model, "--language", "de"), "this model has no choice of languages"),
        (("summarize", text, "--model", folder), "this model writes titles alone"),
    ):
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err, err
        assert len(err.strip().splitlines()) == 1, err
