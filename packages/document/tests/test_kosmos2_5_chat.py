"""Fine-tuning on questions: a tiny model learns answers, resumes exactly, and bad rows are one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from multiway_core.errors import DataError, InputError
from multiway_core.training import Trainer, TrainOptions, run
from multiway_document.alphabet import ALPHABET
from multiway_document.kosmos2_5 import chat, checkpoint
from multiway_document.kosmos2_5.config import Kosmos25Config, TextConfig, TokenConfig, VisionConfig
from multiway_document.kosmos2_5.objective import IGNORED, Reader
from multiway_document.kosmos2_5.processor import CHAT_TEMPLATE, Processor
from multiway_document.kosmos2_5.tokenizer import load_tokenizer, train_small_tokenizer
from multiway_document.pipeline import OcrPipeline
from PIL import Image

NUM_TEXT_TOKENS = len(ALPHABET) + 120
TOKENS = TokenConfig(num_text_tokens=NUM_TEXT_TOKENS, num_locations=8)
CONFIG = Kosmos25Config(
    vision=VisionConfig(hidden_size=32, num_layers=1, num_heads=2, head_dim=16, inner_size=48, max_patches=8),
    text=TextConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        inner_size=64,
        vocab_size=TOKENS.vocab_size,
        max_positions=200,
        dropout=0.0,
    ),
    tokens=TOKENS,
    num_queries=4,
)
# Two pictures and two questions: an answer follows from neither alone.
ROWS = [
    ("dark.png", "Colour?", "black"),
    ("dark.png", "Name?", "Ada"),
    ("light.png", "Colour?", "white"),
    ("light.png", "Name?", "Bo"),
]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A model as it is published, with random weights."""
    folder = tmp_path_factory.mktemp("start")
    reader = Reader(CONFIG)
    reader.reset_parameters(seed=0)
    checkpoint.save(reader.kosmos, folder)
    lines = [CHAT_TEMPLATE.format(question=question) for _, question, _ in ROWS]
    train_small_tokenizer(lines, NUM_TEXT_TOKENS).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    Image.new("L", (32, 32), 20).save(folder / "dark.png")
    image = Image.new("L", (32, 32), 250)
    image.paste(120, (0, 0, 16, 32))
    image.save(folder / "light.png")
    rows = [{"image": i, "question": q, "answer": a} for i, q, a in ROWS]
    (folder / "turns.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return folder / "turns.jsonl"


def batches_of(start: Path, data: Path, **changes) -> chat.ChatBatches:
    processor = Processor(CONFIG, load_tokenizer(start, TOKENS))
    options: dict[str, Any] = {"max_positions": 200, "num_queries": 4, "batch_size": 4, "seed": 0} | changes
    return chat.ChatBatches(chat.read_turns(data), processor, **options)


def test_a_batch_is_prompt_and_answer_and_only_the_answer_is_learnt(start: Path, data: Path) -> None:
    batches = batches_of(start, data)
    batch, processor = batches(0, 0, 1), batches.processor
    decode = processor.tokenizer.decode
    seen = set()
    for suffix, targets in zip(batch.suffix.tolist(), batch.targets.tolist(), strict=True):
        answer = [token for token in targets if token != IGNORED]
        assert suffix[-len(answer) :] == answer
        assert answer[-1] == TOKENS.eos
        prompt = [token for token in suffix[: -len(answer)] if token != TOKENS.pad]
        question = decode(prompt).split("USER: ")[1].removesuffix(" ASSISTANT:")
        assert prompt == processor.chat_prompt(question)
        assert decode(answer).startswith(" ")
        seen.add((question, decode(answer).strip()))
    assert seen == {(question, answer) for _, question, answer in ROWS}


def test_every_epoch_has_every_turn_once_and_shards_share_them(start: Path, data: Path) -> None:
    whole, shares = batches_of(start, data, batch_size=4), batches_of(start, data, batch_size=1)
    for epoch in range(3):
        rows = whole(epoch, 0, 1)
        parts = [shares(2 * epoch + step, shard, 2) for step in range(2) for shard in range(2)]
        together = [part.suffix[0][part.suffix[0] != TOKENS.pad].tolist() for part in parts]
        assert together == [row[row != TOKENS.pad].tolist() for row in rows.suffix]
        assert len({tuple(row) for row in together}) == 4
    assert torch.equal(whole(1, 0, 1).suffix, batches_of(start, data)(1, 0, 1).suffix)


def train(output: Path, start: Path, data: Path, **changes: Any) -> Path:
    return run(chat.Recipe(**changes), TrainOptions(output, (str(data),), str(start))).folder


@pytest.fixture(scope="module")
def trained(start: Path, data: Path, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("run")
    train(output, start, data, epochs=100, learning_rate=6e-3, batch_size=4)
    return output


def test_four_answers_are_learnt(trained: Path, start: Path, data: Path) -> None:
    records = [json.loads(row) for row in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records]
    assert losses[0] > 1.0
    assert losses[-1] < 0.02
    pipeline = OcrPipeline.from_pretrained(str(trained / "model"))
    for image, question, answer in ROWS:
        with Image.open(data.parent / image) as picture:
            assert pipeline.ask(picture, question, max_new_tokens=8) == answer
    before, after = checkpoint.load(start), checkpoint.load(trained / "model")
    moved = {
        name.split(".")[0]
        for name, tensor in after.state_dict().items()
        if not torch.equal(tensor, before.state_dict()[name])
    }
    assert moved == {"resampler", "text"}


def test_an_interrupted_run_ends_with_the_same_weights(
    start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"epochs": 6, "learning_rate": 1e-3, "batch_size": 2}
    whole = checkpoint.load(train(tmp_path / "whole", start, data, **changes))
    fit = Trainer.fit
    with monkeypatch.context() as patch:  # stopped after one step of twelve
        patch.setattr(Trainer, "fit", lambda self, stop_after_seconds=None: fit(self, 0.0))
        train(tmp_path / "parts", start, data, **changes)
    parts = checkpoint.load(train(tmp_path / "parts", start, data, **changes))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


def test_a_run_does_not_go_on_with_other_data(start: Path, data: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", start, data, epochs=1, batch_size=4)
    other = data.with_name("other.jsonl")
    other.write_text(data.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match=r"other\.jsonl is not what the run in .* began with"):
        train(tmp_path / "run", start, other, epochs=1, batch_size=4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", ":2: not JSON"),
        ("[1]", ":2: expected an object, got [1]"),
        ('{"image": "dark.png", "question": "Who?"}', ":2: missing key 'answer'"),
        ('{"image": "dark.png", "question": 3, "answer": "x"}', ":2.question: expected a string, got 3"),
        ('{"image": "dark.png", "question": " ", "answer": "x"}', ":2.question: empty"),
        ('{"image": "no.png", "question": "Who?", "answer": "x"}', ":2.image: no such file: "),
        ('{"image": "dark.png", "question": "Who?", "answer": "x", "page": 0}', ":2.page: expected a page number"),
        ('{"image": "broken.png", "question": "Who?", "answer": "x"}', ":2.image: "),
        ('{"image": "dark.png", "question": "Who?", "answer": "x", "page": 2}', ":2."),
        ('{"image": "dark.png", "question": "Who?", "answer": "%s"}' % ("long " * 200), "the model has room for 193"),
        ("", ": no rows"),
    ],
)  # fmt: skip
def test_a_bad_row_is_one_clear_line(start: Path, data: Path, row: str, message: str) -> None:
    file = data.with_name("bad.jsonl")
    file.with_name("broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    file.write_text("\n" + row)
    with pytest.raises((DataError, InputError)) as caught:
        batches_of(start, file)(0, 0, 1)
    assert message in str(caught.value)
    assert "bad.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_a_model_with_a_decoder_can_be_tuned(start: Path, data: Path, tmp_path: Path) -> None:
    checkpoint.save_vision(checkpoint.load(start), tmp_path / "vision")
    with pytest.raises(InputError, match="no decoder to fine-tune"):
        train(tmp_path / "run", tmp_path / "vision", data)
