"""Measuring a recommender on labelled impressions: the leaderboard's metrics, variety of the lists, and slices.

Simpler rankers are measured in the same run; a metric of one has its name behind a colon: ``auc:popularity-live``.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError
from multiway_core.evaluation import (
    Latency,
    Metric,
    Report,
    describe_machine,
    installed_versions,
    mean_interval,
    peak_rss_bytes,
)

from multiway_news_recommendation.app import APP
from multiway_news_recommendation.mind_folder import over_folder, ranker_of_log, read_split
from multiway_news_recommendation.options import SIMULATED_NOTE, Split

if TYPE_CHECKING:
    import numpy as np
    from multiway_recsys.auto_recommender import Recommender
    from multiway_recsys.data.tables import Behaviors
    from numpy.typing import NDArray

Progress = Callable[[int, int], None]
_AT_ONCE = 2048  # impressions between two steps of the progress bar
_TOP = 10
_RESAMPLED = (
    50_000_000  # values that an interval is made of: fewer resamples where there are very many impressions
)
_QUICK_READERS, _QUICK_IMPRESSIONS, _QUICK_SEED = 1500, 2000, 77


def evaluate_folder(
    data: Path,
    *,
    split: Split,
    model: ModelOptions,
    limit: int | None = None,
    chains: bool = True,
    fresh_graph: bool = False,
    live: bool = False,
    skip_bad_rows: bool = False,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Report:
    """Rank every impression of a folder's split and score the ranking.

    Args:
        data: a MIND folder; labelled.
        limit: at most so many impressions, the first ones.
        chains: False: as if no click had a long chain.
        fresh_graph: put the network over the folder's news alone, with graph and chains of the split's own histories,
            which lie before its first impression.
        live: count the split's own clicks before each impression, as a running portal does.
        on_progress: called with impressions done and in all.

    Raises:
        DataError: a file is missing or bad.
        InputError: no labels, or a graph that holds clicks later than the first impression.
    """
    if model.model in ("", APP.model) and not fresh_graph:  # the portal of that model is made up
        return _evaluate_log(
            data,
            split,
            limit=limit,
            live=live,
            skip_bad_rows=skip_bad_rows,
            seed=seed,
            on_progress=on_progress,
        )
    recommender = load_pipeline(APP, model)
    if fresh_graph:
        found = read_split(data, split, known=None, skip_bad_rows=skip_bad_rows)
    else:
        recommender, found = over_folder(recommender, data, split, skip_bad_rows=skip_bad_rows)
    behaviors = found.behaviors
    if behaviors.labels is None:
        raise InputError(f"{data}: the {split} split has no labels (it is a test split): use predict")
    if fresh_graph:
        recommender = recommender.over(found.news, behaviors)
    if live:
        recommender = recommender.counting(behaviors)
    if limit is not None:
        import numpy as np

        behaviors = behaviors.take(np.arange(min(limit, len(behaviors))))
    name = f"{model.model}{'' if chains else ' without chains'}, {split} split of {data.name or data}"
    return evaluate_behaviors(
        recommender, behaviors, name=name, chains=chains, seed=seed, on_progress=on_progress
    )


def _evaluate_log(
    data: Path,
    split: Split,
    *,
    limit: int | None,
    live: bool,
    skip_bad_rows: bool,
    seed: int,
    on_progress: Progress | None,
) -> Report:
    """The ensemble of the train split's clicks, and each of its members, on another split of the folder."""
    import numpy as np

    recommender, behaviors = ranker_of_log(data, split, skip_bad_rows=skip_bad_rows)
    if behaviors.labels is None:
        raise InputError(f"{data}: the {split} split has no labels (it is a test split): use predict")
    if live:
        recommender.ensemble = recommender.ensemble.plus(behaviors)
    if limit is not None:
        behaviors = behaviors.take(np.arange(min(limit, len(behaviors))))
    beside = recommender.ensemble.members.scores(behaviors, recommender.ensemble.counted)
    name = f"clicks of {data.name or data}/train, {split} split"
    return evaluate_behaviors(
        recommender, behaviors, name=name, beside=beside, seed=seed, on_progress=on_progress
    )


