"""What a training run is: its numbers, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from multiway_core.errors import ConfigError

Precision = Literal["fp32", "bf16"]
Parallel = Literal["none", "ddp", "fsdp"]

# What may differ between a checkpoint's run and the run that continues it, because it does not change the
# weights. (`accumulation` is checked apart: only its product with the number of processes matters.)
FREE_ON_RESUME = frozenset(
    {
        "checkpoint_every_seconds",
        "keep_checkpoints",
        "log_every",
        "max_skipped_steps",
        "parallel",
        "accumulation",
        "activation_checkpointing",
    }
)


@dataclass(frozen=True)
class TrainConfig:
    """The numbers of a training run. Raises ConfigError on values that cannot work.

    steps: optimizer steps of the whole run.
    learning_rate: the peak. Muon's updates are scaled to AdamW's size ("match_rms_adamw").
    learning_rate_ratios: by the beginning of parameters' names, what the rate is multiplied with; the longest fits.
    warmup_steps: the rate rises linearly over them, then follows `schedule` down to
        `learning_rate * final_learning_rate_ratio` at the last step ("constant" stays at the peak).
    optimizer: "muon" moves two-dimensional hidden matrices with Muon and all other parameters with AdamW.
    weight_decay: decoupled, for matrices only (not for biases, norms and embedding-like parameters).
    clip_norm: largest norm of the whole gradient; 0 is no clipping.
    precision: "bf16" runs the objective under autocast; weights and optimizer state keep the model's dtype.
    accumulation: shards that each process works through in every step.
    ema_decay: 0 is off; else an fp32 average of the weights, with the decay rising as
        min(ema_decay, (1 + step) / (10 + step)), so that short runs are not dominated by the initial weights.
    checkpoint_every_seconds: 0 is only at the end (and when stopped).
    keep_checkpoints: the newest N stay.
    max_skipped_steps: a step with a loss or gradient that is not finite is skipped; so many in a row raise.
    parallel: "none" is one process; "ddp" and "fsdp" run under `torchrun`.
    activation_checkpointing: blocks compute their activations again in the backward pass: less memory, a third more
        work, the same gradients. (A block with BatchNorm would count every batch twice.)
    """

    steps: int
    learning_rate: float
    learning_rate_ratios: dict[str, float] = field(default_factory=dict)
    warmup_steps: int = 0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final_learning_rate_ratio: float = 0.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    muon_momentum: float = 0.95
    precision: Precision = "fp32"
    accumulation: int = 1
    ema_decay: float = 0.0
    checkpoint_every_seconds: float = 300.0
    keep_checkpoints: int = 2
    log_every: int = 50
    max_skipped_steps: int = 20
    parallel: Parallel = "none"
    activation_checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, smallest in {
            "steps": 1,
            "warmup_steps": 0,
            "accumulation": 1,
            "keep_checkpoints": 1,
            "log_every": 1,
            "max_skipped_steps": 1,
            "seed": 0,
            "learning_rate": 0,
            "weight_decay": 0,
            "clip_norm": 0,
            "checkpoint_every_seconds": 0,
        }.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= smallest):
                raise ConfigError(f"training {name} must be at least {smallest}, not {value}")
        for name, ratio in self.learning_rate_ratios.items():
            if not (math.isfinite(ratio) and ratio >= 0):
                raise ConfigError(f"training learning_rate_ratios[{name!r}] must be at least 0, not {ratio}")
        fractions = {
            "final_learning_rate_ratio": self.final_learning_rate_ratio,
            "betas[0]": self.betas[0],
            "betas[1]": self.betas[1],
            "muon_momentum": self.muon_momentum,
            "ema_decay": self.ema_decay,
        }
        for name, value in fractions.items():
            largest_allowed = name == "final_learning_rate_ratio"  # the only one that may be 1
            if not (0 <= value < 1 or (largest_allowed and value == 1)):
                raise ConfigError(f"training {name} must be at least 0 and below 1, not {value}")


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """The learning rate of optimizer step `step` (0 is the first)."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    decay_steps = config.steps - config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, decay_steps - 1))
    remaining = 1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    ratio = config.final_learning_rate_ratio
    return config.learning_rate * (ratio + (1 - ratio) * remaining)


def learning_rate_ratio(name: str, config: TrainConfig) -> float:
    """What the learning rate of a parameter is multiplied with."""
    fitting = [start for start in config.learning_rate_ratios if name.startswith(start)]
    return config.learning_rate_ratios[max(fitting, key=len)] if fitting else 1.0
