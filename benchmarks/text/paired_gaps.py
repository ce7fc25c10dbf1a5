"""Whether one system's loss is above another's by more than what seeds do."""

from __future__ import annotations

import statistics
from collections.abc import Iterable


def paired_gaps(losses: dict[str, dict[int, float]], claims: Iterable[tuple[str, str]]) -> str:
    """A Markdown table: of each claim (worse system, better system) the gaps over the seeds that both have.

    ``losses`` are {system: {seed: loss}}. Claims with fewer than two common seeds are left out.
    """
    rows = ["| claimed | gap, mean ± standard deviation over seeds | seen |", "|---|--:|---|"]
    for worse, better in claims:
        seeds = sorted(losses[worse].keys() & losses[better].keys())
        gaps = [losses[worse][seed] - losses[better][seed] for seed in seeds]
        if len(gaps) > 1:
            gap = f"{statistics.mean(gaps):+.3f} ± {statistics.stdev(gaps):.3f}"
            rows.append(f"| {worse} > {better} | {gap} | {_verdict(gaps)} |")
    return "\n".join(rows)


def _verdict(gaps: list[float]) -> str:
    for_claim = sum(gap > 0 for gap in gaps)
    if for_claim == len(gaps):
        return f"in all {len(gaps)} seeds"
    return "the reverse in every seed" if not for_claim else f"in {for_claim} of {len(gaps)}: seeds' noise"
