"""Writes a portal: one MIND folder a split, and the ground truth in `truth/`, which no model may read.

train/ dev/ test/       news.tsv behaviors.tsv entity_embedding.vec published.tsv
truth/portal.json       the config
truth/news.parquet      news, topic, quality
truth/reads.parquet     user, time, news, story of every click of the log (story -1: what everybody reads)
truth/SPLIT.parquet     a row a candidate, in the order of behaviors.tsv: impression, news, position, relevance,
                        chance, story, community, own_community, dormancy
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from multiway_core import config as configs
from multiway_core.files import write_bytes

from multiway_recsys.data.mind import write_folder
from multiway_recsys.simulator.config import SPLITS
from multiway_recsys.simulator.portal import Portal


def write_portal(folder: Path, portal: Portal) -> None:
    """Write a portal. Files of the same names are replaced. Raises OutputError."""
    import polars as pl

    folder, news, truth = Path(folder), portal.news, portal.truth
    for split in SPLITS:
        behaviors = portal.splits[split]
        vectors = portal.entity_vectors if len(news.entity_ids) > 1 else None
        write_folder(folder / split, news, behaviors, entity_vectors=vectors)
        rows = np.repeat(np.arange(len(behaviors)), behaviors.candidates.lengths)
        ids = np.array(news.ids, dtype=object)
        _write(
            folder / "truth" / f"{split}.parquet",
            pl.DataFrame(
                {
                    "impression": np.array(behaviors.impression_ids, dtype=object)[rows].tolist(),
                    "news": ids[behaviors.candidates.values].tolist(),
                    "position": truth.position[split],
                    "relevance": truth.relevance[split],
                    "chance": truth.chance[split],
                    "story": truth.story[split],
                    "community": truth.community[split],
                    "own_community": truth.own_community[split][rows],
                    "dormancy": truth.dormancy[split][rows],
                }
            ),
        )
    _write(
        folder / "truth" / "news.parquet",
        pl.DataFrame({"news": list(news.ids[1:]), "topic": truth.topic[1:], "quality": truth.quality[1:]}),
    )
    clicks = truth.clicks
    _write(
        folder / "truth" / "reads.parquet",
        pl.DataFrame(
            {
                "user": [portal.splits["train"].user_ids[user] for user in clicks.users],
                "time": clicks.times,
                "news": [news.ids[article] for article in clicks.articles],
                "story": clicks.stories,
            }
        ),
    )
    configs.save(portal.config, folder / "truth" / "portal.json")


def _write(path: Path, table) -> None:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    write_bytes(path, buffer.getvalue())
