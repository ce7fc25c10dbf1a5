"""A run over many inputs: progress, failures told as they happen, the summary, the exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from multiway_core.app.batch import Outcome, Work, run_jobs
from multiway_core.app.command import progress_bar, write_json
from multiway_core.app.registry import App


class BatchLog:
    """What failed of a run, in ``failed`` as (name, reason); ``problems`` are inputs that could not be found."""

    def __init__(self, app: App, problems: Iterable[tuple[str, str]] = ()) -> None:
        self.app = app
        self.failed: list[tuple[str, str]] = []
        for name, reason in problems:
            self.fail(name, reason)

    def fail(self, name: str, reason: str) -> None:
        """Note a failure, and tell it on standard error."""
        self.failed.append((name, reason))
        self.app.note(reason if name in reason else f"{name}: {reason}")

    def results(
        self,
        jobs: Sequence[Any],
        start: Callable[[], Work],
        *,
        names: Sequence[str],
        processes: int,
        title: str,
        show: bool = True,
        run: Callable[..., Iterator[Outcome]] = run_jobs,
    ) -> Iterator[tuple[int, Any]]:
        """(index, result) of each job as it comes, None for one that failed. ``run``: what does :func:`run_jobs`."""
        with progress_bar(enabled=show and len(jobs) > 1) as progress:
            bar = progress.add_task(title, total=len(jobs))
            for outcome in run(jobs, start, processes=processes):
                if outcome.error is not None:
                    self.fail(names[outcome.index], outcome.error)
                yield outcome.index, outcome.value
                progress.advance(bar)

    def summarize(
        self, output: Path, done: int | list[Any], skipped: int | list[Any], *, as_json: bool = False
    ) -> None:
        """Say what was done and what was there already: in a line on standard error, or as JSON."""
        if as_json:
            failed = [{"source": name, "error": reason} for name, reason in self.failed]
            write_json({"output": str(output), "done": done, "skipped": skipped, "failed": failed})
            return
        written, there = (value if isinstance(value, int) else len(value) for value in (done, skipped))
        line = f"{written} written to {output}"
        line += f", {there} were there already" if there else ""
        self.app.note(line + (f", {len(self.failed)} failed" if self.failed else ""))

    def exit_code(self, done: int) -> int:
        """0: all, 1: some failed, 2: none was done."""
        return 0 if not self.failed else 1 if done else 2
