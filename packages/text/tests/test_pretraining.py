"""Pretraining of encoders on texts: it learns, resumes to the bit, starts from published files, refuses bad input."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core import training
from multiway_core.errors import CheckpointError, ConfigError, InputError
from multiway_core.training import TrainConfig, TrainOptions
from multiway_text.data.vocabulary import train_word_piece
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM
from multiway_text.pretraining import Recipe, row_maker, vocabulary

SMALL = Recipe(
    size="tiny",
    vocab_size=300,
    length=24,
    batch_size=4,
    train=TrainConfig(steps=6, learning_rate=1e-3, log_every=1),
)
UNILM = replace(SMALL, objective="unilm")
SENTENCE = "the quick brown fox jumps over a lazy dog while seven small birds sing in old green trees"
WORDS = SENTENCE.split()


@pytest.fixture
def texts(tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "texts.jsonl"
    with path.open("w") as file:
        for _ in range(80):
            text = " ".join(generator.choice(WORDS, int(generator.integers(5, 60))))
            file.write(json.dumps({"text": text}) + "\n")
    return path


def digest(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("objective", ["mlm", "unilm", "pmlm"])
def test_learns_and_opens_again(tmp_path, texts, objective):
    recipe = replace(SMALL, objective=objective, train=replace(SMALL.train, steps=30, learning_rate=3e-3))
    report = training.run(recipe, TrainOptions(tmp_path / "run", data=(str(texts),)))
    assert report.held_out["loss"] < 0.9 * report.held_out_before["loss"]
    parts = {"mlm": set(), "unilm": {"bidirectional", "left_to_right", "right_to_left", "seq2seq"}}
    expected = parts.get(objective, {"autoencoding", "autoregressive"})
    assert set(report.held_out) == {"loss"} | expected
    model, _ = checkpoint.load(report.folder, MaskedLM)
    assert model.encoder.config.num_types == (6 if objective == "unilm" else 2)
    assert (model.encoder.relative_bias is not None) == (objective == "pmlm")


def test_a_stopped_run_ends_as_one_that_was_not_stopped(tmp_path, texts):
    options = TrainOptions(tmp_path / "whole", data=(str(texts),), seed=3)
    recipe = replace(SMALL, objective="pmlm")
    whole = training.run(recipe, options)
    stopped = replace(options, output=tmp_path / "stopped", minutes=1e-5)
    first = training.run(recipe, stopped)
    assert first.steps < 6
    second = training.run(recipe, replace(stopped, minutes=None))
    assert second.finished
    assert digest(second.folder) == digest(whole.folder)


def test_a_fresh_process_is_equal_to_the_bit(tmp_path, texts):
    code = (
        "import sys; from pathlib import Path; from multiway_core import training\n"
        "from multiway_core.training import TrainOptions; import test_pretraining as t\n"
        "training.run(t.UNILM, TrainOptions(Path(sys.argv[1]), data=(sys.argv[2],)))"
    )
    here, there = tmp_path / "here", tmp_path / "there"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run(
        [sys.executable, "-c", code, there, texts], check=True, env=environment, capture_output=True
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    training.run(UNILM, TrainOptions(here, data=(str(texts),)))
    torch.set_num_threads(threads)
    assert digest(here / "model") == digest(there / "model")
    assert (here / "model/tokenizer.json").read_bytes() == (there / "model/tokenizer.json").read_bytes()


def bert(folder, **changes):
    """A BERT-like model folder with a tokenizer of 120 pieces."""
    tokenizer = train_word_piece([SENTENCE] * 5, 120)
    shape = {
        "vocab_size": tokenizer.vocab_size,
        "num_positions": 40,
        "num_types": 2,
        "norm_eps": 1e-12,
    } | changes
    torch.manual_seed(0)
    config = TextEncoderConfig(
        "bert",
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        inner_size=32,
        pad_id=0,
        first_position=0,
        pooler=False,
        **shape,
    )
    checkpoint.save(MaskedLM(TextEncoder(config)), folder)
    tokenizer.save(folder)
    return folder


@pytest.mark.parametrize("objective", ["mlm", "unilm", "pmlm"])
def test_begins_with_a_published_bert(tmp_path, texts, objective):
    folder = bert(tmp_path / "bert")
    options = TrainOptions(tmp_path / "run", data=(str(texts),), init_from=str(folder))
    job = replace(SMALL, objective=objective).build(options)
    model = job.model
    published, _ = checkpoint.load(folder, MaskedLM)
    assert torch.equal(model.encoder.token_embedding.weight, published.encoder.token_embedding.weight)
    assert torch.equal(model.head.dense.weight, published.head.dense.weight)
    assert model.encoder.config.num_types == (6 if objective == "unilm" else 2)
    assert (model.encoder.relative_bias is not None) == (objective == "pmlm")
    assert training.run(replace(SMALL, objective=objective), options).finished


def test_an_encoder_without_a_head_gets_one(tmp_path, texts):
    folder = bert(tmp_path / "bert")
    checkpoint.save(checkpoint.load(folder, MaskedLM)[0].encoder, folder)
    options = TrainOptions(tmp_path / "run", data=(str(texts),), init_from=str(folder))
    assert isinstance(SMALL.build(options).model, MaskedLM)


def test_a_given_vocabulary_is_taken(tmp_path, texts):
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    job = replace(SMALL, tokenizer=str(tmp_path)).build(TrainOptions(tmp_path / "run", data=(str(texts),)))
    assert job.facts["vocab_size"] == len(WORDS) + 5


def test_batches_do_not_depend_on_shards_and_cover_an_epoch(tmp_path, texts):
    job = SMALL.build(TrainOptions(tmp_path / "run", data=(str(texts),)))
    whole = job.batches(3, 0, 1)
    halves = [job.batches(3, shard, 2) for shard in range(2)]
    rows = [
        row[valid].tolist() for half in halves for row, valid in zip(half.ids_BT, half.valid_BT, strict=True)
    ]
    assert [row[valid].tolist() for row, valid in zip(whole.ids_BT, whole.valid_BT, strict=True)] == rows
    steps = -(-len(job.batches.texts) // SMALL.batch_size)
    seen = {
        job.batches._orders[0][index]
        for _ in [job.batches(0, 0, 1)]
        for index in range(len(job.batches.texts))
    }
    assert len(seen) == len(job.batches.texts)
    assert job.batches(steps, 0, 1).ids_BT.shape[0] == SMALL.batch_size
    with pytest.raises(InputError, match="3 shards do not divide"):
        job.batches(0, 0, 3)


def test_shares_of_the_tasks():
    words = vocabulary(train_word_piece([SENTENCE] * 5, 120))
    make = row_maker(
        "unilm",
        {"bidirectional": 1 / 3, "left_to_right": 1 / 6, "right_to_left": 1 / 6, "seq2seq": 1 / 3},
        words,
    )
    generator = np.random.default_rng(0)
    first = [make(np.arange(5, 30), generator)[0].types_T[0] for _ in range(3000)]
    for segment, share in {0: 1 / 3, 2: 1 / 6, 3: 1 / 6, 4: 1 / 3}.items():
        assert first.count(segment) / 3000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"objective": "clm"}, ConfigError, "unknown objective 'clm'"),
        ({"size": "huge"}, ConfigError, "unknown size 'huge'"),
        (
            {"objective": "unilm", "tasks": ("mlm",)},
            ConfigError,
            "unilm has no task 'mlm'; there are: bidirectional",
        ),
        ({"length": 8}, InputError, "length must be at least 11"),
        ({"vocab_size": 20}, InputError, "at least 100 pieces"),
    ],
)
def test_wrong_settings(tmp_path, texts, changes, error, message):
    with pytest.raises(error, match=message):
        replace(SMALL, **changes).build(TrainOptions(tmp_path / "run", data=(str(texts),)))


def test_wrong_models(tmp_path, texts):
    def build(folder, **changes):
        options = TrainOptions(tmp_path / f"run-{folder.name}", data=(str(texts),), init_from=str(folder))
        return replace(SMALL, **changes).build(options)

    with pytest.raises(ConfigError, match=r"is a UniLM model .six token types., not a plain BERT"):
        build(bert(tmp_path / "unilm", num_types=6), objective="mlm")
    with pytest.raises(
        InputError, match="a length of 41 tokens is beyond the model's 40 positions; take at most 40"
    ):
        build(bert(tmp_path / "short"), length=41)
    folder = bert(tmp_path / "other")
    train_word_piece([SENTENCE + " ".join(map(chr, range(0x4E00, 0x4E80)))], 200).save(folder)
    with pytest.raises(CheckpointError, match=r"not this model's: .*; the model takes the files of its own"):
        build(folder)
    (tmp_path / "few.jsonl").write_text('{"text": "only one text"}\n')
    with pytest.raises(InputError, match="every 20th document is held out"):
        SMALL.build(TrainOptions(tmp_path / "run-few", data=(str(tmp_path / "few.jsonl"),)))
