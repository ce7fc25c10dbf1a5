"""The trainer in one process: the arithmetic of a step, schedule, resume, logs, and what goes wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from multiway_core.training import (
    Loss,
    TrainConfig,
    Trainer,
    learning_rate_at,
    load_ema_into,
)
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
