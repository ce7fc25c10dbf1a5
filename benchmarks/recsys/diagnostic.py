"""What do long chains know before anything is trained? Candidates scored by likeness to sets of news.

    python -m benchmarks.recsys.diagnostic --seeds 3

The simulated portal of `news_quality.py` (our own texts). A set is the reader's history, or the news in some hops of
the chains of its clicks; a candidate's score is its likeness to the set (`multiway_recsys.simulator.diagnostic`).
Beside the AUC with the own set stand that with another reader's set, and the centred one: the own score less the mean
over 40 other readers. `static` is the same portal without drift and births, where the history itself is up to date.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from benchmarks import harness

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.recsys.quality import CHAIN_LENGTH, DORMANCY, load_world

IMPRESSIONS = 900
HOPS = ((1, 2), (3, 8), (9, 12), (13, CHAIN_LENGTH))


def measure(world_name: str, seed: int) -> dict[str, Any]:
    """Mean AUCs of each set, and the centred one by dormancy."""
    from multiway_recsys.feature_extraction import click_structure
    from multiway_recsys.glocim.config import PRESETS
    from multiway_recsys.glocim.features import Features
    from multiway_recsys.graph import ChainConfig
    from multiway_recsys.simulator.diagnostic import chain_nodes, diagnose

    world = load_world(world_name, seed, argparse.Namespace())
    rows = np.sort(np.random.default_rng(seed).permutation(len(world.test))[:IMPRESSIONS])
    shown, dormancy = world.test.take(rows), world.dormancy[rows]
    features = Features.of_news(world.news, text_vectors=world.vectors)
    structure = click_structure(
        world.test_graph,
        features,
        world.news,
        PRESETS["glocim-small"],
        chains=ChainConfig(length=CHAIN_LENGTH),
    )
    sets = {"history": shown.histories}
    for first, last in HOPS:
        sets[f"hops {first} to {last}"] = chain_nodes(shown.histories, structure.chains, (first, last))
    found: dict[str, Any] = {}
    for name, nodes in sets.items():
        scores = diagnose(shown, nodes, world.vectors, seed=seed)
        own, swapped, centred = scores.means()
        found[name] = {"own": own, "swapped": swapped, "centred": centred}
        for low, high in DORMANCY:
            inside = (dormancy >= low) & (dormancy < high)
            found[name][f"centred, {low} to {high - 1} days"] = float(np.nanmean(scores.centred[inside]))
    return found


def markdown(result: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """A table a world: mean over the seeds ± standard deviation."""
    lines = ["# What long chains know before anything is trained", ""]
    for world, sets in result.items():
        columns = list(next(iter(sets.values())))
        shown = [name.replace(" to 98 days", " days or more") for name in columns]
        lines += [f"## {world}", "", "| set | " + " | ".join(shown) + " |", "|---" * (len(columns) + 1) + "|"]
        for name, values in sets.items():
            cells = [
                f"{np.mean(values[column]):.3f} ± {np.std(values[column], ddof=1):.3f}" for column in columns
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, "recsys")
    parser.add_argument("--seeds", type=int, default=3, help="at least 2")
    options = parser.parse_args()
    result: dict[str, dict[str, dict[str, list[float]]]] = {}
    for world in ("portal", "static"):
        for seed in range(options.seeds):
            for name, values in measure(world, seed).items():
                for column, value in values.items():
                    result.setdefault(world, {}).setdefault(name, {}).setdefault(column, []).append(value)
    page = markdown(result)
    harness.save(options.output, "news-diagnostic", result, page)


if __name__ == "__main__":
    main()
