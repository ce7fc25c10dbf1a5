"""What every `train` command can be told, whatever it trains."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import torch

from multiway_core.errors import ConfigError
from multiway_core.training.config import Parallel, Precision, TrainConfig


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """The options of a run that belong to no system. Raises ConfigError on values that cannot work.

    output: folder of the run: prepared data, `checkpoints/`, `metrics.jsonl`, `held_out.json`, and at the end `model/`.
    data: what to train on, as the recipe reads it; empty where the recipe makes or brings its data.
    init_from: a model folder or hub id whose weights training begins with; None begins as the recipe says.
    seed: of everything that is random.
    steps, precision, accumulation: None is the recipe's.
    minutes: the run ends by then, with a checkpoint and a model of what was reached.
    device: "cpu", "cuda", ...; under torchrun "cuda" is the process's own GPU.
    parallel: "none" is one process; "ddp" and "fsdp" run under torchrun.
    checkpoint_every: minutes from one checkpoint to the next; 0 saves only at the end and when stopped.
    resume: whether a run found in `output` is continued; False refuses such a folder.
    activation_checkpointing: compute activations again in the backward pass, for memory.
    """

    output: Path
    data: tuple[str, ...] = ()
    init_from: str | None = None
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    device: str = "cpu"
    precision: Precision | None = None
    parallel: Parallel = "none"
    accumulation: int | None = None
    checkpoint_every: float = 5.0
    resume: bool = True
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"minutes must be above 0, not {self.minutes:g}")

    def apply(self, config: TrainConfig) -> TrainConfig:
        """A recipe's numbers with what the user asked for; a shorter run gets a shorter warm-up."""
        steps = self.steps or config.steps
        return dataclasses.replace(
            config,
            steps=steps,
            warmup_steps=min(config.warmup_steps, config.warmup_steps * steps // config.steps),
            precision=self.precision or config.precision,
            parallel=self.parallel,
            accumulation=self.accumulation or config.accumulation,
            checkpoint_every_seconds=60 * self.checkpoint_every,
            activation_checkpointing=self.activation_checkpointing or config.activation_checkpointing,
            seed=self.seed,
        )

    def num_shards(self, accumulation: int = 1) -> int:
        """Batches of a step, over all processes, where a recipe's own accumulation is that."""
        processes = 1 if self.parallel == "none" else int(os.environ.get("WORLD_SIZE", "1"))
        return processes * (self.accumulation or accumulation)

    def model_device(self) -> torch.device:
        """Where `build` makes the model, as a context: `with options.model_device(): model = ...`.

        With "fsdp" the first process makes it and the others get their shards from it; they need no memory for it.
        """
        return torch.device("meta" if self.parallel == "fsdp" and int(os.environ.get("RANK", "0")) else "cpu")
