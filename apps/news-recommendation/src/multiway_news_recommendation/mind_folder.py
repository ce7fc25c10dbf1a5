"""A recommender over the readers and news of a MIND folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.errors import DataError, InputError

from multiway_news_recommendation.app import APP
from multiway_news_recommendation.options import Split

if TYPE_CHECKING:
    from multiway_recsys.auto_recommender import Recommender
    from multiway_recsys.collaborative.recommender import LogRecommender
    from multiway_recsys.data.mind import MindData
    from multiway_recsys.data.tables import Behaviors, News
    from multiway_recsys.pipeline import NewsRecommender


def over_folder(
    recommender: Recommender, data: Path, split: Split, *, skip_bad_rows: bool
) -> tuple[NewsRecommender, MindData]:
    """The recommender over its own and a folder's news, and what was read.

    Raises:
        DataError: a file is missing or bad.
        InputError: the model cannot take further news, or is a log.
    """
    from multiway_recsys.collaborative.recommender import LogRecommender

    if isinstance(recommender, LogRecommender):
        raise InputError(
            f"--model {recommender.name} is a log, and so is --data: leave --model away, and --data ranks by its clicks"
        )
    found = read_split(data, split, known=recommender.news, skip_bad_rows=skip_bad_rows)
    return recommender.with_news(found.news), found


def read_split(data: Path, split: Split, *, known: News | None, skip_bad_rows: bool) -> MindData:
    """A folder's split. ``known`` news keep their rows and texts, further ones follow; None: the folder's alone.

    What the reader met (bad rows left out, unknown ids in histories) is told on standard error. Raises DataError: a
    file is missing or bad, or there is no impression.
    """
    from multiway_recsys.data.mind import read_folder

    found = read_folder(data, split, known=known, skip_bad_rows=skip_bad_rows, with_entity_vectors=False)
    tell_bad_rows(found)
    if not len(found.behaviors):
        raise DataError(f"{data}: the {split} split has no impression")
    return found


def of_log(data: Path, split: Split, *, skip_bad_rows: bool) -> LogRecommender:
    """The ensemble of one split's clicks, without SASRec, which takes half a minute where the rest takes seconds.

    Raises DataError.
    """
    from multiway_recsys.collaborative.ensemble import Settings
    from multiway_recsys.collaborative.recommender import NAME, LogRecommender, is_simulated

    found = read_split(data, split, known=None, skip_bad_rows=skip_bad_rows)
    APP.note(
        "no --model: the clicks of this log rank; --model DIR of the log adds SASRec, train adds texts and chains"
    )
    return LogRecommender(
        found.news,
        found.behaviors,
        settings=Settings(sasrec_epochs=0),
        name=NAME,
        simulated=is_simulated(data),
    )


def ranker_of_log(data: Path, split: Split, *, skip_bad_rows: bool) -> tuple[LogRecommender, Behaviors]:
    """The ensemble of a folder's train split, and the impressions of another split that it is to rank.

    Raises InputError: the folder has no train split of its own; DataError.
    """
    from multiway_recsys.collaborative.recommender import LogRecommender, is_simulated
    from multiway_recsys.data.mind import find_split

    if find_split(data, "train") == find_split(data, split):
        raise InputError(
            f"{data}: without --model the clicks of train rank {split}; give a folder that holds both"
        )
    log = read_split(data, "train", known=None, skip_bad_rows=skip_bad_rows)
    found = read_split(data, split, known=log.news, skip_bad_rows=skip_bad_rows)
    return LogRecommender(found.news, log.behaviors, simulated=is_simulated(data)), found.behaviors


def tell_bad_rows(found: MindData) -> None:
    """On standard error: what was left out and what was remarked, by kind and with its place."""
    for rows in found.bad_rows:
        for line in rows.table().splitlines():
            APP.note(line)
