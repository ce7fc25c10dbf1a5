"""From a recipe to a model folder: `run(recipe, options)` is what every `train` command calls.

A system writes its presets and one function, `build`; all that is the same for all systems stands here and in the
trainer: seeds, device, precision, processes, resume, Ctrl-C, checkpoints by time, the held-out score, the export.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from multiway_core import files
from multiway_core.errors import ConfigError, OutputError, os_reason
from multiway_core.training.checkpoints import checkpoints_in
from multiway_core.training.config import TrainConfig
from multiway_core.training.data import BatchSource
from multiway_core.training.distributed import World
from multiway_core.training.held_out import HeldOut
from multiway_core.training.objective import Objective
from multiway_core.training.optimizers import IsEmbeddingLike, is_embedding_like
from multiway_core.training.options import TrainOptions
from multiway_core.training.trainer import Trainer, TrainResult

MODEL = "model"
REPORT = "report.json"
LOCK = ".lock"


@dataclasses.dataclass(frozen=True)
class TrainJob:
    """One training: what `build` makes of a recipe.

    model: trained in place; it ends on the CPU in evaluation mode, with the weights to export.
    objective, batches: what `Trainer` takes.
    config: the recipe's numbers, after `TrainOptions.apply`.
    export: called with (model, an empty folder) to write the model folder.
    held_out: the score while it trains; None scores nothing.
    name: of a stage, whose checkpoints lie in a folder of that name; "" for a recipe of one job.
    embedding_like: which matrices Muon and weight decay leave alone.
    facts: what the report says besides (sizes of the data, names).
    """

    model: nn.Module
    objective: Objective
    batches: BatchSource
    config: TrainConfig
    export: Callable[[Any, Path], None]
    held_out: HeldOut | None = None
    name: str = ""
    embedding_like: IsEmbeddingLike = is_embedding_like
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def fit(
        self, folder: Path, *, world: World | None = None, stop_after_seconds: float | None = None
    ) -> TrainResult:
        """Train the model, with the run's files in `folder`; it ends with the weights to export. As `Trainer.fit`."""
        trainer = Trainer(
            self.model,
            self.objective,
            self.batches,
            self.config,
            folder,
            world=world,
            held_out=self.held_out,
            embedding_like=self.embedding_like,
        )
        result = trainer.fit(stop_after_seconds)
        trainer.keep_final_weights()
        if not any(parameter.is_meta for parameter in self.model.parameters()):
            self.model.to("cpu")
        self.model.eval()
        return result


class Recipe(Protocol):
    """The numbers of a training, a frozen dataclass for each preset, and how they become a job.

    `build` prepares the data in `options.output` (what lies there already is taken as it is, so that a run that was
    stopped goes on) and makes the model. It draws from global generators as it likes: they are seeded before it is
    called, and before each further stage. A recipe of several stages yields its jobs one after another; each `next`
    finds the models of the earlier jobs trained. Under torchrun every process calls it, the first one before the
    others.
    """

    def build(self, options: TrainOptions) -> TrainJob | Iterable[TrainJob]: ...


AnyRecipe = TypeVar("AnyRecipe")


@dataclasses.dataclass(frozen=True)
class TrainReport:
    """How a run ended.

    folder: of the model. finished: whether all steps were done; interrupted: by Ctrl-C or SIGTERM.
    steps, seconds: of the last stage, with earlier starts of the same run. parameters: of its model.
    held_out, held_out_before: the scores of the exported weights and of those that training began with.
    is_main: whether this is the process that speaks (under torchrun only one is).
    """

    folder: Path
    finished: bool
    interrupted: bool
    steps: int
    seconds: float
    parameters: int
    held_out: Mapping[str, float]
    held_out_before: Mapping[str, float]
    facts: Mapping[str, Any]
    is_main: bool

    def to_json(self) -> dict[str, Any]:
        """The report as JSON takes it, the facts among the other numbers."""
        rows = {"model": str(self.folder), **dataclasses.asdict(self)}
        del rows["folder"], rows["is_main"]
        for scores in ("held_out", "held_out_before"):
            rows[scores] = {n: v if math.isfinite(v) else None for n, v in rows[scores].items()}
        return {**rows.pop("facts"), **rows}


def choose(recipes: Mapping[str, AnyRecipe], preset: str) -> AnyRecipe:
    """The recipe of that name. Raises ConfigError, naming all."""
    if preset not in recipes:
        raise ConfigError(f"unknown preset {preset!r}; there are: {', '.join(recipes)}")
    return recipes[preset]


