"""The trainer: what happens in a run, in the order in which it happens.

A step works through `num_shards = processes * accumulation` shards of data. Everything random in it (the
batch, and PyTorch's generator, which is seeded anew for every shard) is a function of (seed, step, shard); so
a run that was killed continues bit for bit, and the way of spreading shards over processes does not matter.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multiway_core.errors import MultiwayError, OutputError
from multiway_core.training import checkpoints
from multiway_core.training.config import FREE_ON_RESUME, TrainConfig, learning_rate_at
from multiway_core.training.data import BatchSource, Prefetch, to_device
from multiway_core.training.distributed import World
from multiway_core.training.held_out import BEST, HeldOut, Scores
from multiway_core.training.interrupts import stop_requests
from multiway_core.training.metrics import Means, MetricsLog, NoLog
from multiway_core.training.objective import Objective
from multiway_core.training.optimizers import (
    IsEmbeddingLike,
    build_optimizers,
    is_embedding_like,
    optimizer_tensors,
    set_learning_rate,
)
from multiway_core.training.replicas import Replica, local, whole


class TrainingDivergedError(MultiwayError):
    """The loss or the gradient was not finite for too many steps in a row."""


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How `fit` ended.

    step: optimizer steps done. finished: whether those were all, or the held-out score's patience ran out.
    loss: of the last step that was not skipped. seconds: of training, with earlier runs of the same folder.
    checkpoint: the newest one's folder. interrupted: by a signal. held_out: the scores of the weights that
    `keep_final_weights` keeps; held_out_before: of the first ones.
    """

    step: int
    finished: bool
    loss: float
    skipped_steps: int
    seconds: float
    checkpoint: Path
    interrupted: bool = False
    held_out: Mapping[str, float] = dataclasses.field(default_factory=dict)
    held_out_before: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Step:
    loss: float
    weight: float
    samples: int
    grad_norm: float
    applied: bool
    stop: bool
    checkpoint_due: bool


