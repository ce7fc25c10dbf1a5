"""The ``predict`` command: the file that the MIND leaderboard takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError

from multiway_news_recommendation.app import APP
from multiway_news_recommendation.mind_folder import over_folder, ranker_of_log
from multiway_news_recommendation.options import Split

if TYPE_CHECKING:
    from multiway_recsys.auto_recommender import Recommender

_AT_ONCE = 4096


def predict_folder(
    data: Path,
    output: Path,
    *,
    split: Split,
    model: ModelOptions,
    skip_bad_rows: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Rank every impression of a split, labelled or not, and write and check ``prediction.zip``.

    Without a model the clicks of the folder's train split rank.

    Raises:
        DataError: a file is missing or bad.
        InputError: ``output`` does not end in .zip.
        OutputError: it cannot be written.
    """
    import numpy as np
    from multiway_recsys.submission import check_predictions, write_predictions

    if output.suffix.lower() != ".zip":
        raise InputError(f"--output {output}: expected a name that ends in .zip, such as prediction.zip")
    recommender: Recommender
    if model.model in ("", APP.model):  # the portal of that model is made up
        recommender, behaviors = ranker_of_log(data, split, skip_bad_rows=skip_bad_rows)
    else:
        recommender, found = over_folder(load_pipeline(APP, model), data, split, skip_bad_rows=skip_bad_rows)
        behaviors = found.behaviors
    scores = []
    for start in range(0, len(behaviors), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(behaviors)))
        scores.append(recommender.rank(behaviors.take(rows)))
        if on_progress is not None:
            on_progress(start + len(rows), len(behaviors))
    write_predictions(output, np.concatenate(scores), behaviors)
    check_predictions(output, behaviors)
    return output