def run(recipe: Recipe, options: TrainOptions) -> TrainReport:
    """Train, and write the model folder `options.output/model`. Called again it continues where it stopped.

    Raises ConfigError (torchrun and `parallel` disagree), OutputError (another process trains into the folder; it
    cannot be written), CheckpointError (the folder holds another run), TrainingDivergedError, and what `build` raises.
    """
    started = time.monotonic()
    world = World(options.parallel, options.device)
    with _one_run_at_a_time(options, world), _same_sums(options.device):
        seed_everything(options.seed)  # for recipes of one job
        with world.main_first():
            built = recipe.build(options)
        jobs = iter([built] if isinstance(built, TrainJob) else built)
        job, result = None, None
        while result is None or result.finished:
            # A stage begins alike whether the one before it was trained by this process or read from its checkpoint.
            seed_everything(options.seed)
            with world.main_first():
                upcoming = next(jobs, None)
            if upcoming is None:
                break
            job = upcoming
            left = None
            if options.minutes is not None:
                left = max(0.0, started + 60 * options.minutes - time.monotonic())
            result = job.fit(options.output / job.name, world=world, stop_after_seconds=left)
        if job is None or result is None:
            raise ConfigError(f"{type(recipe).__name__} has nothing to train")
        folder = options.output / MODEL
        report = TrainReport(
            folder=folder,
            finished=result.finished,
            interrupted=result.interrupted,
            steps=result.step,
            seconds=round(result.seconds, 1),
            parameters=sum(parameter.numel() for parameter in job.model.parameters()),
            held_out=result.held_out,
            held_out_before=result.held_out_before,
            facts=job.facts,
            is_main=world.is_main,
        )
        if world.is_main:
            with files.replace_folder(folder, overwrite=True) as temporary:
                job.export(job.model, temporary)
            files.write_text(options.output / REPORT, json.dumps(report.to_json(), indent=2) + "\n")
            _tell(report, result, job)
        world.barrier()
    return report


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def _same_sums(device: str) -> Iterator[None]:
    """On a CPU let `index_put_` (the gradient of indexing) and others add in one order, whatever the threads do.

    (A GPU's deterministic operations are too slow, or missing.)
    """
    deterministic: Any = torch.utils.deterministic
    before, filled = torch.are_deterministic_algorithms_enabled(), deterministic.fill_uninitialized_memory
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    if device == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        deterministic.fill_uninitialized_memory = (
            False  # a check for other people's mistakes, which costs time
        )
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
        deterministic.fill_uninitialized_memory = filled


@contextmanager
def _one_run_at_a_time(options: TrainOptions, world: World) -> Iterator[None]:
    """Hold the output folder. Raises OutputError, in every process, where another run holds it."""
    lock = FileLock(options.output / LOCK)
    problem = None
    if world.is_main:
        try:
            options.output.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            if not options.resume and any(checkpoints_in(folder) for folder in _runs_in(options.output)):
                problem = f"{options.output} holds a run, and it is not to be resumed; give another folder"
        except Timeout:
            problem = (
                f"another process is training into {options.output}; wait for it, or give another folder"
            )
        except OSError as error:
            problem = f"cannot write {options.output}: {os_reason(error)}"
    problem = world.from_main(problem)
    if problem is not None:
        lock.release()
        raise OutputError(problem)
    try:
        yield
    finally:
        lock.release()
        if world.is_main and [path.name for path in options.output.iterdir()] == [LOCK]:  # nothing was begun
            shutil.rmtree(options.output, ignore_errors=True)


def _runs_in(output: Path) -> list[Path]:
    return [output, *(path for path in output.iterdir() if path.is_dir())]


def _tell(report: TrainReport, result: TrainResult, job: TrainJob) -> None:
    """One line on stderr: what was reached, and how to go on."""
    numbers = "  ".join(f"held-out {name} {value:.4g}" for name, value in report.held_out.items())
    if report.finished:
        print(f"trained {report.steps} steps  {numbers}".rstrip(), file=sys.stderr, flush=True)
        return
    why = "interrupted" if report.interrupted else "out of time"
    print(
        f"{why} at step {report.steps} of {job.config.steps}; saved in {result.checkpoint}; "
        f"the same command continues  {numbers}".rstrip(),
        file=sys.stderr,
        flush=True,
    )
