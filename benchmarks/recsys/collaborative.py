"""Rankers that need no text on MSWeb: item-to-item weights, SASRec, their ensemble, and a library. Tested once.

    python -m benchmarks.recsys.collaborative --msweb FOLDER --seeds 3    # with implicit where it is installed

Parameters are chosen on dev by nDCG@5; the ensemble's weights are fitted on the latest tenth of train with the rest's
clicks. Test visitors are looked at once. `random_walks` is the untrained control of graph and chains. Two questions:

    as shown           order the page that was visited and 19 drawn by popularity: low weights of popular pages help
    whole catalogue    find the visited pages among all that the visitor has not seen, as a list must; `before` is what
                       `recommend --data` ranked by until now (RP3beta by its default parameters)

MSWeb has no times, so its live click rate counts visitors in the order of the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from multiway_recsys.collaborative.ensemble import ClickEnsemble, Settings
from multiway_recsys.collaborative.item_weights import (
    click_matrix,
    ease,
    history_matrix,
    history_scores,
    item_knn,
    rp3beta,
)
from multiway_recsys.data import ms_web
from multiway_recsys.data.tables import Behaviors
from multiway_recsys.metrics.ranking import evaluate_ranking
from multiway_recsys.serving.folder import Readers
from numpy.typing import NDArray

from benchmarks import harness

NEIGHBOURS = 300
TOP = 10
CATALOGUE_ROWS = 2500
METRICS = ("auc", "mrr", "ndcg5", "ndcg10")
LIBRARY: dict[str, list[dict[str, Any]]] = {
    "implicit BM25": [{"K": NEIGHBOURS, "K1": k, "B": b} for k in (0.6, 1.2) for b in (0.2, 0.8)],
    "implicit cosine": [{"K": NEIGHBOURS}],
    "implicit ALS": [
        {
            "factors": f,
            "regularization": r,
            "alpha": 5.0,
            "iterations": 15,
            "random_state": 0,
            "num_threads": 1,
        }
        for f in (32, 64)
        for r in (0.1, 5.0)
    ],
}


def library_model(
    name: str, parameters: dict[str, Any], clicks_RN: Any
) -> Callable[[Any], NDArray[np.floating]]:
    """Fitted by the library: a function from histories (M, N) to scores (M, N)."""
    from implicit.als import AlternatingLeastSquares
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender

    kind = {
        "implicit BM25": BM25Recommender,
        "implicit cosine": CosineRecommender,
        "implicit ALS": AlternatingLeastSquares,
    }
    model = kind[name](**parameters)
    model.fit(sp.csr_matrix(clicks_RN).astype(np.float32), show_progress=False)
    if name != "implicit ALS":
        return lambda histories: (histories @ model.similarity).toarray()

    def of(histories: Any) -> NDArray[np.floating]:
        users = model.recalculate_user(
            np.arange(histories.shape[0]), sp.csr_matrix(histories).astype(np.float32)
        )
        return np.asarray(users) @ np.asarray(model.item_factors).T

    return of


def as_shown(
    model: Callable[[Any], NDArray[np.floating]], shown: Behaviors, num_news: int
) -> NDArray[np.floating]:
    """Scores (C,) of the candidates."""
    histories = history_matrix(shown.histories, num_news)
    rows = np.repeat(np.arange(len(shown)), shown.candidates.lengths)
    return np.asarray(model(histories))[rows, shown.candidates.values]


def list_quality(
    scores_of: Callable[[int], NDArray[np.floating]], shown: Behaviors, rows: list[int]
) -> float:
    """nDCG@10 of the unseen catalogue for some impressions, whose clicks that are no repeats are looked for."""
    found = []
    for row in rows:
        history = shown.histories[row]
        first, end = shown.candidates.offsets[row : row + 2]
        assert shown.labels is not None
        wanted = np.setdiff1d(shown.candidates.values[first:end][shown.labels[first:end] == 1], history)
        scores = np.array(scores_of(row), np.float64)
        scores[history], scores[0] = -np.inf, -np.inf
        hits = np.isin(np.argsort(-scores, kind="stable")[:TOP], wanted)
        gains = 1 / np.log2(np.arange(TOP) + 2)
        found.append(gains[hits].sum() / gains[: len(wanted)].sum())
    return float(np.mean(found))


def has_new_click(shown: Behaviors, row: int) -> bool:
    """Whether there is a history, and a click behind it on something new."""
    first, end = shown.candidates.offsets[row : row + 2]
    assert shown.labels is not None
    clicked = shown.candidates.values[first:end][shown.labels[first:end] == 1]
    return bool(len(shown.histories[row]) and len(np.setdiff1d(clicked, shown.histories[row])))


def main() -> None:
    parser = harness.parser(__doc__, "recsys")
    parser.add_argument("--msweb", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split", choices=("dev", "test"), default="test", help="dev: to try this program")
    options = parser.parse_args()
    torch.set_num_threads(1)
    news, splits = ms_web.read_splits(options.msweb)
    num_news = len(news)
    train, dev, test = splits["train"], splits["dev"], splits[options.split]
    clicks = click_matrix(Readers.of_behaviors(train).histories, num_news)

    def means(values: NDArray[np.floating], shown: Behaviors) -> dict[str, float]:
        return evaluate_ranking(np.asarray(values, np.float32), shown).means()

    def best(grid: list[Any], score: Callable[[Any], NDArray[np.floating]]) -> Any:
        return grid[int(np.argmax([means(score(one), dev)["ndcg5"] for one in grid]))]

    def of_weights(weights: Any) -> NDArray[np.floating]:
        return history_scores(weights, dev.histories, dev.candidates)

    shrink = best([0, 10, 100], lambda v: of_weights(item_knn(clicks, shrink=v, neighbours=NEIGHBOURS)))
    alpha, beta = best(
        [(a, b) for a in (0.6, 1, 1.4) for b in (0.4, 0.6, 0.7, 0.8, 1.0)],
        lambda v: of_weights(rp3beta(clicks, alpha=v[0], beta=v[1], neighbours=NEIGHBOURS)),
    )
    l2 = best([10, 50, 200, 1000], lambda v: of_weights(ease(clicks, l2=v)))
    chosen = Settings(shrink=shrink, alpha=alpha, beta=beta, l2=l2)
    rows: dict[str, list[dict[str, float]]] = {}
    cpu: dict[str, list[float]] = {}
    judged = [row for row in range(len(test)) if has_new_click(test, row)]
    judged = sorted(np.random.default_rng(0).permutation(judged)[:CATALOGUE_ROWS].tolist())

    def add(
        name: str, values: NDArray[np.floating], scores_of: Callable[[int], Any] | None, seconds: float
    ) -> None:
        found = means(values, test)
        if scores_of is not None:
            found["list"] = list_quality(scores_of, test, judged)
        rows.setdefault(name, []).append(found)
        cpu.setdefault(name, []).append(seconds)

    histories = history_matrix(test.histories, num_news)

    def counting(made: ClickEnsemble) -> ClickEnsemble:
        return made.plus(test) if test is dev else made.plus(dev).plus(test)

    def of_matrix(weights: Any) -> Callable[[int], NDArray[np.floating]]:
        return lambda row: (histories[[row]] @ weights).toarray()[0]

    for seed in range(options.seeds):
        for name, epochs in (("ensemble without SASRec", 0), ("ensemble", chosen.sasrec_epochs)):
            if seed and not epochs:
                continue
            started = time.process_time()
            made = ClickEnsemble.fit(train, num_news, replace(chosen, seed=seed, sasrec_epochs=epochs))
            seconds = time.process_time() - started

            def whole(row: int, made: ClickEnsemble = made) -> NDArray[np.floating]:
                return np.sum(list(made.parts(test.histories[row], int(test.times[row])).values()), axis=0)

            add(name, made.rank(test), whole, seconds)
            add(f"{name}, live", counting(made).rank(test), None, seconds)
        members = made.members.scores(test, made.counted)
        add("sasrec", members["sasrec"], None, float("nan"))
    for name in ("item_knn", "rp3beta", "ease", "random_walks"):
        add(name, members[name], of_matrix(made.members.weights[name]), float("nan"))
    before = rp3beta(clicks)
    add("before", history_scores(before, test.histories, test.candidates), of_matrix(before), float("nan"))
    add("popularity", members["popularity"], lambda row: made.members.clicks_N, 0.0)
    live = made.members.scores(test, counting(made).counted)["popularity-live"]
    add("popularity-live", live, None, 0.0)
    library: dict[str, Any] = {}
    try:
        import implicit  # noqa: F401
    except ImportError:
        print("implicit is not installed: no rows of it")
    else:
        for name, grid in LIBRARY.items():
            library[name] = best(
                grid, lambda v, name=name: as_shown(library_model(name, v, clicks), dev, num_news)
            )
            started = time.process_time()
            model = library_model(name, library[name], clicks)
            seconds = time.process_time() - started
            dense = model(histories)
            add(name, as_shown(model, test, num_news), lambda row, dense=dense: dense[row], seconds)
    table = []
    for name, runs in rows.items():
        cells = [name]
        for metric in (*METRICS, "list"):
            values = [run[metric] for run in runs if metric in run]
            cells.append(
                "" if not values else harness.spread(values, 4) if len(values) > 1 else f"{values[0]:.4f}"
            )
        seconds = float(np.mean(cpu[name]))
        table.append([*cells, "" if np.isnan(seconds) else f"{seconds:.1f}"])
    titles = ["model", "AUC", "MRR", "nDCG@5", "nDCG@10", "list nDCG@10", "CPU s of a fit"]
    report = harness.provenance("news-collaborative", 2)
    page = "\n".join(
        [
            f"# News rankers without text: MSWeb, {options.split} visitors",
            "",
            f"`{harness.command()}`; chosen on dev: {chosen}; {library}.",
            f"{len(test)} impressions as shown, {len(judged)} lists over {num_news - 1} pages.",
            "",
            harness.table(titles, table),
        ]
    )
    report |= {"chosen": vars(chosen), "library": library, "rows": rows, "cpu_seconds": cpu}
    harness.save(options.output, "news-collaborative", report, page)


if __name__ == "__main__":
    main()
