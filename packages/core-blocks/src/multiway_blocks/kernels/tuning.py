"""Tile sizes of Triton kernels, chosen by timing on the GPU at hand, and kept in Triton's cache folder.

Only kernels that run and never train are tuned: another tile adds in another order, and two trainings with one seed
must agree in every bit. The integer kernels give the same bits with every choice.

The first call with a new key times each choice for some tens of milliseconds. Do it before a CUDA graph is captured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import triton

MAX_ROW_CLASS = 128


class Tiles(NamedTuple):
    """A choice: the kernel's constants, and how a program is run."""

    constants: Mapping[str, int]
    warps: int
    stages: int  # of the pipeline of loads in its loop


def tuned(
    choices: Sequence[Tiles], key: Sequence[str], fits: Callable[[Tiles, Mapping[str, Any]], bool]
) -> Callable[[Any], Any]:
    """A decorator of `triton.jit` functions that runs the fastest of the choices that fit the arguments.

    key: names of arguments for each of whose values the choices are timed anew. ``fits`` is asked with a choice and
    the arguments by name. Under the interpreter the first one that fits is taken.
    """
    configs = [triton.Config(dict(c.constants), num_warps=c.warps, num_stages=c.stages) for c in choices]
    by_config = dict(zip(map(id, configs), choices, strict=True))

    def fitting(configs: list[Any], arguments: Mapping[str, Any], **options: Any) -> list[Any]:
        return [c for c in configs if fits(by_config[id(c)], {**arguments, **options})]

    untimed = {"do_bench": lambda *_, **__: [0.0] * 3} if triton.knobs.runtime.interpret else {}
    return triton.autotune(
        configs, list(key), prune_configs_by={"early_config_prune": fitting}, cache_results=True, **untimed
    )


def row_class(rows: int) -> int:
    """What tiles are chosen by: the next power of two, 16 to 128."""
    return min(max(triton.next_power_of_2(rows), 16), MAX_ROW_CLASS)


def fits_rows(tiles: Tiles, arguments: Mapping[str, Any]) -> bool:
    """Whether a tile of TILE_N rows is not higher than ROWS, their class, nor one of few rows for many."""
    height, rows = tiles.constants["TILE_N"], arguments["ROWS"]
    return height == rows or rows > height > 32
