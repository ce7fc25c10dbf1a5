"""`train --preset chat`: from rows of questions to a folder that `ask` takes, and what is wrong in one line."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def tiny(tmp_path):
    """A model folder with random weights, in the published layout."""
    from multiway_document.alphabet import ALPHABET
    from multiway_document.kosmos2_5 import checkpoint
    from multiway_document.kosmos2_5.config import Kosmos25Config, TextConfig, TokenConfig, VisionConfig
    from multiway_document.kosmos2_5.objective import Reader
    from multiway_document.kosmos2_5.tokenizer import train_small_tokenizer

    tokens = TokenConfig(num_text_tokens=len(ALPHABET) + 1, num_locations=4)
    vision = VisionConfig(hidden_size=16, num_layers=1, num_heads=2, head_dim=8, inner_size=16, max_patches=8)
    text = TextConfig(
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        inner_size=16,
        vocab_size=tokens.vocab_size,
        max_positions=260,
        dropout=0.0,
    )
    reader = Reader(Kosmos25Config(vision=vision, text=text, tokens=tokens, num_queries=2))
    reader.reset_parameters(seed=0)
    folder = tmp_path / "tiny"
    checkpoint.save(reader.kosmos, folder)
    train_small_tokenizer(["ab"], len(ALPHABET) + 1).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def rows(page):
    """One question about the page."""
    file = page.with_name("rows.jsonl")
    file.write_text(json.dumps({"image": page.name, "question": "Who?", "answer": "Ada"}) + "\n")
    return file


def test_a_model_is_trained_and_answers(tiny, rows, page, tmp_path, call):
    arguments = [
        "train",
        "--preset",
        "chat",
        "--data",
        rows,
        "--init-from",
        tiny,
        "--output",
        tmp_path / "run",
    ]
    code, out, err = call(*arguments, "--epochs", "16", "--learning-rate", "1e-3", "--device", "cpu")
    folder = tmp_path / "run" / "model"
    assert (code, out.splitlines()[0]) == (0, str(folder)), err
    code, out, _ = call("ask", page, "Who?", "--model", folder, "--max-new-tokens", "3", "--json")
    assert code == 0
    assert json.loads(out)["question"] == "Who?"
    # A second call finds the run done.
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    code, _, _ = call(*arguments, "--epochs", "16", "--learning-rate", "1e-3", "--device", "cpu")
    assert code == 0
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_what_is_wrong_is_one_line(tiny, rows, tmp_path, call):
    bad = rows.with_name("bad.jsonl")
    bad.write_text(rows.read_text() + '{"image": "page.png", "question": "Who?"}\n')
    chat = ["train", "--preset", "chat", "--output", tmp_path / "run"]
    for arguments, message in (
        ([*chat, "--init-from", tiny], "--preset chat needs --data FILE.jsonl"),
        ([*chat, "--data", rows], "--preset chat needs --init-from MODEL"),
        ([*chat, "--data", bad, "--init-from", tiny], "bad.jsonl:2: missing key 'answer'"),
        ([*chat, "--data", tmp_path / "no.jsonl", "--init-from", tiny], "no.jsonl: No such file"),
        (["train", "--data", rows, "--output", tmp_path / "run"], "lines that it renders itself: no data"),
        (
            ["train", "--epochs", "3", "--output", tmp_path / "run"],
            "--epochs: the preset ocr-small has no such",
        ),
    ):
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1
