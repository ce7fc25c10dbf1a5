"""The bundled portal: simulate it, train on it, write the model folder.

    python -m multiway_recsys.simulator.bundled --output runs/news-portal

`runs/news-portal/model` is then what `pretrained/news-portal` holds, beside its card.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

NAME = "news-portal"
ARTICLES = 6000
SOURCE = "a news portal simulated by multiway_recsys.simulator; its texts are written by a program"


def build(output: Path, *, seed: int = 0, minutes: float | None = None) -> Path:
    """Simulate, train, export; a second call goes on. The folder of the model."""
    from multiway_recsys.data.mind import MindData
    from multiway_recsys.recipe import train
    from multiway_recsys.serving.folder import About
    from multiway_recsys.simulator import PortalConfig, own_texts, simulate

    portal = simulate(
        replace(PortalConfig(), num_users=3000, communities=10, seed=seed), own_texts(ARTICLES, seed=seed)
    )
    return train(
        MindData(portal.news, portal.splits["train"]),
        output,
        preset="glocim-small",
        seed=seed,
        minutes=minutes,
        latest=MindData(portal.news, portal.splits["test"]),
        about=About(simulated=True, source=SOURCE, max_age_days=3.0),
        on_judged=lambda step, steps, auc: print(
            f"step {step} of {steps}: AUC {auc:.4f}", file=sys.stderr, flush=True
        ),
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    print(build(options.output, seed=options.seed, minutes=options.minutes))
