"""What the training tests run in processes of their own: `training_program.py JOB FOLDER`.

JOB is "killed" (one process, and children of it that are killed) or "spread" (under torchrun).
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.utils.tensorboard  # imported before the forks: it is slow
from multiway_core.errors import OutputError
from multiway_core.training import BatchSource, Loss, TrainConfig, Trainer
from torch import nn

VOCABULARY, SIZE, LENGTH = 13, 16, 6
CLIP = 9.0
CONFIG = TrainConfig(
    steps=6,
    learning_rate=1e-2,
    warmup_steps=2,
    ema_decay=0.9,
    accumulation=2,
    log_every=1,
    checkpoint_every_seconds=0,
)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(SIZE)
        # Without bias: the gradient of a key's bias is zero but for rounding, which Adam would magnify.
        self.attention = nn.MultiheadAttention(SIZE, 2, bias=False, batch_first=True)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(SIZE), nn.Linear(SIZE, 40), nn.GELU(), nn.Linear(40, SIZE)
        )
        self.dropout = nn.Dropout(0.1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        normed = self.norm(hidden)
        attended, _ = self.attention(normed, normed, normed, need_weights=False)
        hidden = hidden + self.dropout(attended)
        return hidden + self.dropout(self.feedforward(hidden))


class Transformer(nn.Module):
    """Two blocks, tied head, dropout, a one-element parameter (no shard for the second process), a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, SIZE)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.scale = nn.Parameter(torch.ones(1))
        self.bonus = nn.Parameter(torch.zeros(VOCABULARY))
        self.lm_head = nn.Linear(SIZE, VOCABULARY, bias=False)
        self.lm_head.weight = self.embedding.weight
        self.register_buffer("ramp", torch.linspace(0, 1, LENGTH))

    def forward(self, tokens: torch.Tensor, with_bonus: bool = False) -> torch.Tensor:
        hidden = self.embedding(tokens) + self.ramp[:, None]
        for block in self.blocks:
            hidden = block(hidden)
        logits = self.lm_head(self.scale * hidden)
        return logits + self.bonus if with_bonus else logits


# Plain, and with a clipping that the gradient's true norm passes and half of it does not.
SGD = {
    name: dataclasses.replace(CONFIG, steps=2, clip_norm=norm)
    for name, norm in {"sgd": 0.0, "clipped": CLIP}.items()
}