class Trainer:
    """Trains `model` (in place) on `objective` with the data of `batches`, as `config` says.

    output_dir: holds `checkpoints/`, `metrics.jsonl` and `tensorboard/`; a run found there is continued.
    device: "cpu", "cuda", ...; under torchrun "cuda" is the process's own GPU. The model is moved there.
    world: the processes of the run, where the caller has made them known already.
    on_checkpoint: called with (step, model) in every process after a checkpoint was written.
    held_out: the score while it trains.
    embedding_like: which matrices Muon and weight decay leave alone (`is_embedding_like`).

    The caller may compile the objective or the model. With "fsdp" a sharded copy is trained, and the model may lie on
    the meta device in all processes but the first; `keep_final_weights` brings the weights back.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        batches: BatchSource,
        config: TrainConfig,
        output_dir: Path,
        *,
        device: str | torch.device = "cpu",
        world: World | None = None,
        on_checkpoint: Callable[[int, nn.Module], None] | None = None,
        held_out: HeldOut | None = None,
        embedding_like: IsEmbeddingLike = is_embedding_like,
    ) -> None:
        self.world = world or World(config.parallel, device)
        self.replica = Replica(model, self.world, config)
        self.model = model
        self.bare_model = self.replica.module
        self.objective = objective
        self.batches = batches
        self.config = config
        self.output_dir = Path(output_dir)
        self.on_checkpoint = on_checkpoint
        self.held_out = held_out
        self.scores = Scores(self.output_dir, held_out)
        self.parameters = [p for p in self.bare_model.parameters() if p.requires_grad]
        self.optimizers = build_optimizers(self.bare_model, config, embedding_like)
        self.ema: dict[str, Tensor] = {}
        if config.ema_decay:
            for name, parameter in self.bare_model.named_parameters():
                self.ema[name] = parameter.detach().to(torch.float32, copy=True)

        self.step = 0
        self.skipped_steps = 0
        self.skipped_in_a_row = 0
        self.seconds = 0.0
        self.loss = float("nan")
        self.saved_step: int | None = None

    def fit(self, stop_after_seconds: float | None = None) -> TrainResult:
        """Train until `config.steps`, the end of the time, Ctrl-C or SIGTERM; ends with a checkpoint in each case.

        Raises CheckpointError (the folder holds another run), OutputError, TrainingDivergedError.
        """
        self._prepare_folder()
        self._resume()
        earlier_seconds, started = self.seconds, time.monotonic()
        last_checkpoint = started
        every_seconds = self.config.checkpoint_every_seconds
        with self._log() as log, self._prefetch() as prefetch, stop_requests() as stop_request:

            def votes() -> tuple[bool, bool]:
                now = time.monotonic()
                time_is_over = stop_after_seconds is not None and now - started >= stop_after_seconds
                return stop_request.is_set() or time_is_over, 0 < every_seconds <= now - last_checkpoint

            window, window_started = _Window(), started
            self._score(log)
            done = self._is_finished()
            while not done:
                step = self._train_step(prefetch.next(), window.metrics, votes)
                self.seconds = earlier_seconds + time.monotonic() - started
                done = step.stop or self.step == self.config.steps
                window.add(step)
                log.advance(self.step)
                if done or self.step % self.config.log_every == 0:
                    log.write(self._record(window, time.monotonic() - window_started))
                    window, window_started = _Window(), time.monotonic()
                if done or step.checkpoint_due:
                    self._checkpoint()
                    last_checkpoint = time.monotonic()
                self._score(log, now=step.stop)
                done = done or self._is_finished()
            self._checkpoint()  # where the patience ran out
            interrupted = any(self.world.gather(stop_request.is_set()))
        return TrainResult(
            step=self.step,
            finished=self._is_finished(),
            loss=self.loss,
            skipped_steps=self.skipped_steps,
            seconds=self.seconds,
            checkpoint=checkpoints.checkpoints_in(self.output_dir)[-1],
            interrupted=interrupted and not self._is_finished(),
            held_out=self.scores.of_final_weights(self.step),
            held_out_before=self.scores.by_step.get(0, {}),
        )

    def _is_finished(self) -> bool:
        return self.step == self.config.steps or self.scores.is_exhausted(self.step)

    def _score(self, log: MetricsLog | NoLog, *, now: bool = False) -> None:
        """Score the weights of this step where one is due, and keep the best; `now`: also where none is due."""
        if self.held_out is None or self.step in self.scores.by_step:
            return
        due = self.step % self.held_out.interval(self.config.steps) == 0 or self.step == self.config.steps
        if not due and (not now or self.scores.best(self.step) is not None):
            return
        with self.ema_weights():
            numbers = self.world.from_main(dict(self.replica.evaluate(self.held_out.score)))
            self.scores.add(self.step, numbers, due=due)
            if due and self.scores.best(self.step) == self.step:
                group = {"model": checkpoints.model_tensors(self.bare_model)}
                checkpoints.write(self.output_dir / BEST, self.step, group, {}, self.world, keep=1)
        if self.world.is_main:
            self.scores.write()
        log.score(self.step, numbers)

    def keep_final_weights(self) -> None:
        """Leave in the model what is to be exported: the best weights where a score picks them, or the average."""
        if self.scores.best(self.step) is not None:
            found = self.world.from_main(checkpoints.checkpoints_in(self.output_dir / BEST))
            group = {"model": checkpoints.model_tensors(self.bare_model)}
            checkpoints.read_into(found[-1], group, spread=self.world.parallel == "fsdp")
        else:
            self._copy_into_model(self.ema)
        self.replica.collect()

    def _train_step(self, shards: list[Any], metrics: Means, votes: Callable[[], tuple[bool, bool]]) -> _Step:
        """One optimizer step. `votes` says whether this process wants to stop and to write a checkpoint."""
        config, device = self.config, self.world.device
        set_learning_rate(self.optimizers, learning_rate_at(self.step, config))
        self.bare_model.train()
        for parameter in self.parameters:
            parameter.grad = None

        # Loss, weight, samples, votes to stop, votes for a checkpoint.
        sums = torch.zeros(5, dtype=torch.float64, device=device)
        for index, batch in enumerate(shards):
            torch.manual_seed(
                shard_seed(config.seed, self.step, self.world.rank * config.accumulation + index)
            )
            with self.replica.accumulate(is_last=index == len(shards) - 1):
                with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                    loss = self.replica.train(self.objective, to_device(batch, device))
                loss.total.backward()
            sums[0] += loss.total.detach()
            sums[1] += loss.weight
            sums[2] += loss.samples
            metrics.add(loss.metrics)
        stop, checkpoint_due = votes()
        sums[3] += stop
        sums[4] += checkpoint_due and self.world.is_main

        # What follows is the same in all processes, because it depends on sums over all of them.
        self.world.sum(sums)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        factor = self.replica.gradient_factor
        norm = factor * whole(torch.nn.utils.get_total_norm(gradients)).to(torch.float64)
        total, weight, samples, stop_votes, due_votes, norm_of_sum = torch.cat([sums, norm.view(1)]).tolist()
        loss_value = total / weight if weight else float("nan")
        grad_norm = norm_of_sum / weight if weight else float("nan")

        applied = math.isfinite(loss_value) and math.isfinite(grad_norm)
        if applied:
            clip = min(1.0, config.clip_norm / (grad_norm + 1e-6)) if config.clip_norm else 1.0
            torch._foreach_mul_([local(gradient) for gradient in gradients], factor * clip / weight)
            for optimizer in self.optimizers:
                optimizer.step()
            self._update_ema()
            self.loss = loss_value
            self.skipped_in_a_row = 0
        else:
            self._skip(loss_value, grad_norm, weight)
        self.step += 1
        return _Step(loss_value, weight, int(samples), grad_norm, applied, stop_votes > 0, due_votes > 0)

    def _skip(self, loss: float, grad_norm: float, weight: float) -> None:
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= self.config.max_skipped_steps:
            raise TrainingDivergedError(
                f"{self.skipped_in_a_row} training steps in a row gave no finite gradient "
                f"(step {self.step + 1}: loss {loss:g}, gradient norm {grad_norm:g}, weight {weight:g}); "
                "lower the learning rate, lengthen the warm-up or check the data; the last checkpoint stays"
            )

    @torch.no_grad()
    def _update_ema(self) -> None:
        if not self.ema:
            return
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        averages = [local(average) for average in self.ema.values()]
        weights = [local(parameter.detach()).float() for parameter in self.bare_model.parameters()]
        torch._foreach_lerp_(averages, weights, 1 - decay)

    @contextmanager
    def ema_weights(self) -> Iterator[nn.Module]:
        """The model with the averaged weights inside the block (for evaluation in `on_checkpoint`)."""
        own = {name: p.detach().clone() for name, p in self.bare_model.named_parameters()} if self.ema else {}
        try:
            self._copy_into_model(self.ema)
            yield self.model
        finally:
            self._copy_into_model(own)

    @torch.no_grad()
    def _copy_into_model(self, tensors: Mapping[str, Tensor]) -> None:
        parameters = dict(self.bare_model.named_parameters())
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)

    def _groups(self) -> dict[str, dict[str, Tensor]]:
        groups = {
            "model": checkpoints.model_tensors(self.bare_model),
            "optimizer": optimizer_tensors(self.bare_model, self.optimizers),
        }
        return {**groups, "ema": self.ema} if self.ema else groups

    def _run_identity(self) -> dict[str, Any]:
        # What a checkpoint and the run that continues it must have in common.
        config = json.loads(json.dumps(dataclasses.asdict(self.config)))
        identity = {name: value for name, value in config.items() if name not in FREE_ON_RESUME}
        return {**identity, "processes * accumulation": self.world.size * self.config.accumulation}

    def _checkpoint(self) -> None:
        if self.saved_step == self.step:
            return
        state = {
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self.skipped_in_a_row,
            "seconds": self.seconds,
            "loss": self.loss if math.isfinite(self.loss) else None,  # JSON has no NaN
            "config": self._run_identity(),
        }
        keep = self.config.keep_checkpoints
        checkpoints.write(self.output_dir, self.step, self._groups(), state, self.world, keep)
        self.saved_step = self.step
        if self.on_checkpoint is not None:
            self.on_checkpoint(self.step, self.model)

    def _prepare_folder(self) -> None:
        try:
            (self.output_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {self.output_dir}: {error.strerror}") from error
        if self.world.is_main:
            checkpoints.remove_unfinished(self.output_dir)

    def _resume(self) -> None:
        found = self.world.from_main(checkpoints.checkpoints_in(self.output_dir))
        if self.step:
            return
        if not found:
            if self.world.is_main:
                self.scores.forget()
            return
        folder = found[-1]
        state = checkpoints.read_state(folder)
        checkpoints.require_same_run(folder, state["config"], self._run_identity())
        checkpoints.read_into(folder, self._groups(), spread=self.world.parallel == "fsdp")
        self.scores.read()
        self.step = self.saved_step = state["step"]
        self.skipped_steps, self.skipped_in_a_row = state["skipped_steps"], state["skipped_in_a_row"]
        self.seconds = state["seconds"]
        self.loss = float("nan") if state["loss"] is None else state["loss"]

    def _prefetch(self) -> Prefetch:
        first = self.world.rank * self.config.accumulation
        shards = range(first, first + self.config.accumulation)
        return Prefetch(
            self.batches,
            shards,
            self.world.size * self.config.accumulation,
            first_step=self.step,
            steps=self.config.steps,
            pin=self.world.device.type == "cuda",
        )

    def _log(self) -> MetricsLog | NoLog:
        return MetricsLog(self.output_dir, self.step, self.config.steps) if self.world.is_main else NoLog()

    def _record(self, window: _Window, seconds: float) -> dict[str, Any]:
        record: dict[str, Any] = {
            "step": self.step,
            "loss": window.loss / window.weight if window.weight else None,
            "grad_norm": window.grad_norm / window.applied if window.applied else None,
            "learning_rate": learning_rate_at(self.step - 1, self.config),
            "weight_per_second": window.weight / seconds,
        }
        if window.samples:
            record["samples_per_second"] = window.samples / seconds
        if self.skipped_steps:
            record["skipped_steps"] = self.skipped_steps
        record["seconds"] = self.seconds
        record["metrics"] = Means.of(self.world.gather(window.metrics.totals()))
        return record


class _Window:
    """Sums over the steps since the last record."""

    def __init__(self) -> None:
        self.loss = self.weight = self.grad_norm = 0.0
        self.samples = self.applied = 0
        self.metrics = Means()

    def add(self, step: _Step) -> None:
        if step.applied:
            self.loss += step.loss * step.weight
            self.weight += step.weight
            self.samples += step.samples
            self.grad_norm += step.grad_norm
            self.applied += 1


def shard_seed(seed: int, step: int, shard: int) -> int:
    """The seed of the random numbers of a shard of a step."""
    digest = hashlib.blake2b(f"{seed}/{step}/{shard}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # 63 bits: what every generator takes
