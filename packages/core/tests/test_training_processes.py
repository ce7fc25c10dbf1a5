"""Training in several processes and through kills: compares the folders that `training_program.py` leaves."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import safetensors.torch
import torch
from multiway_core import checkpoint
from multiway_core.training import load_ema_into, load_weights_into

PROGRAM = Path(__file__).with_name("training_program.py")


def run(*command: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("training_program", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes under torchrun (gloo) left."""
    folder = tmp_path_factory.mktemp("spread")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run(*torchrun, str(PROGRAM), "spread", str(folder))
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, program: ModuleType) -> Path:
    """The same runs in one process with accumulation 2, with one thread as the others: sums have the same order."""
    folder = tmp_path_factory.mktemp("alone")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for optimizer in ("adamw", "muon"):
        program.train(folder / optimizer, dataclasses.replace(program.CONFIG, optimizer=optimizer))
    for name, config in program.SGD.items():
        program.train(folder / name, config, sgd=True)
    program.train(folder / "bonus", program.CONFIG, source=program.batches_with_bonus)
    program.train(folder / "bf16", dataclasses.replace(program.CONFIG, precision="bf16"))
    torch.set_num_threads(threads)
    return folder


def newest(output_dir: Path) -> Path:
    return max((output_dir / "checkpoints").glob("step-*"))


def tensors(output_dir: Path) -> dict[str, torch.Tensor]:
    """Everything in the files of the newest checkpoint: weights, average, optimizer state."""
    return {
        f"{file.relative_to(newest(output_dir))}/{name}": tensor
        for file in sorted(newest(output_dir).glob("*/*.safetensors"))
        for name, tensor in safetensors.torch.load_file(file).items()
    }


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def losses(output_dir: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output_dir / "metrics.jsonl").read_text().splitlines()]


def grad_norms(output_dir: Path) -> list[float]:
    return [json.loads(line)["grad_norm"] for line in (output_dir / "metrics.jsonl").read_text().splitlines()]


def test_killed_at_any_moment_and_continued_is_bit_identical(tmp_path: Path) -> None:
    report = json.loads(run(str(PROGRAM), "killed", str(tmp_path)))
    assert report["kills"] >= 3
    found = {step for step, _ in report["seen"]}
    assert len(found - {"none"}) >= 2, f"the kills came before or after the work: {report}"
    assert any(half_done for _, half_done in report["seen"]), f"none hit a checkpoint's writing: {report}"
    assert_equal(tensors(tmp_path / "whole"), tensors(tmp_path / "killed"))
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*"))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("kind", ["sgd", "clipped"])
def test_the_gradient_is_the_sum_over_processes(
    spread: Path, alone: Path, program: ModuleType, parallel: str, kind: str
) -> None:
    (norm, *_), (spread_norm, *_) = (grad_norms(alone / kind), grad_norms(spread / f"{parallel}-{kind}"))
    assert spread_norm == pytest.approx(norm, rel=1e-5)
    assert norm / 2 < program.CLIP < norm
    one, many, start = program.make_model(seed=1), program.make_model(seed=2), program.make_model()
    load_weights_into(one, alone / kind)
    load_weights_into(many, spread / f"{parallel}-{kind}")
    for name, first in start.named_parameters():
        moved, also_moved = (model.get_parameter(name) - first for model in (one, many))
        torch.testing.assert_close(also_moved, moved, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", ["adamw", "muon", "bonus"])
def test_two_processes_are_one_with_accumulation(spread: Path, alone: Path, kind: str) -> None:
    left, right = tensors(alone / kind), tensors(spread / f"ddp-{kind}")
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=1e-6, msg=name)
    assert losses(alone / kind) == pytest.approx(losses(spread / f"ddp-{kind}"), rel=1e-6)


@pytest.mark.parametrize(
    ("run_name", "tolerance"),
    [
        ("fsdp-adamw", 1e-6),
        ("fsdp-then-fsdp", 1e-6),
        ("ddp-then-fsdp", 1e-6),
        ("fsdp-then-ddp", 1e-6),
        # The gradient's norm is summed per shard, which may differ in the last bit; Muon rounds the gradient
        # to bf16, where that bit may become a bf16 step.
        ("fsdp-muon", 1e-3),
    ],
)
def test_sharded_runs_are_one_process(
    spread: Path, alone: Path, program: ModuleType, run_name: str, tolerance: float
) -> None:
    optimizer = "muon" if run_name.endswith("muon") else "adamw"
    assert losses(alone / optimizer) == pytest.approx(losses(spread / run_name), rel=tolerance)
    for group in ("model", "ema"):
        one, many = program.make_model(seed=1), program.make_model(seed=2)
        assert load_weights_into(one, alone / optimizer, group=group) == program.CONFIG.steps
        assert load_weights_into(many, spread / run_name, group=group) == program.CONFIG.steps
        for (name, left), right in zip(one.state_dict().items(), many.state_dict().values(), strict=True):
            torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance, msg=name)


def test_a_sharded_run_in_bf16_is_one_process(spread: Path, alone: Path) -> None:
    # Blocks are gathered in bfloat16 and gradients summed in float32; one process rounds fewer of the weights.
    one, many = losses(alone / "bf16"), losses(spread / "fsdp-bf16")
    assert one[0] == pytest.approx(many[0], rel=1e-3)
    assert one == pytest.approx(many, rel=1e-2)


def test_a_sharded_run_continues_bit_for_bit(spread: Path) -> None:
    assert_equal(tensors(spread / "fsdp-adamw"), tensors(spread / "fsdp-then-fsdp"))
    assert (
        len(list(newest(spread / "fsdp-adamw").glob("model/*.safetensors"))) == 2
    )  # a file for each process


def test_a_sharded_run_is_exported_to_one_file(spread: Path, program: ModuleType, tmp_path: Path) -> None:
    model, loaded = program.make_model(seed=1), program.make_model(seed=2)
    load_ema_into(model, spread / "fsdp-adamw")
    checkpoint.save(model, tmp_path / "export")
    checkpoint.load(loaded, tmp_path / "export")
    assert_equal(dict(model.state_dict()), dict(loaded.state_dict()))
    assert (tmp_path / "export" / "model.safetensors").is_file()


def test_all_processes_learn_that_a_checkpoint_cannot_be_written(spread: Path) -> None:
    messages = [(spread / f"error-{rank}").read_text() for rank in range(2)]
    assert messages[0] == messages[1]
    assert "a file is in the way" in messages[0]
