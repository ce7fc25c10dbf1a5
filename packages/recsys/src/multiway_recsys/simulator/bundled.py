"""The bundled portal: simulate it, train on it, write the model folder with the news of the last season.

    python -m multiway_recsys.simulator.bundled --output runs/news-portal

`runs/news-portal/model` is then what `pretrained/news-portal` holds, beside its card.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from multiway_recsys.data.tables import NO_NEWS, Behaviors, News, Ragged
from multiway_recsys.simulator.portal import Portal
from multiway_recsys.simulator.press import DAY, EPOCH

NAME = "news-portal"
ARTICLES = 16_000
SOURCE = "a news portal simulated by multiway_recsys.simulator; its texts are written by a program"


def build(output: Path, *, seed: int = 0, minutes: float | None = None) -> Path:
    """Simulate, train, export; a second call goes on. The folder of the model."""
    from multiway_recsys.data.mind import MindData
    from multiway_recsys.fitting import FitConfig
    from multiway_recsys.glocim.config import PRESETS
    from multiway_recsys.recipe import train
    from multiway_recsys.serving.folder import About
    from multiway_recsys.simulator import PortalConfig, own_texts, simulate

    portal = simulate(
        PortalConfig(num_users=3000, communities=10, train_seasons=7, seed=seed),
        own_texts(ARTICLES, seed=seed),
    )
    return train(
        MindData(portal.news, portal.splits["train"]),
        output,
        config=replace(PRESETS["glocim-small"], rotation=0.5),
        recipe=FitConfig(epochs=4.0),
        seed=seed,
        minutes=minutes,
        latest=MindData(*_of_last_season(portal)),
        about=About(simulated=True, source=SOURCE, max_age_days=3.0),
        on_judged=lambda step, steps, auc: print(
            f"step {step} of {steps}: AUC {auc:.4f}", file=sys.stderr, flush=True
        ),
    )


def _of_last_season(portal: Portal) -> tuple[News, Behaviors]:
    """The test log with news and clicks of the last season only, and its readers: a fraction of the files."""
    news, log = portal.news, portal.splits["test"]
    assert news.published is not None
    kept = news.published >= EPOCH + portal.config.train_seasons * portal.config.season_days * DAY
    kept[0] = True  # the padding
    kept[log.candidates.values] = True
    rows = np.flatnonzero(kept)
    number_of = np.where(kept, np.cumsum(kept) - 1, NO_NEWS).astype(np.int32)
    histories = Ragged.from_rows(
        [number_of[row][number_of[row] != NO_NEWS] for row in map(log.histories.__getitem__, range(len(log)))]
    )
    present, readers = np.unique(log.users, return_inverse=True)
    candidates = Ragged(number_of[log.candidates.values], log.candidates.offsets)
    return (
        replace(
            news,
            ids=tuple(news.ids[row] for row in rows),
            titles=tuple(news.titles[row] for row in rows),
            abstracts=tuple(news.abstracts[row] for row in rows),
            categories=news.categories[rows],
            subcategories=news.subcategories[rows],
            entities=news.entities.take(rows),
            published=news.published[rows],
        ),
        replace(
            log,
            users=readers.astype(np.int32),
            user_ids=tuple(log.user_ids[user] for user in present),
            histories=histories,
            candidates=candidates,
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
