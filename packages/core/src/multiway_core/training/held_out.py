"""The score on held-out data while a model trains: the numbers by step, and the best weights."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from multiway_core.errors import CheckpointError
from multiway_core.files import write_text
from multiway_core.training.data import to_device
from multiway_core.training.objective import Objective

FILE = "held_out.json"
BEST = "best"

Score = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class HeldOut:
    """What is measured on held-out data, how often, and whether it picks the weights that are exported.

    score: the numbers by name of a model in evaluation mode with its averaged weights (its own, without an average).
        It must depend on the weights alone, so that a killed run takes the same decisions again. Under "fsdp" it
        enters the model's blocks through their `forward`.
    every: steps from one score to the next; 0 is a tenth of the run. The start and the end are scored too.
    best: the number that picks the weights to export; "" exports the last ones.
    larger_is_better: of the number `best`.
    patience: so many scores in a row without a better `best` end the run; 0 never does.
    """

    score: Score
    every: int = 0
    best: str = ""
    larger_is_better: bool = False
    patience: int = 0

    def interval(self, steps: int) -> int:
        """Steps from one score to the next in a run of `steps`."""
        return self.every or max(1, steps // 10)


def loss_on(objective: Objective, batches: Sequence[Any], metric: str = "") -> Score:
    """The score that is the objective's mean loss on some batches; with `metric`, the mean of that metric."""

    def score(model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        total = weight = 0.0
        for batch in batches:
            loss = objective(model, to_device(batch, device))
            total += float(loss.metrics[metric]) * float(loss.weight) if metric else float(loss.total)
            weight += float(loss.weight)
        return {metric or "loss": total / weight if weight else math.nan}

    return score


class Scores:
    """The scores of a run by step, kept in `held_out.json`. Raises CheckpointError for a damaged file."""

    def __init__(self, output_dir: Path, held_out: HeldOut | None) -> None:
        self.path, self.held_out = output_dir / FILE, held_out
        self.by_step: dict[int, dict[str, float]] = {}
        self.unplanned: dict[int, dict[str, float]] = {}

    def read(self) -> None:
        """The scores that an earlier start of the run left."""
        if not self.path.is_file():
            return
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self.by_step = {
                int(step): {name: math.nan if value is None else value for name, value in numbers.items()}
                for step, numbers in found.items()
            }
        except (OSError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"cannot read {self.path}: {error}; remove it to score the run anew"
            ) from error

    def forget(self) -> None:
        """Remove what a run left that was killed before its first checkpoint."""
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.path.with_name(BEST), ignore_errors=True)

    def add(self, step: int, numbers: Mapping[str, float], *, due: bool) -> None:
        """Note the numbers of a step. Those that were not `due` (the run was stopped there) decide nothing: the run
        that continues takes the decisions of one that was not stopped."""
        (self.by_step if due else self.unplanned)[step] = {name: float(v) for name, v in numbers.items()}

    def of_final_weights(self, step: int) -> Mapping[str, float]:
        """The numbers of the weights that a run which ended at `step` keeps."""
        best = self.best(step)
        return self.by_step.get(step if best is None else best) or self.unplanned.get(step, {})

    def write(self) -> None:
        rows = {
            str(step): {n: v if math.isfinite(v) else None for n, v in self.by_step[step].items()}
            for step in sorted(self.by_step)
        }
        write_text(self.path, json.dumps(rows, indent=2) + "\n")

    def best(self, until: int) -> int | None:
        """The best step up to `until`, the earlier of two equal; None where nothing picks, or nothing was scored."""
        if self.held_out is None or not self.held_out.best:
            return None
        name, sign = self.held_out.best, 1 if self.held_out.larger_is_better else -1
        steps = [s for s in sorted(self.by_step) if 0 < s <= until and math.isfinite(self.by_step[s][name])]
        return max(steps, key=lambda s: sign * self.by_step[s][name], default=None)

    def is_exhausted(self, step: int) -> bool:
        """Whether the patience has run out at `step`."""
        best = self.best(step)
        if best is None or self.held_out is None or not self.held_out.patience:
            return False
        return sum(best < other <= step for other in self.by_step) >= self.held_out.patience
