"""Who runs the jobs of a build: processes of this machine, Ray Data, Spark, or datatrove's executor.

A job reads files and writes files, so on a cluster the inputs and the output lie on a disk that all its machines see.
Every engine gives the same results as `multiway_core.app.run_jobs`, whose signature it has: `do_share` is what its
workers run, on a share of the jobs by (rank, world size).
"""

from __future__ import annotations

import functools
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from multiway_core.app import Outcome, StopRun, run_jobs
from multiway_core.app.batch import Work
from multiway_core.app.command import describe
from multiway_core.errors import InputError

SHARES_A_WORKER = 4
"""So that a worker with quick jobs takes over from one with slow ones."""
Start = Callable[[], Work]


class Engine(Protocol):
    """Does every job once and yields the outcomes in any order. Raises StopRun: the engine itself has failed."""

    def __call__(self, jobs: Sequence[Any], start: Start, *, processes: int = 1) -> Iterator[Outcome]: ...


def do_share(jobs: Sequence[Any], start: Start, rank: int, world_size: int) -> list[str]:
    """Do every ``world_size``-th job from the ``rank``-th on; the outcomes as JSON, which every engine can carry."""
    work, told = start(), []
    for index in range(rank, len(jobs), world_size):
        try:
            value, error = work(jobs[index]), None
        except StopRun:
            raise
        except Exception as problem:
            value, error = None, describe(problem)
        told.append(json.dumps([index, value, error]))
    return told


def ray_jobs(jobs: Sequence[Any], start: Start, *, processes: int = 1) -> Iterator[Outcome]:
    """Shares of the jobs as blocks of a Ray data set. ``RAY_ADDRESS`` names a cluster; else Ray starts here."""
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="ERROR")
    world, share = _divided(jobs, start, processes)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.range(world, override_num_blocks=world).flat_map(
        lambda row: [{"outcome": told} for told in share(int(row["id"]), world)], num_cpus=1
    )
    try:
        for row in rows.iter_rows():
            yield Outcome(*json.loads(row["outcome"]))
    except ray.exceptions.RayError as error:
        raise StopRun(f"Ray: {str(error).splitlines()[-1]}") from error


def spark_jobs(jobs: Sequence[Any], start: Start, *, processes: int = 1) -> Iterator[Outcome]:
    """Shares of the jobs as partitions of an RDD. ``SPARK_MASTER`` names a cluster; else Spark starts here."""
    from py4j.protocol import Py4JJavaError
    from pyspark import SparkConf, SparkContext

    master = os.environ.get("SPARK_MASTER", "")
    settings = SparkConf().setAppName("multiway-corpus").setMaster(master or f"local[{processes}]")
    settings.set("spark.ui.showConsoleProgress", "false")
    if not master:
        settings.set("spark.ui.enabled", "false").set("spark.driver.host", "127.0.0.1")
    try:
        context = SparkContext.getOrCreate(settings)
        context.setLogLevel("ERROR")
        world, share = _divided(jobs, start, processes)
        told = context.parallelize(range(world), world).flatMap(lambda rank: share(rank, world)).collect()
    except (Py4JJavaError, RuntimeError, OSError) as error:
        raise StopRun(f"Spark: {str(error).splitlines()[0]}") from error
    yield from (Outcome(*json.loads(line)) for line in told)


def datatrove_jobs(jobs: Sequence[Any], start: Start, *, processes: int = 1) -> Iterator[Outcome]:
    """Shares of the jobs as tasks of datatrove's local executor, whose workers are processes of this machine."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.utils.logging import logger

    logger.remove()
    world, share = _divided(jobs, start, processes)
    with tempfile.TemporaryDirectory() as folder:
        step = functools.partial(_datatrove_step, share, folder)
        executor = LocalPipelineExecutor(
            pipeline=[step],
            tasks=world,
            workers=processes,
            logging_dir=f"{folder}/logs",
            skip_completed=False,
        )
        try:
            executor.run()
        except Exception as error:
            raise StopRun(f"datatrove: {describe(error)}") from error
        for file in sorted(Path(folder).glob("*.jsonl")):
            yield from (Outcome(*json.loads(line)) for line in file.read_text().splitlines())


def _datatrove_step(
    share: Callable[[int, int], list[str]], folder: str, data: Any, rank: int = 0, world_size: int = 1
) -> None:
    Path(folder, f"{rank:05}.jsonl").write_text("\n".join(share(rank, world_size)))


def _divided(
    jobs: Sequence[Any], start: Start, processes: int
) -> tuple[int, Callable[[int, int], list[str]]]:
    return max(1, min(len(jobs), SHARES_A_WORKER * processes)), functools.partial(do_share, jobs, start)


def _needs(package: str, extra: str, engine: Engine) -> Callable[[], Engine]:
    def found() -> Engine:
        # Before Ray is imported: its workers are to have this process's packages, not those that uv would install.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            name = str(error.name).partition(".")[0]
            raise InputError(
                f"--engine {extra} needs {name}: pip install 'multiway-corpus[{extra}]'"
            ) from error
        return engine

    return found


ENGINES: dict[str, Callable[[], Engine]] = {
    "local": lambda: run_jobs,
    "ray": _needs("ray.data", "ray", ray_jobs),
    "spark": _needs("pyspark", "spark", spark_jobs),
    "datatrove": _needs("datatrove.executor", "datatrove", datatrove_jobs),
}
"""Name -> the engine. Raises InputError: it is not installed."""
