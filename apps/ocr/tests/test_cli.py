"""Start-up, and the commands besides ``read``."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest


def test_help_is_quick_and_loads_no_framework():
    code = (
        "import sys\n"
        "from multiway_ocr.cli import cli\n"
        "from multiway_core.app import run\n"
        "try: run(cli, ['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'gradio', 'numpy', 'PIL') if m in sys.modules])\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
    for command in ("read", "ask", "evaluate", "train", "demo"):
        assert command in result.stdout
    # CPU seconds: the wall time of a busy test machine says nothing
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 1.0


def test_ask_says_what_it_needs(page, call):
    code, out, err = call("ask", page, "What is the total?")
    assert (code, out) == (2, "")
    assert "KOSMOS-2.5-CHAT" in err
    assert "--model microsoft/kosmos-2.5-chat" in err
    code, _, err = call("ask", page, "  ")
    assert code == 2
    assert "question is empty" in err


def test_ask_of_a_reader_says_that_it_does_not_answer(page, call, needs_model):
    """A folder with a line reader reads; one that answers is trained in test_train_chat.py."""
    code, out, err = call("ask", page, "What is this?", "--model", needs_model, "--max-new-tokens", "5")
    assert (code, out) == (2, "")
    assert "was not trained to answer questions" in err


def test_evaluate_pictures_with_their_texts(tmp_path, call, needs_model, draw):
    data = tmp_path / "data"
    data.mkdir()
    for number, text in enumerate(["Twelve green bottles", "Standing on the wall"]):
        draw(text).save(data / f"{number}.png")
        (data / f"{number}.txt").write_text(text)
    code, out, _ = call("evaluate", "--dataset", data, "--output", tmp_path / "report", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["schema"] == "multiway.evaluation/1"
    assert report["n"] == 2
    assert set(report["metrics"]) >= {"cer", "wer", "word_f1", "ned"}
    assert 0 <= report["metrics"]["cer"]["mean"] < 0.5
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "report.json",
        "report.md",
        "report.png",
    }
    code, out, _ = call("evaluate", "--dataset", data, "--limit", "1")
    assert code == 0
    assert "| all | 1 | " in out


def test_evaluate_drawn_pages_as_markdown(call, needs_model):
    code, out, _ = call(
        "evaluate", "--dataset", "synthetic:clean_150", "--limit", "1", "--task", "markdown", "--json"
    )
    assert code == 0
    report = json.loads(out)
    assert set(report["metrics"]) == {"ned", "nted"}
    assert report["rows"][0]["group"] == "clean_150"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nowhere"], "no such folder; give one, or synthetic"),
        (["--dataset", "synthetic:moonlight"], "the conditions are clean_150"),
        (["--dataset", "{tmp_path}"], "is no known data set"),
    ],
)
def test_evaluate_says_what_is_wrong(arguments, message, tmp_path, call, needs_model):
    code, out, err = call("evaluate", *(argument.format(tmp_path=tmp_path) for argument in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_demo_on_a_taken_port(call, needs_model):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = call("demo", "--port", taken.getsockname()[1])
    assert code == 2
    assert "the port is taken; give another --port" in err
