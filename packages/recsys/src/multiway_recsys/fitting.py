"""One training run: the trainer, judged now and then on held-out impressions; the best weights are kept.

A killed run continues exactly. Everything that decides the outcome (batches, judgements, when to stop) is a function of
the step, and is done again in the same way where the kill took it away.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from multiway_core import checkpoint
from multiway_core import config as configs
from multiway_core.errors import CheckpointError, InputError
from multiway_core.files import write_text
from multiway_core.training import Loss, TrainConfig, Trainer
from torch import nn

from multiway_recsys.glocim.batch import Batch
from multiway_recsys.glocim.config import GlocimConfig
from multiway_recsys.glocim.model import Glocim
from multiway_recsys.glocim.objective import negative_sampling
from multiway_recsys.glocim.scoring import score_behaviors
from multiway_recsys.metrics.ranking import evaluate_ranking
from multiway_recsys.periods import Period, PeriodBatches

BEST, SELECTION, RUN = "best.safetensors", "selection.json", "run.json"


@dataclass(frozen=True)
class FitConfig:
    """The numbers of a run. Raises ValueError on values that cannot work.

    epochs: passes over the clicked candidates, at most. evaluations: judgements, evenly spread over them.
    patience: so many judgements without a better one end the run.
    warmup: share of the steps in which the rate rises; then it falls linearly to a tenth.
    """

    epochs: float = 3.0
    batch_size: int = 512
    learning_rate: float = 1e-3
    warmup: float = 0.05
    evaluations: int = 9
    patience: int = 3
    precision: Literal["bf16", "fp32"] = "fp32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "evaluations", "patience"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup must be at least 0 and below 1, not {self.warmup}")


@dataclass(frozen=True)
class Fitted:
    """How a run ended: the weights' step, their AUC on the held-out impressions, and all judgements by step."""

    step: int
    auc: float
    judged: dict[int, float]
    is_finished: bool
    seconds: float


@dataclass(frozen=True)
class _Run:
    """What two runs of one folder must have in common beside the trainer's numbers."""

    fit: FitConfig
    model: GlocimConfig
    seed: int
    rows: int


@dataclass
class _Selection:
    """Judgements so far, kept on disk with the best weights."""

    folder: Path
    judged: dict[int, float] = field(default_factory=dict)
    is_over: bool = False

    @classmethod
    def load(cls, folder: Path) -> _Selection:
        if not (folder / SELECTION).is_file():
            return cls(folder)
        state = configs.read_json(folder / SELECTION)
        judged = {int(step): float(value) for step, value in state["judged"].items()}
        return cls(folder, judged, bool(state["is_over"]))

    def best(self, until: int | None = None) -> int | None:
        """The best step so far; the earlier one of two equal."""
        steps = [step for step in sorted(self.judged) if until is None or step <= until]
        return max(steps, key=lambda step: self.judged[step], default=None)

    def add(self, step: int, value: float, model: nn.Module) -> None:
        # Judgements behind a step that is judged again are those of the run before the kill: they will be made again.
        self.judged = {earlier: auc for earlier, auc in self.judged.items() if earlier < step} | {step: value}
        if self.best() == step:
            checkpoint.save(model, self.folder, filename=BEST)
        self._write()

    def finish(self) -> None:
        self.is_over = True
        self._write()

    def _write(self) -> None:
        state = {
            "judged": {str(step): self.judged[step] for step in sorted(self.judged)},
            "is_over": self.is_over,
        }
        write_text(self.folder / SELECTION, json.dumps(state, indent=2) + "\n")


class _NoLongerBetter(Exception):
    """Ends the trainer's loop from within an objective."""


class _Numbered:
    """Batches that know their step."""

    def __init__(self, batches: PeriodBatches) -> None:
        self.batches = batches

    def __call__(self, step: int, shard: int, num_shards: int) -> tuple[int, Batch]:
        return step, self.batches(step, shard, num_shards)


