"""Where the numbers of a run go: `metrics.jsonl`, TensorBoard, and the terminal."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import torch

from multiway_core.errors import OutputError, os_reason
from multiway_core.files import write_text


class Means:
    """Running means by name; every name counts its own values."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, values: Mapping[str, float | torch.Tensor]) -> None:
        for name, value in values.items():
            # Tensors are added where they are: reading them here would make the device wait.
            self._sums[name] = self._sums[name] + (
                value.detach() if isinstance(value, torch.Tensor) else value
            )
            self._counts[name] += 1

    def totals(self) -> dict[str, tuple[float, int]]:
        return {name: (float(value), self._counts[name]) for name, value in self._sums.items()}

    @staticmethod
    def of(all_totals: list[dict[str, tuple[float, int]]]) -> dict[str, float]:
        """The means over several processes' totals."""
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        for totals in all_totals:
            for name, (value, count) in totals.items():
                sums[name] += value
                counts[name] += count
        return {name: value / counts[name] for name, value in sums.items()}


class MetricsLog:
    """Writes records to `metrics.jsonl` and TensorBoard (when it is installed) and shows progress on stderr.

    A resumed run first drops the records after its checkpoint, so that each step is there once. Progress is a
    Rich bar on a terminal and a line per record elsewhere. Raises OutputError.
    """

    def __init__(self, output_dir: Path, first_step: int, steps: int) -> None:
        self.steps = steps
        self.first_step = first_step
        self.started = time.monotonic()
        self.path = Path(output_dir, "metrics.jsonl")
        try:
            self._keep_until(first_step)
            self.file: TextIO = self.path.open("a", encoding="utf-8")
            self.tensorboard = _tensorboard(Path(output_dir, "tensorboard"), first_step)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        self.bar = _progress_bar(first_step, steps)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):  # a full disk was reported where it was met
            self.file.close()
            if self.tensorboard is not None:
                self.tensorboard.close()
        if self.bar is not None:
            self.bar[0].stop()

    def write(self, record: dict[str, Any]) -> None:
        """Record the numbers of one moment; `record["step"]` counts the finished steps."""
        step = record["step"]
        scalars = {**record, **record.get("metrics", {})}
        try:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
            if self.tensorboard is not None:
                for name, value in scalars.items():
                    if isinstance(value, int | float) and name != "step":
                        self.tensorboard.add_scalar(name, value, step)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        text = "  ".join(
            f"{name} {_short(value)}" for name, value in scalars.items() if name not in _NOT_SHOWN
        )
        if self.bar is not None:
            self.bar[0].update(self.bar[1], description=text)
        else:
            pace = (time.monotonic() - self.started) / max(1, step - self.first_step)
            left = _duration(pace * (self.steps - step))
            print(f"step {step}/{self.steps}  {text}  left {left}", file=sys.stderr, flush=True)

    def advance(self, step: int) -> None:
        """Move the bar to `step`."""
        if self.bar is not None:
            self.bar[0].update(self.bar[1], completed=step)

    def score(self, step: int, numbers: Mapping[str, float]) -> None:
        """Show the numbers on held-out data of the weights after `step` steps."""
        try:
            if self.tensorboard is not None:
                for name, value in numbers.items():
                    self.tensorboard.add_scalar(f"held_out/{name}", value, step)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        text = f"step {step}/{self.steps}  " + "  ".join(
            f"held-out {n} {_short(v)}" for n, v in numbers.items()
        )
        if self.bar is not None:
            self.bar[0].console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def _keep_until(self, step: int) -> None:
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue  # a kill cut the last line
        write_text(self.path, "".join(kept))


class NoLog:
    """The log of the processes that are not the main one."""

    def __enter__(self) -> NoLog:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def write(self, record: dict[str, Any]) -> None:
        pass

    def advance(self, step: int) -> None:
        pass

    def score(self, step: int, numbers: Mapping[str, float]) -> None:
        pass


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {error.filename or path}: {os_reason(error)}")


_NOT_SHOWN = {"step", "metrics", "seconds"}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _tensorboard(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step + 1)


def _progress_bar(first_step: int, steps: int) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        return None
    progress = Progress(
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
    )
    task = progress.add_task("", total=steps, completed=first_step)
    progress.start()
    return progress, task