def make_model(seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    return Transformer()


def objective(model: nn.Module, batch: dict[str, torch.Tensor]) -> Loss:
    logits = model(batch["tokens"], batch.get("with_bonus", False)).flatten(0, 1)
    targets = batch["targets"].flatten()
    total = nn.functional.cross_entropy(logits, targets, reduction="sum", ignore_index=-1)
    return Loss(total, (targets >= 0).sum(), {"length": float(len(targets))}, samples=len(batch["tokens"]))


def batches(step: int, shard: int, num_shards: int) -> dict[str, torch.Tensor]:
    """Shards differ in rows and in how many targets count, so their weights differ."""
    generator = torch.Generator().manual_seed(1000 * step + shard)
    tokens = torch.randint(0, VOCABULARY, (2 + 3 * shard, LENGTH), generator=generator)
    targets = tokens.flip(1)
    targets[:, : 1 + shard] = -1
    return {"tokens": tokens, "targets": targets}


def batches_with_bonus(step: int, shard: int, num_shards: int) -> dict[str, Any]:
    """As `batches`, but every other shard uses a parameter that the others leave without a gradient."""
    return {**batches(step, shard, num_shards), "with_bonus": shard % 2 == 1}


def train(
    folder: Path,
    config: TrainConfig,
    *,
    source: BatchSource = batches,
    stop_after_steps: int | None = None,
    seed: int = 0,
    sgd: bool = False,
) -> Trainer:
    trainer = Trainer(make_model(seed), objective, source, config, folder)
    if sgd:  # AdamW's step does not depend on the gradient's scale; this one does
        group = {"params": trainer.parameters, "ratio": 1.0}
        trainer.optimizers = [torch.optim.SGD([group], lr=config.learning_rate)]
    if stop_after_steps is None:
        trainer.fit()
    for _ in range(stop_after_steps or 0):
        trainer.fit(stop_after_seconds=0)
    return trainer


def killed(folder: Path) -> None:
    """One run uninterrupted, and one in children that are killed until a child reaches the end.

    They die after a random time, or at the n-th change that they make to the file system (which hits the
    moments inside the writing and removing of checkpoints).
    """
    config = dataclasses.replace(CONFIG, steps=12)
    train(folder / "warm", config)  # imports what is imported late, once for all children
    started = time.monotonic()
    train(folder / "whole", config)
    duration = time.monotonic() - started
    generator = random.Random(0)
    config = dataclasses.replace(config, checkpoint_every_seconds=1e-9)  # after every step
    seen = set()  # what the kills left: the newest checkpoint, and whether one was half written or removed
    for kills in range(1000):
        by_time = kills % 2 == 0
        child = os.fork()
        if child == 0:
            if not by_time:
                _die_at_event(folder / "killed", generator.randint(10, 50))
            # A run that continues must not depend on the weights it was made with.
            is_new = not list(folder.glob("killed/checkpoints/step-*"))
            train(folder / "killed", config, seed=0 if is_new else 99)
            os._exit(0)
        generator.random()  # children of different turns draw different numbers
        if by_time and kills < 24:
            time.sleep(generator.uniform(0.3, 1.2) * duration)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            print(json.dumps({"kills": kills, "seen": sorted(seen)}))
            sys.exit(os.waitstatus_to_exitcode(status))
        checkpoints = folder / "killed" / "checkpoints"
        newest = max((path.name for path in checkpoints.glob("step-*")), default="none")
        seen.add((newest, bool(list(checkpoints.glob(".*")))))


def _die_at_event(folder: Path, at_event: int) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}:
            seen += str(folder) in str(arguments[0])
            if seen >= at_event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def spread(folder: Path) -> None:
    """Every way of spreading a run over two processes; what the tests compare is left in `folder`."""
    half = dataclasses.replace(CONFIG, accumulation=1)
    ddp, fsdp = (dataclasses.replace(half, parallel=parallel) for parallel in ("ddp", "fsdp"))
    for optimizer in ("adamw", "muon"):
        for config in (ddp, fsdp):
            train(folder / f"{config.parallel}-{optimizer}", dataclasses.replace(config, optimizer=optimizer))
    for name, config in SGD.items():
        for parallel in ("ddp", "fsdp"):
            spread = dataclasses.replace(config, parallel=parallel, accumulation=1)
            train(folder / f"{parallel}-{name}", spread, sgd=True)
    train(folder / "ddp-bonus", ddp, source=batches_with_bonus)
    train(folder / "fsdp-bf16", dataclasses.replace(fsdp, precision="bf16"))
    for first, second in ((fsdp, fsdp), (ddp, fsdp), (fsdp, ddp)):
        name = f"{first.parallel}-then-{second.parallel}"
        train(folder / name, first, stop_after_steps=2)
        train(folder / name, second, seed=99)
    unwritable = folder / "unwritable"
    if int(os.environ["RANK"]) == 0:
        (unwritable / "checkpoints").mkdir(parents=True)
        (unwritable / "checkpoints" / "step-000000001").touch()
    try:  # the first process alone meets what is in the way; both must learn of it
        Trainer(make_model(), objective, batches, dataclasses.replace(fsdp, steps=1), unwritable).fit()
    except OutputError as error:
        Path(folder, f"error-{os.environ['RANK']}").write_text(str(error))


if __name__ == "__main__":
    {"killed": killed, "spread": spread}[sys.argv[1]](Path(sys.argv[2]))
