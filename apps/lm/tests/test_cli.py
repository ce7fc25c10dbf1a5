"""Start-up, and every command with tiny models."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from multiway_text.language_model import LanguageModel
from multiway_text.sampling import SamplingOptions

TEXT = "The quick brown fox jumps over the lazy dog. A river runs through the town.\n"


@pytest.fixture
def stdin(monkeypatch):
    """Give text (or bytes) as standard input."""

    def give(data):
        data = data.encode() if isinstance(data, str) else data
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return give


def test_help_loads_no_framework() -> None:
    code = (
        "import sys\n"
        "from multiway_lm.cli import cli\n"
        "from multiway_core.app import run\n"
        "try: run(cli, ['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'gradio', 'numpy', 'fastapi', 'uvicorn') if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
    for command in [
        "generate",
        "chat",
        "score",
        "evaluate",
        "train",
        "distill",
        "draw",
        "quantize",
        "bench",
        "serve",
        "demo",
    ]:
        assert f" {command} " in result.stdout


def test_generate(call, folder, model, tmp_path, stdin) -> None:
    options = ("--model", folder, "--max-tokens", 6, "--temperature", 0)
    chat = [{"role": "user", "content": "The quick"}]
    expected = model.generate(chat, SamplingOptions(max_tokens=6))[0]
    code, out, _ = call("generate", "The quick", *options)
    assert (code, out) == (0, expected.text + "\n")
    (tmp_path / "prompt.txt").write_text("The quick\n")
    assert call("generate", tmp_path / "prompt.txt", *options)[1] == out
    stdin("The quick\n")
    assert call("generate", "-", *options)[1] == out
    plain = model.generate("The quick", SamplingOptions(max_tokens=6))[0].text
    assert call("generate", "The quick", "--continue", *options)[1] == plain + "\n"
    code, out, _ = call("generate", "The quick", "--json", "--answers", 2, *options)
    found = json.loads(out)
    assert found["schema"] == "multiway.lm.generate/1"
    assert [answer["text"] for answer in found["answers"]] == [expected.text] * 2
    assert len(found["answers"][0]["tokens"]) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", ""], "the prompt is empty"),
        (["generate", "  \n"], "the prompt is empty"),
        (["generate", "x", "--max-tokens", "0"], "max_tokens must be at least 1"),
        (["generate", "x", "--max-tokens", "9999"], "do not fit the model's context of 256"),
        (["generate", "x", "--temperature", "-1"], "temperature must be 0 to 10"),
        (["generate", "x", "--temperature", "nan"], "temperature must be 0 to 10"),
        (["generate", "x", "--top-p", "2"], "top_p must be above 0"),
        (["generate", "x", "--continue", "--system", "y"], "--system belongs to a chat"),
        (["generate", "word " * 500], "the model's context is 256"),
        (["score", "nowhere.txt"], "no such file"),
        (["evaluate", "perplexity"], "perplexity needs files"),
        (["evaluate", "choice", "nowhere.jsonl"], "no such file"),
        (["bench", "--prompt", "9999"], "do not fit the context of 256"),
    ],
)
def test_one_line_says_what_is_wrong(call, folder, arguments, message) -> None:
    code, out, err = call(*arguments, "--model", folder)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_models_that_are_not_there(call, tmp_path) -> None:
    for name, message in [
        (tmp_path / "nothing", "neither an existing path nor a hub id"),
        ("bundled:nothing", "no bundled model 'nothing'"),
        (tmp_path, "neither a config.json nor a GGUF file"),
    ]:
        code, out, err = call("generate", "x", "--model", name)
        assert (code, out) == (2, "")
        assert message in err
    (tmp_path / "x.gguf").write_bytes(b"nothing")
    assert "not a GGUF file" in call("generate", "x", "--model", tmp_path / "x.gguf")[2]


def test_chat(call, folder, model, stdin) -> None:
    stdin("hello\n/system Be kind.\nhello again\n/reset\n/what\nhello\n\n/quit\nnever\n")
    code, out, err = call("chat", "--model", folder, "--max-tokens", 5, "--temperature", 0)
    assert code == 0
    options = SamplingOptions(max_tokens=5)

    def said(*turns):
        return model.generate([{"role": role, "content": text} for role, text in turns], options)[0].text

    one = said(("user", "hello"))
    two = said(("system", "Be kind."), ("user", "hello"), ("assistant", one.strip()), ("user", "hello again"))
    three = said(("system", "Be kind."), ("user", "hello"))
    assert out == f"{one}\n{two}\n{three}\n"
    assert err.splitlines()[:2] == ["instructed", "forgotten"]


def test_chat_that_grows_too_long_says_what_helps(call, folder, stdin) -> None:
    stdin("word " * 400 + "\nhello\n")
    code, out, err = call("chat", "--model", folder, "--max-tokens", 5)
    assert code == 0
    assert "/reset makes room" in err
    assert out.endswith("\n")


def test_a_stopped_answer_stays(call, folder, stdin, monkeypatch) -> None:
    real, count = LanguageModel.stream, iter(range(100))

    def interrupted(self, prompt, options=None):
        for number, piece in enumerate(real(self, prompt, options)):
            if number == 2 and next(count) == 0:
                raise KeyboardInterrupt
            yield piece

    monkeypatch.setattr(LanguageModel, "stream", interrupted)
    stdin("hello\nhello\n")
    code, out, err = call("chat", "--model", folder, "--max-tokens", 5)
    assert code == 0
    assert "(stopped)" in err
    assert out.count("\n") >= 2


def test_chat_needs_a_chat_format(call, plain_folder) -> None:
    code, _, err = call("chat", "--model", plain_folder)
    assert code == 2
    assert "has no chat format; use: multiway-lm generate" in err


def test_score(call, folder, model, tmp_path, stdin) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "A river"}) + "\n" + json.dumps({"text": "x y"}))
    code, out, _ = call("score", tmp_path, "--model", folder, "--json", "--tokens")
    assert code == 0
    found = json.loads(out)
    assert found["total"]["documents"] == 3
    expected = model.score(TEXT)
    assert found["documents"][0]["perplexity"] == pytest.approx(expected.perplexity)
    assert "".join(token["text"] for token in found["documents"][0]["log_probs"]) == TEXT
    code, out, _ = call("score", tmp_path / "a.txt", "--model", folder)
    assert out.splitlines()[0].startswith("document")
    assert f"{expected.bits_per_byte:.4f}" in out
    stdin(TEXT)
    assert f"{expected.bits_per_byte:.4f}" in call("score", "-", "--model", folder)[1]
    assert "window must be 2 to" in call("score", tmp_path, "--model", folder, "--window", 9999)[2]


def test_evaluate(call, folder, model, tmp_path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    code, out, _ = call("evaluate", "perplexity", tmp_path / "a.txt", "--model", folder, "--json")
    assert code == 0
    report = json.loads(out)
    assert report["metrics"]["bits_per_byte"]["mean"] == pytest.approx(model.score(TEXT).bits_per_byte)
    rows = [{"context": "The quick brown", "choices": ["fox", "river"], "answer": 1}] * 2
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, rows)))
    code, out, _ = call("evaluate", "choice", questions, "--model", folder, "--json", "-o", tmp_path / "out")
    report = json.loads(out)
    right = model.choose("The quick brown", [" fox", " river"]).best == 1
    assert report["metrics"]["accuracy"]["mean"] == float(right)
    assert report["metrics"]["chance"]["mean"] == 0.5
    assert (tmp_path / "out" / "report.md").is_file()
    code, out, _ = call("evaluate", "bundled", "--model", folder)
    assert code == 0
    assert "| all | 12 |" in out
    for bad, message in [
        ('{"context": "a", "choices": ["b"], "answer": 0}', "expected at least two texts"),
        ('{"context": "a", "choices": ["b", "c"], "answer": 2}', "2 is no index of 2 choices"),
        ('{"context": "a", "choices": "bc", "answer": 0}', "expected a list"),
        ("[1]", "expected an object"),
        ("{", "not JSON"),
    ]:
        questions.write_text(bad)
        code, _, err = call("evaluate", "choice", questions, "--model", folder)
        assert code == 2
        assert f"{questions}:1" in err
        assert message in err


def test_train_and_use(call, tmp_path) -> None:
    rows = [" ".join(str((i + j) % 7) for j in range(40)) for i in range(40)]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows))
    run = ("--steps", 8, "--length", 64, "--batch-size", 2, "--vocab-size", 270, "-o", tmp_path / "run")
    code, out, _ = call("train", "--data", tmp_path / "data.jsonl", "--arch", "bitnet", *run, "--json")
    assert code == 0
    numbers = json.loads(out)
    assert numbers["steps"] == 8
    folder = numbers["model"]
    assert call("generate", "1 2 3", "--continue", "--model", folder, "--max-tokens", 3)[0] == 0
    code, out, _ = call("quantize", folder, "-o", tmp_path / "x.gguf", "-f", "gguf")
    assert code == 0
    assert call("generate", "1 2 3", "--model", tmp_path / "x.gguf", "--max-tokens", 3)[0] == 0
    code, _, _ = call(
        "train", "--data", tmp_path / "data.jsonl", *run[:-1], tmp_path / "on", "--init-from", folder
    )  # packed weights learn on
    assert code == 0
    for arguments, message in [
        (["--arch", "gpt"], "arch 'gpt' is unknown"),
        (["--size", "huge"], "known are tiny"),
        (["--learning-rate", "nan"], "Invalid value for '--learning-rate'"),
    ]:
        code, _, err = call("train", "--data", tmp_path / "data.jsonl", *run, *arguments)
        assert code == 2
        assert message in err


def test_quantize(call, folder, ternary_folder, tmp_path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    code, out, err = call(
        "quantize", folder, "-o", tmp_path / "packed", "--check", tmp_path / "a.txt", "--json"
    )
    assert code == 0
    assert "destroys it" in err
    found = json.loads(out)
    assert found["before"]["tokens"] == found["after"]["tokens"] > 10
    assert found["bytes_after"] < found["bytes_before"]
    assert call("generate", "x", "--model", tmp_path / "packed", "--max-tokens", 2)[0] == 0
    code, out, err = call(
        "quantize", ternary_folder, "-o", tmp_path / "again", "--check", tmp_path / "a.txt", "--json"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["after"]["perplexity"] == pytest.approx(found["before"]["perplexity"], rel=1e-5)
    code, _, _ = call("quantize", folder, "-o", tmp_path / "q8.gguf", "-f", "gguf", "--type", "q8_0")
    assert code == 0
    assert call("generate", "x", "--model", tmp_path / "q8.gguf", "--max-tokens", 2)[0] == 0
    for arguments, message in [
        ([folder, "--type", "q8_0"], "--type belongs to --format gguf"),
        ([folder, "-f", "gguf", "--type", "q9"], "GGUF type 'q9' is not written"),
        ([ternary_folder, "-f", "gguf", "--type", "q8_0"], "is written as i2_s"),
    ]:
        code, _, err = call("quantize", *arguments, "-o", tmp_path / "no")
        assert code == 2
        assert message in err


def test_bench(call, folder, ternary_folder) -> None:
    code, out, _ = call("bench", "--model", folder, "--prompt", 8, "--tokens", 4, "--repeats", 2, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["decode_tokens_per_second"] > 0
    assert 0 < found["head_share_of_decode"] < 1
    assert found["weight_bytes"] > found["cache_bytes"] > 0
    code, out, _ = call("bench", "--model", ternary_folder, "--prompt", 8, "--tokens", 4, "--repeats", 1)
    assert code == 0
    assert "% of the time of writing" in out


def test_serve_on_a_taken_port(call, folder) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = call("serve", "--model", folder, "--port", taken.getsockname()[1])
    assert code == 2
    assert "address already in use; give another --host or --port" in err


def test_distill_without_a_teacher(call, tmp_path) -> None:
    code, _, err = call("distill", "--teacher", tmp_path / "nothing.gguf", "-o", tmp_path / "out")
    assert code == 2
    assert len(err.splitlines()) == 1


def test_json_is_only_json(call, folder, tmp_path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    for arguments in (["generate", "x", "-n", "2"], ["score", tmp_path / "a.txt"]):
        json.loads(call(*arguments, "--model", folder, "--json")[1])
