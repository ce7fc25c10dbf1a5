"""Attention by rule against the same attention under a dense mask.

    python -m benchmarks.core_blocks.visibility [--rounds 9]

Sources of 464 and 608 tokens with targets of 48 and 160 (12 heads of 64), as a sequence-to-sequence model sees them,
and pseudo-masked: a true and a pseudo token for each token of the target. The bound is what the rule could win where
time is in proportion to the pairs of a query and a key that has to be looked at; a target's own triangle counts half.
Inference is `scaled_dot_product_attention` with a bool mask; training is forward and backward, in which both sides hold
the scores. Median of CPU seconds, the contenders in turn, one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.attention import attend
from multiway_blocks.masks import attend_by_rule, prefix_roles, pseudo_masked_roles, rule_layout, visible
from torch import Tensor

HEADS, WIDTH, BATCH = 12, 64, 4
SHAPES = [(464, 48), (608, 160)]


def states(length: int, *, grad: bool) -> list[Tensor]:
    """Queries, keys and values, (B, H, T, D), laid out as an encoder's projections leave them."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(BATCH, length, HEADS, WIDTH, generator=generator).transpose(1, 2) for _ in range(3)]
    return [x.requires_grad_(grad) for x in made]


def contenders(source: int, target: int, pseudo: bool, *, train: bool) -> dict[str, Callable[[], object]]:
    length = source + target * (2 if pseudo else 1)
    if pseudo:
        roles_BT, steps_BT = pseudo_masked_roles(source, torch.arange(target).expand(BATCH, -1))
    else:
        roles_BT, steps_BT = prefix_roles(torch.full((BATCH,), source), length)
    inputs = states(length, grad=train)
    seen, layout = visible(roles_BT, steps_BT)[:, None], rule_layout(roles_BT, steps_BT)

    def run(attention: Callable[[], Tensor]) -> object:
        if not train:
            with torch.no_grad():
                return attention()
        return torch.autograd.grad(attention().sum(), inputs)

    return {
        "dense": lambda: run(lambda: attend(*inputs, seen)),
        "rule": lambda: run(lambda: attend_by_rule(*inputs, layout)),
    }


def bound(source: int, target: int, pseudo: bool) -> float:
    copies = 2 if pseudo else 1
    return (source + copies * target) ** 2 / (source**2 + copies * target * (source + target / 2))


def main() -> None:
    parser = harness.parser(__doc__, "core_blocks")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells: list[dict[str, Any]] = []
    for source, target in SHAPES:
        for pseudo in (False, True):
            cell: dict[str, Any] = {"source": source, "target": target, "pseudo": pseudo}
            cell["bound"] = round(bound(source, target, pseudo), 2)
            for mode in ("inference", "training"):
                work = contenders(source, target, pseudo, train=mode == "training")
                seconds = harness.in_turn(work, options.rounds, warm_up=2)
                dense, rule = median(seconds["dense"]), median(seconds["rule"])
                cell[mode] = {"dense_ms": 1e3 * dense, "rule_ms": 1e3 * rule, "ratio": round(dense / rule, 2)}
            cells.append(cell)
    report = {**harness.provenance("visibility"), "batch": BATCH, "cells": cells}
    rows = [
        [
            f"{cell['source']} / {cell['target']}{', pseudo-masked' if cell['pseudo'] else ''}",
            *(
                value
                for mode in ("inference", "training")
                for value in (
                    f"{cell[mode]['dense_ms']:.1f}",
                    f"{cell[mode]['rule_ms']:.1f}",
                    f"{cell[mode]['ratio']:.2f}",
                )
            ),
            f"{cell['bound']:.2f}",
        ]
        for cell in cells
    ]
    columns = ["source / target", "inference: dense, ms", "by rule, ms", "ratio"]
    columns += ["training: dense, ms", "by rule, ms", "ratio", "bound of the pairs"]
    page = (
        "# Attention by rule\n\n"
        f"A batch of {BATCH}, {HEADS} heads of {WIDTH}, float32. One thread of {report['machine']['cpu']} at a load of "
        f"{report['machine']['load_average']:.0f}; `{report['command']}`.\n\n" + harness.table(columns, rows)
    )
    harness.save(options.output, "visibility", report, page)


if __name__ == "__main__":
    main()