def fit(
    model: Glocim,
    periods: Sequence[Period],
    held_out: Sequence[Period],
    folder: Path,
    config: FitConfig,
    *,
    seed: int,
    device: str = "cpu",
    minutes: float | None = None,
    on_judged: Callable[[int, int, float], None] | None = None,
) -> Fitted:
    """Train ``model`` in place; it ends with the weights that ranked ``held_out`` best, in evaluation mode.

    periods: what is trained on, each with the features of its time; one for a log with one graph.

    folder: of the run; a run found there is continued. minutes: ends early, with a checkpoint, and with the best
    weights so far. on_judged: called with (step, steps in all, AUC).

    Raises CheckpointError (the folder holds another run), DataError (nothing to train on), InputError (nothing to
    judge by), OutputError, TrainingDivergedError.
    """
    folder, started = Path(folder), time.monotonic()
    batches = PeriodBatches(periods, model.config, seed=seed, batch_size=config.batch_size)
    steps = batches.steps(config.epochs)
    every = max(1, round(steps / config.evaluations))
    folder.mkdir(parents=True, exist_ok=True)
    _check_same_run(folder, _Run(config, model.config, seed, len(batches)))
    selection = _Selection.load(folder)

    def judge(step: int) -> None:
        found = [
            evaluate_ranking(score_behaviors(model, part.features, part.behaviors), part.behaviors).auc
            for part in held_out
        ]
        values = np.concatenate(found)
        scores = float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else np.nan
        if not np.isfinite(scores):
            raise InputError(
                "no held-out impression has a clicked and a not clicked candidate: nothing to judge by"
            )
        selection.add(step, scores, model)
        if on_judged is not None:
            on_judged(step, steps, scores)

    def objective(module: nn.Module, numbered: tuple[int, Batch]) -> Loss:
        step, batch = numbered
        if step and step % every == 0:
            judge(step)
            best = selection.best()
            if best is not None and step - best >= config.patience * every:
                raise _NoLongerBetter
        return negative_sampling(module, batch)

    trainer = Trainer(
        model,
        objective,
        _Numbered(batches),
        TrainConfig(
            steps=steps,
            learning_rate=config.learning_rate,
            warmup_steps=round(config.warmup * steps),
            schedule="linear",
            final_learning_rate_ratio=0.1,
            betas=(0.9, 0.999),
            weight_decay=0.0,
            precision=config.precision,
            checkpoint_every_seconds=120,
            keep_checkpoints=1,
            log_every=every,
            seed=seed,
        ),
        folder,
        device=device,
    )
    is_finished = selection.is_over
    if not is_finished:
        left = None if minutes is None else 60 * minutes - (time.monotonic() - started)
        try:
            result = trainer.fit(stop_after_seconds=left)
            is_finished = result.finished
            if is_finished or selection.best(result.step) is None:
                judge(result.step)
        except _NoLongerBetter:
            is_finished = True
        if is_finished:
            selection.finish()
    best = selection.best()
    assert best is not None
    checkpoint.load(model, folder / BEST, device=device)
    model.to(torch.device(device)).eval()
    return Fitted(
        best, selection.judged[best], dict(selection.judged), is_finished, time.monotonic() - started
    )


def _check_same_run(folder: Path, run: _Run) -> None:
    path = folder / RUN
    if not path.is_file():
        configs.save(run, path)
        return
    theirs, ours = configs.read_json(path), configs.to_dict(run)
    if theirs != json.loads(json.dumps(ours)):
        different = ", ".join(sorted(_differences(theirs, ours, "")))
        raise CheckpointError(
            f"{folder} holds another run (other {different}); continue it as it was begun, or train into another folder"
        )


def _differences(one: Any, other: Any, path: str) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            name
            for key in one.keys() | other.keys()
            for name in _differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if one == other else [path]


def shortened(config: FitConfig, epochs: float | None) -> FitConfig:
    """The same with other epochs, if any are given."""
    return config if epochs is None else replace(config, epochs=epochs)