def evaluate_behaviors(
    recommender: Recommender,
    behaviors: Behaviors,
    *,
    name: str,
    chains: bool = True,
    beside: Mapping[str, NDArray[np.floating]] | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Report:
    """The report of one ranking. Impressions without a clicked or without another candidate have no ranking metrics.

    ``beside``: scores of the candidates by simpler rankers, by name.
    """
    import numpy as np
    from multiway_recsys.collaborative.recommender import LogRecommender
    from multiway_recsys.metrics import diversity
    from multiway_recsys.metrics.ranking import evaluate_ranking

    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    started = time.perf_counter()
    graph = None if isinstance(recommender, LogRecommender) else recommender.parts.graph
    if len(behaviors) and graph is not None:
        graph.require_before(int(behaviors.times.min()))
    scores, seconds, cpu_seconds = _ranked(recommender, behaviors, chains, on_progress)
    ranking = evaluate_ranking(scores, behaviors)
    if not ranking.is_evaluated.any():
        raise InputError(
            f"{name}: no impression has both a clicked and another candidate: nothing to measure"
        )
    lists_MK = diversity.top_candidates(scores, behaviors.candidates, _TOP)
    news, clicks_N = recommender.news, _clicks(recommender)
    columns = {
        "auc": ranking.auc,
        "mrr": ranking.mrr,
        "ndcg@5": ranking.ndcg5,
        "ndcg@10": ranking.ndcg10,
        "category entropy@10": diversity.category_entropy(lists_MK, news.categories),
        "novelty@10": diversity.novelty(lists_MK, clicks_N),
    }
    if recommender.content_Nd is not None:
        columns["distance@10"] = diversity.intra_list_distance(lists_MK, recommender.content_Nd)
    for other, values in (beside or {}).items():
        simpler = evaluate_ranking(np.asarray(values, np.float32), behaviors)
        columns |= {f"auc:{other}": simpler.auc, f"ndcg@5:{other}": simpler.ndcg5}
    labels = _groups(recommender, behaviors)
    rows: list[dict[str, Any]] = [
        {
            "name": impression,
            "groups": [names[group[place]] for names, group in labels if group[place] >= 0],
            "seconds": float(seconds[place]),
            "cpu_seconds": float(cpu_seconds[place]),
            "metrics": {key: _number(values[place]) for key, values in columns.items()},
        }
        for place, impression in enumerate(behaviors.impression_ids)
    ]
    shown_N = np.bincount(behaviors.candidates.values, minlength=len(news)) > 0
    shown_N[0] = False
    whole = {
        "coverage@10": diversity.coverage(lists_MK, len(news), shown_N),
        "gini@10": diversity.gini(diversity.exposure(lists_MK, len(news)), shown_N),
    }
    groups: dict[str, dict[str, Metric]] = {}
    for names, group in labels:
        for number, label in enumerate(names):
            chosen = np.flatnonzero(group == number)
            if len(chosen):
                groups[label] = _summary({key: values[chosen] for key, values in columns.items()}, seed)
    if recommender.is_simulated:
        name += f" ({SIMULATED_NOTE})"
    return Report(
        name=name,
        n=len(rows),
        failed=0,
        metrics=_summary(columns, seed)
        | {key: Metric(float(value), None, None, len(rows)) for key, value in whole.items()},
        groups=groups,
        latency=Latency.of([row["seconds"] for row in rows]),
        cpu_seconds=float(np.mean(cpu_seconds)),
        wall_seconds=time.perf_counter() - started,
        peak_rss_bytes=peak_rss_bytes(),
        seed=seed,
        started_at=started_at,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        machine=describe_machine(),
        versions=installed_versions(),
        rows=tuple(rows),
    )


def quick_evaluation() -> Report:
    """The bundled model on a portal of other readers and stories than its own; about a minute of one core.

    Graph and chains are made of the histories before the judged days; the network has seen nothing of this portal. Live
    clicks are counted by all alike.
    """
    import numpy as np
    from multiway_recsys.collaborative.ensemble import Members, Settings
    from multiway_recsys.glocim.statistics import ClickStatistics
    from multiway_recsys.serving.folder import Readers
    from multiway_recsys.simulator import PortalConfig, generated_texts, simulate

    recommender = load_pipeline(APP, ModelOptions(device="cpu"))
    portal = simulate(
        PortalConfig(num_users=_QUICK_READERS, seed=_QUICK_SEED), generated_texts(seed=_QUICK_SEED)
    )
    behaviors, shown = portal.splits["test"], list(portal.splits.values())
    recommender = recommender.over(portal.news, behaviors).counting(*shown)
    readers = Readers.of_behaviors(behaviors, with_clicks=False)
    members = Members.fit(readers, len(portal.news), Settings())
    behaviors = behaviors.take(np.arange(min(_QUICK_IMPRESSIONS, len(behaviors))))
    counted = ClickStatistics.build(shown, len(portal.news), published=portal.news.published)
    beside = members.scores(behaviors, counted)
    return evaluate_behaviors(
        recommender, behaviors, name=f"{APP.model}, a portal it has not seen", beside=beside
    )


def _ranked(
    recommender: Recommender, behaviors: Behaviors, chains: bool, on_progress: Progress | None
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Scores of all candidates, and of each impression its share of the wall and CPU seconds."""
    import numpy as np

    scores, seconds, cpu_seconds = [], np.zeros(len(behaviors)), np.zeros(len(behaviors))
    for start in range(0, len(behaviors), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(behaviors)))
        wall, cpu = time.perf_counter(), time.process_time()
        scores.append(recommender.rank(behaviors.take(rows), chains=chains))
        seconds[rows] = (time.perf_counter() - wall) / len(rows)
        cpu_seconds[rows] = (time.process_time() - cpu) / len(rows)
        if on_progress is not None:
            on_progress(start + len(rows), len(behaviors))
    return np.concatenate(scores) if scores else np.zeros(0, np.float32), seconds, cpu_seconds


def _groups(recommender: Recommender, behaviors: Behaviors) -> list[tuple[list[str], NDArray[np.int64]]]:
    """Slices that impressions fall into: their labels, and the number of each impression's (-1: none)."""
    from multiway_recsys.metrics import slices

    is_linked_N = recommender.is_linked_N
    found = [slices.by_history_length(behaviors), slices.by_cold_click(behaviors, is_linked_N)]
    last_seen = _last_seen(recommender, behaviors)
    if last_seen is not None:
        found.append(slices.by_dormancy(behaviors, last_seen))
    titles = {"history length": "history", "clicked news": "clicked news in the graph:", "dormancy": "away"}
    return [([f"{titles[one.name]} {label}" for label in one.labels], one.groups) for one in found]


def _last_seen(recommender: Recommender, behaviors: Behaviors) -> NDArray[np.int64] | None:
    """When the recommender's log saw each user last; None where it is not an earlier log."""
    import numpy as np

    readers = recommender.readers
    seen_of = dict(zip(readers.ids, readers.last_seen.tolist(), strict=True))
    never = int(np.iinfo(np.int64).min)
    seen = np.array([seen_of.get(user, never) or never for user in behaviors.user_ids], np.int64)
    known = seen[np.unique(behaviors.users)]
    known = known[known != never]
    if not len(known) or known.max() >= behaviors.times.min():
        return None
    return seen


def _clicks(recommender: Recommender) -> NDArray[np.int64]:
    """Clicks of each news in the readers' histories."""
    import numpy as np

    clicks_N = np.bincount(recommender.readers.histories.values, minlength=len(recommender.news))
    clicks_N[0] = 0
    return clicks_N


def _summary(columns: dict[str, NDArray[np.float64]], seed: int) -> dict[str, Metric]:
    """Mean and interval of each column over the impressions for which it is defined; others are left out."""
    import numpy as np

    metrics = {}
    for name, values in columns.items():
        known = values[~np.isnan(values)]
        if len(known):
            resamples = min(2000, max(200, _RESAMPLED // len(known)))
            metrics[name] = Metric(*mean_interval(known, seed=seed, resamples=resamples), n=len(known))
    return metrics


def _number(value: float) -> float | None:
    return None if value != value else float(value)
