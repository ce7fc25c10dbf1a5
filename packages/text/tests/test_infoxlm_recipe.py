"""Training by InfoXLM's recipe: it learns, resumes to the bit with queue and momentum, opens everywhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core import training
from multiway_core.checkpoint import read
from multiway_core.errors import ConfigError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainConfig, TrainOptions
from multiway_text.data.vocabulary import train_unigram
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM
from multiway_text.encoder.sentence import SentenceModel
from multiway_text.infoxlm.config import Contrast
from multiway_text.infoxlm.recipe import RECIPES, Recipe

SMALL = Recipe(
    contrast=Contrast(queue_size=24, momentum=0.99),
    size="tiny",
    vocab_size=150,
    length=32,
    batch_size=4,
    max_tokens=4000,
    scored=32,
    train=TrainConfig(steps=6, learning_rate=1e-3, log_every=1),
)
NOUNS = ["cat", "dog", "bird", "fish", "horse", "cow", "wolf", "bear", "fox", "hen"]
NAMEN = ["katze", "hund", "vogel", "fisch", "pferd", "kuh", "wolf", "baer", "fuchs", "huhn"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """English and German lists of five animals."""
    generator = torch.Generator().manual_seed(0)
    chosen = [torch.randperm(10, generator=generator)[:5].tolist() for _ in range(300)]
    folder = tmp_path_factory.mktemp("pairs")
    for code, words in (("en", NOUNS), ("de", NAMEN)):
        lines = ("the " + " and the ".join(words[i] for i in row) for row in chosen)
        (folder / f"x.{code}").write_text("\n".join(lines) + "\n")
    return f"en-de={folder}/x.en,{folder}/x.de"


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_learns_and_opens_again(tmp_path: Path, data: str) -> None:
    recipe = replace(SMALL, batch_size=16, train=replace(SMALL.train, steps=40, learning_rate=3e-3))
    report = training.run(recipe, TrainOptions(tmp_path, data=(data,)))
    before, after = report.held_out_before, report.held_out
    assert set(after) == {"loss", "mmlm", "tlm", "xlco", "retrieval"}
    assert after["mmlm"] < 0.8 * before["mmlm"]
    assert after["tlm"] < 0.8 * before["tlm"]
    model, _ = checkpoint.load(report.folder, MaskedLM)
    assert model.encoder.config.family == "xlm-roberta"
    assert (model.encoder.config.pad_id, model.encoder.config.first_position) == (1, 2)
    assert model.encoder.config.dropout == 0.1  # of fine-tuning
    sentences = SentenceModel.load(report.folder / "sentences")
    assert sentences.encoder.config.num_layers == report.facts["layer"] == 1
    tokens = torch.tensor([[0, 10, 11, 2]])
    lower = sentences.encoder(tokens, tokens >= 0).hidden_BTE
    whole = model.encoder(tokens, tokens >= 0, hidden_states=True).hidden_states[1]
    torch.testing.assert_close(lower, whole)


def test_a_stopped_run_ends_as_one_that_was_not_stopped(tmp_path: Path, data: str) -> None:
    options = TrainOptions(tmp_path / "whole", data=(data,), seed=3)
    whole = training.run(SMALL, options)
    stopped = replace(options, output=tmp_path / "stopped", minutes=1e-5)
    assert 0 < training.run(SMALL, stopped).steps < 6
    second = training.run(SMALL, replace(stopped, minutes=None))
    assert second.finished
    assert digest(second.folder) == digest(whole.folder)
    states = [
        dict(read(folder / "checkpoints/step-000000006/model"))
        for folder in (tmp_path / "whole", tmp_path / "stopped")
    ]
    assert states[0].keys() == states[1].keys()
    assert {"queue.keys_NE", "queue.place", "key_projection.weight"} < states[0].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert int(states[0]["queue.place"]) == 6 * 4 % 24
    assert not torch.equal(states[0]["key_projection.weight"], states[0]["projection.weight"])


def test_a_fresh_process_is_equal_to_the_bit(tmp_path: Path, data: str) -> None:
    code = (
        "import sys; from pathlib import Path; from multiway_core import training\n"
        "from multiway_core.training import TrainOptions; import test_infoxlm_recipe as t\n"
        "training.run(t.SMALL, TrainOptions(Path(sys.argv[1]), data=(sys.argv[2],)))"
    )
    here, there = tmp_path / "here", tmp_path / "there"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run(
        [sys.executable, "-c", code, there, data], check=True, env=environment, capture_output=True
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    training.run(SMALL, TrainOptions(here, data=(data,)))
    torch.set_num_threads(threads)
    assert digest(here / "model") == digest(there / "model")
    assert (here / "model/tokenizer.json").read_bytes() == (there / "model/tokenizer.json").read_bytes()


def xlm_r(folder: Path) -> TextTokenizer:
    """A bare encoder in the layout of microsoft/infoxlm-base, without head, projection and queue."""
    tokenizer = train_unigram([" and the ".join(NOUNS + NAMEN)] * 20, 120)
    config = TextEncoderConfig("xlm-roberta", tokenizer.vocab_size, 24, 3, 4, 48, 60, 1, 1e-5, 1, 2)
    folder.mkdir()
    text_encoder.save(TextEncoder(config), folder)
    tokenizer.save(folder)
    return tokenizer


def test_begins_with_a_published_encoder(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    xlm_r(tmp_path / "infoxlm-base")
    options = TrainOptions(tmp_path / "run", data=(data,), init_from=str(tmp_path / "infoxlm-base"))
    job = SMALL.build(options)
    told = capsys.readouterr().err
    assert told == "infoxlm-base has no masked LM head, no projection, no queue: drawn anew\n"
    published = text_encoder.load(tmp_path / "infoxlm-base")
    assert torch.equal(job.model.lm.encoder.token_embedding.weight, published.token_embedding.weight)
    assert torch.equal(job.model.key_encoder.token_embedding.weight, published.token_embedding.weight)
    assert job.model.layer == 2
    # The queue holds keys, not noise.
    sides = next(iter(job.batches.before_training(4)))
    keys = job.model.key(sides.key.ids_BT, sides.key.valid_BT)
    torch.testing.assert_close(job.model.queue.keys_NE[:4], keys)


def test_contrast_alone_and_masking_alone(tmp_path: Path, data: str) -> None:
    recipe = replace(
        SMALL,
        tasks=("xlco",),
        contrast=Contrast(queue_size=0),
        batch_size=16,
        train=replace(SMALL.train, steps=30),
    )
    contrast = training.run(recipe, TrainOptions(tmp_path / "a", data=(data,)))
    assert set(contrast.held_out) == {"loss", "xlco", "retrieval"}
    assert contrast.held_out["retrieval"] > 2 * contrast.held_out_before["retrieval"] > 0
    path = tmp_path / "x.txt"
    path.write_text("\n".join(" and the ".join(NOUNS) for _ in range(3)) + "\n")
    files = [tmp_path / f"{i}.txt" for i in range(40)]
    for file in files:
        file.write_text(path.read_text())
    masked = training.run(
        replace(SMALL, tasks=("mmlm",), vocab_size=120),
        TrainOptions(tmp_path / "b", data=(f"en={tmp_path}/[0-9]*.txt",)),
    )
    assert set(masked.held_out) == {"loss", "mmlm"}
    assert masked.facts["queue_size"] == 0


def test_a_queue_has_no_more_keys_than_there_are_pairs(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = replace(SMALL, contrast=Contrast(queue_size=10_000)).build(TrainOptions(tmp_path, data=(data,)))
    assert len(job.model.queue.keys_NE) == job.facts["pairs"] == job.facts["queue_size"]
    assert "keys, not 10000: there are so many pairs" in capsys.readouterr().err


def test_wrong_settings(tmp_path: Path, data: str) -> None:
    for changes, options, error, message in (
        ({"tasks": ("clm",)}, {}, ConfigError, "infoxlm has no task 'clm'"),
        ({"size": "huge"}, {}, ConfigError, "unknown size 'huge'"),
        ({"length": 10}, {}, InputError, "length must be at least 19"),
        ({"pair_fields": ("a",)}, {}, InputError, "expected the names of two fields"),
        ({}, {"parallel": "fsdp"}, ConfigError, "train with parallel ddp"),
        (
            {},
            {"data": ("en=" + data.partition("=")[2].partition(",")[0],)},
            InputError,
            "there are no translations",
        ),
    ):
        options = {"data": (data,)} | options
        with pytest.raises(error, match=message):
            replace(SMALL, **changes).build(TrainOptions(tmp_path / "run", **options))


def test_presets() -> None:
    assert set(RECIPES) == {"base", "large", "small", "smoke"}
    base = RECIPES["base"]
    assert (base.batch_size, base.train.learning_rate, base.train.betas) == (2048, 2e-4, (0.9, 0.98))
    assert RECIPES["large"].contrast.layer_of(24) == 12
