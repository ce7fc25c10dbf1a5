"""The trainer in one process: the arithmetic of a step, schedule, resume, logs, and what goes wrong."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import resource
import signal
from pathlib import Path
from typing import NamedTuple

import pytest
import safetensors.torch
import torch
from multiway_core import config
from multiway_core.errors import CheckpointError, ConfigError, DataError, OutputError
from multiway_core.training import (
    Loss,
    TrainConfig,
    Trainer,
    TrainingDivergedError,
    learning_rate_at,
    load_ema_into,
    load_weights_into,
)
from multiway_core.training.data import to_device
from torch import nn


class Network(nn.Module):
    """Embedding, norm, hidden matrix, dropout, tied head: every kind of parameter, and randomness."""

    def __init__(self, vocabulary: int = 11, size: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size)
        self.hidden = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(0.2)
        self.lm_head = nn.Linear(size, vocabulary, bias=False)
        self.lm_head.weight = self.embedding.weight
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.lm_head(self.norm(self.dropout(torch.tanh(self.hidden(self.embedding(tokens))))))


def make_network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network()


def objective(model: nn.Module, batch: dict[str, torch.Tensor]) -> Loss:
    logits = model(batch["tokens"])
    total = nn.functional.cross_entropy(logits, batch["targets"], reduction="sum")
    return Loss(
        total, len(batch["tokens"]), {"accuracy": (logits.argmax(-1) == batch["targets"]).float().mean()}, 1
    )


def batches(step: int, shard: int, num_shards: int) -> dict[str, torch.Tensor]:
    """The successor of random tokens; shards differ in size, so that their weights differ."""
    generator = torch.Generator().manual_seed(step * num_shards + shard)
    tokens = torch.randint(0, 11, (5 + 3 * shard,), generator=generator)
    return {"tokens": tokens, "targets": (tokens + 1) % 11}


BASE = TrainConfig(steps=6, learning_rate=1e-2, warmup_steps=2, ema_decay=0.9, accumulation=2, log_every=2)


def everything(output_dir: Path) -> dict[str, torch.Tensor]:
    """All tensors of the newest checkpoint."""
    folder = sorted((output_dir / "checkpoints").glob("step-*"))[-1]
    return {
        f"{file.parent.name}/{name}": tensor
        for file in sorted(folder.glob("*/*.safetensors"))
        for name, tensor in safetensors.torch.load_file(file).items()
    }


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def records(output_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]


def test_one_step_is_adamw_on_the_weighted_gradient(tmp_path: Path) -> None:
    # Written out by hand: gradient = sum(total) / sum(weight) over shards of 5 and 8 tokens, clipped, AdamW.
    config = dataclasses.replace(
        BASE, steps=1, warmup_steps=0, schedule="constant", weight_decay=0.0, clip_norm=0.1
    )
    model, expected = make_network(), make_network()
    model.dropout.p = expected.dropout.p = 0.0
    Trainer(model, objective, batches, config, tmp_path).fit()

    losses = [objective(expected, batches(0, shard, 2)) for shard in range(2)]
    (sum(loss.total for loss in losses) / 13).backward()
    norm = nn.utils.clip_grad_norm_(expected.parameters(), 0.1)
    assert norm > 0.1
    torch.optim.AdamW(expected.parameters(), lr=1e-2, betas=config.betas, weight_decay=0.0).step()
    for (name, left), right in zip(model.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7, msg=name)
    assert records(tmp_path)[0]["loss"] == pytest.approx(
        float(sum(loss.total.detach() for loss in losses)) / 13
    )
    assert records(tmp_path)[0]["grad_norm"] == pytest.approx(float(norm), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns(tmp_path: Path, optimizer: str, precision: str) -> None:
    config = TrainConfig(
        steps=80, learning_rate=3e-2, warmup_steps=5, optimizer=optimizer, precision=precision, ema_decay=0.9
    )
    model = make_network()
    result = Trainer(model, objective, batches, config, tmp_path).fit()
    assert result.finished
    assert result.step == 80
    assert result.loss < 0.5
    averaged = make_network(seed=1)
    assert load_ema_into(averaged, tmp_path) == 80
    averaged.eval()
    tokens = torch.arange(11)
    assert torch.equal(averaged(tokens).argmax(-1), (tokens + 1) % 11)
    assert averaged.lm_head.weight is averaged.embedding.weight


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_stopped_run_continues_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    config = dataclasses.replace(BASE, optimizer=optimizer)
    Trainer(make_network(), objective, batches, config, tmp_path / "whole").fit()
    for _ in range(config.steps):
        stopped = Trainer(make_network(seed=7), objective, batches, config, tmp_path / "parts")
        if not list((tmp_path / "parts").glob("checkpoints/step-*")):
            stopped = Trainer(make_network(), objective, batches, config, tmp_path / "parts")
        result = stopped.fit(stop_after_seconds=0)
    assert result.finished
    assert_same(everything(tmp_path / "whole"), everything(tmp_path / "parts"))
    assert len(list((tmp_path / "parts").glob("checkpoints/*"))) == config.keep_checkpoints


def test_schedules() -> None:
    config = TrainConfig(steps=12, learning_rate=1.0, warmup_steps=2, final_learning_rate_ratio=0.1)
    for schedule in ("cosine", "linear"):
        rates = [learning_rate_at(step, dataclasses.replace(config, schedule=schedule)) for step in range(12)]
        assert rates[:3] == [0.5, 1.0, 1.0]
        assert rates[-1] == pytest.approx(0.1)
        assert rates[2:] == sorted(rates[2:], reverse=True)
    assert learning_rate_at(11, dataclasses.replace(config, schedule="constant")) == 1.0


def test_ema_is_the_running_average(tmp_path: Path) -> None:
    history = []

    def recording(model: nn.Module, batch: dict[str, torch.Tensor]) -> Loss:
        history.append(model.hidden.weight.detach().clone())
        return objective(model, batch)

    config = dataclasses.replace(BASE, accumulation=1, ema_decay=0.3)
    model = make_network()
    Trainer(model, recording, batches, config, tmp_path).fit()
    history.append(model.hidden.weight.detach())
    expected = history[0]
    for step, weight in enumerate(history[1:]):
        expected = torch.lerp(expected, weight, 1 - min(0.3, (1 + step) / (10 + step)))
    torch.testing.assert_close(everything(tmp_path)["ema/hidden.weight"], expected)


def test_ema_weights_are_in_the_model_only_inside_the_block(tmp_path: Path) -> None:
    seen = []
    model = make_network()

    def on_checkpoint(step: int, model: nn.Module) -> None:
        own = model.hidden.weight.detach().clone()
        with trainer.ema_weights() as averaged:
            assert torch.equal(averaged.hidden.weight, trainer.ema["hidden.weight"])
            assert not torch.equal(averaged.hidden.weight, own)
        assert torch.equal(model.hidden.weight, own)
        seen.append(step)

    trainer = Trainer(model, objective, batches, BASE, tmp_path, on_checkpoint=on_checkpoint)
    trainer.fit()
    assert seen == [BASE.steps]


def test_muon_moves_hidden_matrices_and_adamw_the_rest(tmp_path: Path) -> None:
    config = dataclasses.replace(BASE, optimizer="muon", weight_decay=0.3)
    trainer = Trainer(make_network(), objective, batches, config, tmp_path)
    names = {parameter: name for name, parameter in trainer.bare_model.named_parameters()}
    moved = {
        type(optimizer).__name__: {
            names[p]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
        }
        for optimizer in trainer.optimizers
    }
    undecayed = ["embedding.weight", "hidden.bias", "norm.bias", "norm.weight"]
    assert moved == {"AdamW": dict.fromkeys(undecayed, 0.0), "Muon": {"hidden.weight": 0.3}}


def test_sigterm_ends_with_a_checkpoint_and_a_result(tmp_path: Path) -> None:
    def batches_with_signal(step: int, shard: int, num_shards: int) -> dict[str, torch.Tensor]:
        if step == 3 and shard == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return batches(step, shard, num_shards)

    handler = signal.getsignal(signal.SIGTERM)
    result = Trainer(make_network(), objective, batches_with_signal, BASE, tmp_path).fit()
    assert not result.finished
    assert result.step in (3, 4)  # the batch is made one step ahead
    assert result.checkpoint.name == f"step-{result.step:09d}"
    assert signal.getsignal(signal.SIGTERM) == handler
    Trainer(make_network(), objective, batches, BASE, tmp_path).fit()
    Trainer(make_network(), objective, batches, BASE, tmp_path / "whole").fit()
    assert_same(everything(tmp_path), everything(tmp_path / "whole"))


def test_records_are_there_once_after_a_resume(tmp_path: Path) -> None:
    config = dataclasses.replace(BASE, log_every=1)
    Trainer(make_network(), objective, batches, config, tmp_path).fit(stop_after_seconds=0)
    lost = [json.dumps({"step": step, "loss": 0.0}) for step in (2, 3)]  # steps after the checkpoint
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("\n".join(lost) + '\n{"step": 4, "lo')  # and a line that a kill cut
    Trainer(make_network(), objective, batches, config, tmp_path).fit()
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert all(record["loss"] > 0 for record in records(tmp_path))
    assert records(tmp_path)[-1].keys() >= {"grad_norm", "learning_rate", "samples_per_second", "metrics"}
    assert 0 <= records(tmp_path)[-1]["metrics"]["accuracy"] <= 1


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Trainer(make_network(), objective, batches, BASE, tmp_path / "lines").fit()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[:2] for line in lines] == [["step", f"{step}/6"] for step in (2, 4, 6)]
    assert all("loss" in line and "samples_per_second" in line and "left 0:00:0" in line for line in lines)

    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    Trainer(make_network(), objective, batches, BASE, tmp_path / "bar").fit()
    assert "6/6" in terminal.getvalue()
    assert "grad_norm" in terminal.getvalue()


def test_tensorboard_files_are_written(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    Trainer(make_network(), objective, batches, BASE, tmp_path).fit()
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, pytest.approx(event.value)) for event in events.Scalars("loss")] == [
        (record["step"], record["loss"]) for record in records(tmp_path)
    ]


def test_a_compiled_model_has_the_same_checkpoint(tmp_path: Path) -> None:
    Trainer(make_network(), objective, batches, BASE, tmp_path / "plain").fit()
    compiled = torch.compile(make_network(), backend="eager")
    Trainer(compiled, objective, batches, BASE, tmp_path / "compiled").fit()
    assert_same(everything(tmp_path / "plain"), everything(tmp_path / "compiled"))
    assert load_weights_into(compiled, tmp_path / "plain") == BASE.steps


@pytest.mark.parametrize("where", ["loss", "gradient", "weight"])
def test_a_step_that_is_not_finite_is_skipped(tmp_path: Path, where: str) -> None:
    def sometimes_bad(model: nn.Module, batch: dict[str, torch.Tensor]) -> Loss:
        loss = objective(model, batch)
        if model.calls not in (3, 4):  # both shards of the second step
            return loss
        if where == "loss":
            return dataclasses.replace(loss, total=loss.total * math.inf)
        if where == "gradient":  # the root of zero: value 0, slope infinite
            return dataclasses.replace(loss, total=loss.total + (loss.total - loss.total.detach()).sqrt())
        return dataclasses.replace(loss, total=loss.total * 0, weight=0)

    config = dataclasses.replace(BASE, steps=2, log_every=1)
    model = make_network()
    result = Trainer(model, sometimes_bad, batches, config, tmp_path / "skipped").fit()
    assert result.skipped_steps == 1
    assert math.isfinite(result.loss)
    once = Trainer(make_network(), objective, batches, config, tmp_path / "once")
    once.fit(stop_after_seconds=0)
    for left, right in zip(model.parameters(), once.model.parameters(), strict=True):
        assert torch.equal(left, right)
    assert records(tmp_path / "skipped")[1]["loss"] is None
    assert records(tmp_path / "skipped")[1]["skipped_steps"] == 1


def test_too_many_skipped_steps_are_an_error_that_leaves_the_checkpoint(tmp_path: Path) -> None:
    def bad_after_two_steps(model: nn.Module, batch: dict[str, torch.Tensor]) -> Loss:
        loss = objective(model, batch)
        return dataclasses.replace(loss, total=loss.total * (math.nan if model.calls > 4 else 1))

    config = dataclasses.replace(BASE, max_skipped_steps=3, checkpoint_every_seconds=1e-9)
    with pytest.raises(TrainingDivergedError, match=r"3 training steps in a row .* \(step 5: loss nan"):
        Trainer(make_network(), bad_after_two_steps, batches, config, tmp_path).fit()
    weights = everything(tmp_path)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_a_checkpoint_of_another_config_is_refused(tmp_path: Path) -> None:
    Trainer(make_network(), objective, batches, BASE, tmp_path).fit(stop_after_seconds=0)
    other = dataclasses.replace(BASE, learning_rate=0.5, log_every=3, accumulation=1)
    with pytest.raises(CheckpointError, match=r"another config: learning_rate 0.01 \(now 0.5\)") as caught:
        Trainer(make_network(), objective, batches, other, tmp_path).fit()
    assert "processes * accumulation 2 (now 1)" in str(caught.value)
    assert "log_every" not in str(caught.value)


def test_a_checkpoint_of_another_model_is_refused_with_all_names(tmp_path: Path) -> None:
    Trainer(make_network(), objective, batches, BASE, tmp_path).fit(stop_after_seconds=0)
    other = Network(size=9)
    del other.norm
    with pytest.raises(CheckpointError) as caught:
        Trainer(other, objective, batches, BASE, tmp_path).fit()
    assert caught.value.unexpected == ("norm.bias", "norm.weight")
    assert "hidden.weight: [8, 8] in the file, [9, 9] in the model" in caught.value.misshaped


@pytest.mark.parametrize("file", ["model/model.safetensors", "optimizer/model.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, file: str) -> None:
    checkpoint = (
        Trainer(make_network(), objective, batches, BASE, tmp_path).fit(stop_after_seconds=0).checkpoint
    )
    (checkpoint / file).write_bytes((checkpoint / file).read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=checkpoint.name):
        Trainer(make_network(), objective, batches, BASE, tmp_path).fit()


def test_no_weights_to_load(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no training checkpoint"):
        load_ema_into(make_network(), tmp_path)
    config = dataclasses.replace(BASE, ema_decay=0.0)
    Trainer(make_network(), objective, batches, config, tmp_path).fit()
    with pytest.raises(CheckpointError, match="has no 'ema' weights"):
        load_ema_into(make_network(), tmp_path)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    config = dataclasses.replace(BASE, keep_checkpoints=1)
    Trainer(make_network(), objective, batches, config, tmp_path).fit(stop_after_seconds=0)
    before = everything(tmp_path)
    trainer = Trainer(make_network(), objective, batches, config, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # no file may grow beyond 2 kB: as a full disk, in the middle of a file
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        with pytest.raises(OutputError, match="cannot write"):
            trainer.fit(stop_after_seconds=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000001"]
    assert_same(before, everything(tmp_path))
    assert Trainer(make_network(), objective, batches, config, tmp_path).fit().finished


@pytest.mark.parametrize("taken", ["", "checkpoints", "metrics.jsonl", "tensorboard"])
def test_an_output_that_cannot_be_written(tmp_path: Path, taken: str) -> None:
    output_dir = tmp_path / "run"
    if taken == "metrics.jsonl":
        (output_dir / taken).mkdir(parents=True)
    else:
        (output_dir / taken).parent.mkdir(parents=True, exist_ok=True)
        (output_dir / taken).touch()
    with pytest.raises(OutputError, match="cannot write"):
        Trainer(make_network(), objective, batches, BASE, output_dir).fit()


def test_an_error_of_the_data_reaches_the_caller(tmp_path: Path) -> None:
    def broken(step: int, shard: int, num_shards: int) -> dict[str, torch.Tensor]:
        if step == 2:
            raise DataError("line 7 of words.txt is empty")
        return batches(step, shard, num_shards)

    with pytest.raises(DataError, match="line 7"):
        Trainer(make_network(), objective, broken, BASE, tmp_path).fit()


def test_batches_move_to_the_device_in_their_own_types() -> None:
    @dataclasses.dataclass
    class Batch:
        pixels: torch.Tensor
        names: list[str]

    class Pair(NamedTuple):
        left: torch.Tensor
        right: tuple[torch.Tensor, int]

    ones = torch.ones(1)
    moved = to_device(
        {"a": Batch(ones, ["x"]), "b": Pair(ones, (ones, 3)), "c": [ones, None]}, torch.device("meta")
    )
    assert moved["a"].pixels.is_meta
    assert moved["a"].names == ["x"]
    assert isinstance(moved["b"], Pair)
    assert moved["b"].right[0].is_meta
    assert moved["b"].right[1] == 3
    assert moved["c"][0].is_meta


def test_the_config_is_a_file(tmp_path: Path) -> None:
    config.save(BASE, tmp_path / "training.json")
    assert config.load(TrainConfig, tmp_path / "training.json") == BASE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("learning_rate", math.nan),
        ("ema_decay", 1.0),
        ("betas", (0.9, 1.0)),
        ("accumulation", 0),
    ],
)
def test_a_config_that_cannot_work_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        dataclasses.replace(BASE, **{field: value})


def test_parallel_and_torchrun_must_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="torchrun"):
        Trainer(make_network(), objective, batches, dataclasses.replace(BASE, parallel="ddp"), tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun started 2 processes"):
        Trainer(make_network(), objective, batches, BASE, tmp_path)
