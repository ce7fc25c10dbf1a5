"""`run`: seeds, stages, the held-out score and the best weights, signals, and one run at a time in a folder."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from filelock import FileLock
from multiway_core.errors import CheckpointError, ConfigError, OutputError
from multiway_core.training import (
    HeldOut,
    Loss,
    TrainConfig,
    TrainJob,
    TrainOptions,
    TrainReport,
    choose,
    loss_on,
    run,
)
from torch import Tensor, nn


def objective(model: nn.Module, numbers_B1: Tensor) -> Loss:
    return Loss((model(numbers_B1) - 3 * numbers_B1).square().sum(), len(numbers_B1))


def batches(step: int, shard: int, num_shards: int) -> Tensor:
    return torch.randn(4, 1, generator=torch.Generator().manual_seed(step * num_shards + shard))


def export(model: Any, folder: Path) -> None:
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")


TWO_POINTS = HeldOut(loss_on(objective, [torch.tensor([[1.0], [2.0]])]), every=5)


@dataclasses.dataclass(frozen=True)
class Line:
    """A straight line learns to triple its input."""

    train: TrainConfig = dataclasses.field(
        default_factory=lambda: TrainConfig(steps=20, learning_rate=0.1, warmup_steps=4, log_every=100)
    )
    held_out: HeldOut | None = TWO_POINTS

    def build(self, options: TrainOptions) -> TrainJob:
        model = nn.Linear(1, 1)  # from the global generator, which `run` has seeded
        return TrainJob(model, objective, batches, options.apply(self.train), export, self.held_out)


def weights(report: TrainReport) -> dict[str, Tensor]:
    return safetensors.torch.load_file(report.folder / "model.safetensors")


def test_a_recipe_becomes_a_model_folder_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(Line(), TrainOptions(tmp_path))
    assert report.finished
    assert report.folder == tmp_path / "model"
    assert report.held_out["loss"] < 0.5 * report.held_out_before["loss"]
    scores = json.loads((tmp_path / "held_out.json").read_text())
    assert [int(step) for step in scores] == [0, 5, 10, 15, 20]
    assert scores["20"] == report.held_out
    assert json.loads((tmp_path / "report.json").read_text())["parameters"] == 2
    assert "step 5/20  held-out loss" in capsys.readouterr().err


def test_all_generators_are_seeded_before_build(tmp_path: Path) -> None:
    drawn = []

    class Drawing(Line):
        def build(self, options: TrainOptions) -> TrainJob:
            drawn.append((random.random(), np.random.random(), float(torch.rand(()))))
            return super().build(options)

    for name in "ab":
        run(Drawing(), TrainOptions(tmp_path / name, seed=7))
    run(Drawing(), TrainOptions(tmp_path / "c", seed=8))
    assert drawn[0] == drawn[1]
    assert all(one != other for one, other in zip(drawn[0], drawn[2], strict=True))


def test_stages_follow_one_another_and_resume(tmp_path: Path) -> None:
    class Stages(Line):
        def build(self, options: TrainOptions) -> Iterator[TrainJob]:  # type: ignore[override]
            job = super().build(options)

            def noisy(model: nn.Module, batch: Any) -> Loss:
                torch.rand(())
                return job.objective(model, batch)

            for name in ("first", "second"):
                starts.append(float(job.model.weight.detach().sum()))
                drawn.append(float(torch.rand(())))
                yield dataclasses.replace(job, name=name, objective=noisy)

    starts: list[float] = []
    drawn: list[float] = []
    whole = run(Stages(), TrainOptions(tmp_path / "whole"))
    assert starts[0] != starts[1]
    second = drawn[1]
    parts = run(Stages(), TrainOptions(tmp_path / "parts", minutes=1e-9))
    assert (parts.finished, parts.steps) == (False, 1)
    while not parts.finished:
        parts = run(Stages(), TrainOptions(tmp_path / "parts", minutes=1e-9))
    assert all(torch.equal(tensor, weights(parts)[name]) for name, tensor in weights(whole).items())
    assert drawn[-1] == second  # a stage's own draws do not hang on which process trained the one before
    with pytest.raises(CheckpointError, match="another config"):
        run(Stages(), TrainOptions(tmp_path / "parts", seed=1))


def test_the_best_weights_are_exported_and_patience_ends_the_run(tmp_path: Path) -> None:
    seen = []

    def score(model: nn.Module) -> dict[str, float]:
        assert not model.training
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"accuracy": [0.0, 0.3, 0.9, 0.5, 0.6][len(seen) - 1]}

    held_out = HeldOut(score, every=2, best="accuracy", larger_is_better=True, patience=2)
    report = run(Line(held_out=held_out), TrainOptions(tmp_path))
    assert (report.finished, report.steps, report.held_out) == (True, 8, {"accuracy": 0.9})
    assert all(torch.equal(tensor, seen[2][name]) for name, tensor in weights(report).items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_tells_where(
    tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Line):
        def build(self, options: TrainOptions) -> TrainJob:
            def source(step: int, shard: int, num_shards: int) -> Tensor:
                if step == 7:
                    os.kill(os.getpid(), number)
                return batches(step, shard, num_shards)

            return dataclasses.replace(super().build(options), batches=source)

    report = run(Interrupted(), TrainOptions(tmp_path / "run"))
    assert (report.interrupted, report.finished) == (True, False)
    assert f"interrupted at step {report.steps} of 20; saved in {tmp_path / 'run'}" in capsys.readouterr().err
    again, whole = run(Line(), TrainOptions(tmp_path / "run")), run(Line(), TrainOptions(tmp_path / "whole"))
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(whole).items())


def test_one_run_at_a_time_in_a_folder(tmp_path: Path) -> None:
    class Nothing:
        def build(self, options: TrainOptions) -> list[TrainJob]:
            return []

    with FileLock(tmp_path / ".lock"), pytest.raises(OutputError, match="another process is training into"):
        run(Line(), TrainOptions(tmp_path))
    run(Line(), TrainOptions(tmp_path))
    with pytest.raises(ConfigError, match="nothing to train"):
        run(Nothing(), TrainOptions(tmp_path / "untouched"))
    assert not (tmp_path / "untouched").exists()
    with pytest.raises(OutputError, match="holds a run, and it is not to be resumed"):
        run(Line(), TrainOptions(tmp_path, resume=False))


def test_options_change_the_numbers_of_a_recipe(tmp_path: Path) -> None:
    recipe = Line().train
    assert TrainOptions(tmp_path).apply(recipe) == dataclasses.replace(recipe, checkpoint_every_seconds=300.0)
    shorter = TrainOptions(tmp_path, steps=10, precision="bf16", accumulation=3, checkpoint_every=1).apply(
        recipe
    )
    assert (shorter.steps, shorter.warmup_steps, shorter.precision, shorter.accumulation) == (
        10,
        2,
        "bf16",
        3,
    )
    assert shorter.checkpoint_every_seconds == 60
    with pytest.raises(ConfigError, match="unknown preset 'big'; there are: small"):
        choose({"small": Line()}, "big")


def test_activation_checkpointing_gives_the_same_gradients(tmp_path: Path) -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.2)) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                calls.append(layer)
                x = layer(x)
            return x

    class Deep(Line):
        def build(self, options: TrainOptions) -> TrainJob:
            model = Blocks()
            model.layers[0].register_forward_pre_hook(lambda *_: None)
            return dataclasses.replace(super().build(options), model=model)

    calls: list[nn.Module] = []
    plain = run(Deep(), TrainOptions(tmp_path / "plain"))
    saving = run(Deep(), TrainOptions(tmp_path / "saving", activation_checkpointing=True))
    assert all(torch.equal(tensor, weights(saving)[name]) for name, tensor in weights(plain).items())
