"""Rankers that need no text on MSWeb: item-to-item weights, SASRec and their blend. Tuned on dev, tested once.

    python -m benchmarks.recsys.collaborative --msweb FOLDER --seeds 3

Weights are computed from the train visitors' clicks. Parameters are chosen on dev by nDCG@5; the blend's weights are
fitted on the latest tenth of train with the rest's clicks. Test visitors are looked at once. `random_walks` is the
untrained control of graph and chains. The negatives of MSWeb are drawn by popularity, so low weights of popular pages
are favoured here, and would not be in a list over the whole catalogue.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from multiway_recsys.collaborative.blend import fit_blend
from multiway_recsys.collaborative.item_weights import FITTED, click_matrix, history_scores, random_walks
from multiway_recsys.collaborative.sasrec import fit_sasrec, sasrec_scores
from multiway_recsys.data import ms_web
from multiway_recsys.data.tables import Behaviors
from multiway_recsys.graph.click_graph import ClickGraph
from multiway_recsys.metrics.ranking import evaluate_ranking
from multiway_recsys.serving.folder import Readers
from numpy.typing import NDArray

from benchmarks import harness

GRIDS: dict[str, list[dict[str, float]]] = {
    "item_knn": [{"shrink": s, "neighbours": n} for s in (0, 10, 100) for n in (20, 300)],
    "rp3beta": [
        {"alpha": a, "beta": b, "neighbours": 300} for a in (0.6, 1, 1.4) for b in (0.4, 0.6, 0.7, 0.8)
    ],
    "ease": [{"l2": value} for value in (10, 50, 200, 1000)],
}
EPOCHS = 6


def fitted(log: Behaviors, num_news: int, chosen: dict[str, Any], seed: int) -> dict[str, Any]:
    """Functions from impressions to scores, by name, and the CPU seconds of making them."""
    readers = Readers.of_behaviors(log)
    clicks = click_matrix(readers.histories, num_news)
    found: dict[str, Any] = {}
    started = time.process_time()
    for name, parameters in chosen.items():
        found[name] = FITTED[name](clicks, **parameters)
    graph = ClickGraph.build(readers.histories, np.arange(len(readers.ids)), num_news)
    edges = sp.csr_array(
        (graph.weights.astype(float), graph.indices, graph.indptr), shape=(num_news, num_news)
    )
    found["random_walks"] = random_walks(edges, neighbours=300)
    found["popularity"] = np.asarray(clicks.sum(axis=0)).ravel()
    found["cpu weights"] = time.process_time() - started
    started = time.process_time()
    found["sasrec"] = fit_sasrec(readers.histories, num_news, epochs=EPOCHS, seed=seed)
    found["cpu sasrec"] = time.process_time() - started
    return found


def scores(models: dict[str, Any], shown: Behaviors) -> dict[str, NDArray[np.floating]]:
    """By model, one score a candidate."""
    made: dict[str, NDArray[np.floating]] = {}
    for name in (*GRIDS, "random_walks"):
        made[name] = history_scores(models[name], shown.histories, shown.candidates)
    made["popularity"] = np.log1p(models["popularity"])[shown.candidates.values]
    made["sasrec"] = sasrec_scores(models["sasrec"], shown.histories, shown.candidates)
    return made


def columns(made: dict[str, NDArray[np.floating]], *, with_sasrec: bool) -> NDArray[np.float64]:
    """What is blended: scores and, of sparse ones, their logarithms (C, F)."""
    parts = [made["ease"], made["popularity"]]
    for name in ("item_knn", "rp3beta", "random_walks"):
        parts += [made[name], np.log(made[name] + 1e-5)]
    return np.stack([*parts, made["sasrec"]] if with_sasrec else parts, axis=1)


def main() -> None:
    parser = harness.parser(__doc__, "recsys")
    parser.add_argument("--msweb", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    news, splits = ms_web.read_splits(options.msweb)
    train, dev, test = (splits[name] for name in ("train", "dev", "test"))
    clicks = click_matrix(Readers.of_behaviors(train).histories, len(news))

    def means(values: NDArray[np.floating], shown: Behaviors) -> dict[str, float]:
        return evaluate_ranking(values.astype(np.float32), shown).means()

    chosen = {}
    for name, grid in GRIDS.items():
        weights = [FITTED[name](clicks, **parameters) for parameters in grid]
        on_dev = [means(history_scores(one, dev.histories, dev.candidates), dev)["ndcg5"] for one in weights]
        chosen[name] = grid[int(np.argmax(on_dev))]
    order = np.argsort(train.times, kind="stable")
    cut = len(order) * 9 // 10
    earlier, latest = train.take(order[:cut]), train.take(order[cut:])
    rows: dict[str, list[dict[str, float]]] = {}
    cpu: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        before = fitted(earlier, len(news), chosen, seed)
        on_latest = scores(before, latest)
        models = fitted(train, len(news), chosen, seed)
        made = scores(models, test)
        for name, with_sasrec in (("blend of item weights", False), ("blend with sasrec", True)):
            weights_F = fit_blend(columns(on_latest, with_sasrec=with_sasrec), latest)
            made[name] = columns(made, with_sasrec=with_sasrec) @ weights_F
        for name, values in made.items():
            rows.setdefault(name, []).append(means(values, test))
        for name in ("cpu weights", "cpu sasrec"):
            cpu.setdefault(name, []).append(models[name])
    lines = [
        "# News rankers without text: MSWeb, test visitors",
        "",
        f"`python -m benchmarks.recsys.collaborative --msweb FOLDER --seeds {options.seeds}`; chosen on dev: {chosen}.",
        f"CPU seconds of a fit: all item weights {np.mean(cpu['cpu weights']):.1f}, "
        f"SASRec {np.mean(cpu['cpu sasrec']):.1f}.",
        "",
        "| model | AUC | MRR | nDCG@5 | nDCG@10 |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, runs in rows.items():
        cells = []
        for metric in ("auc", "mrr", "ndcg5", "ndcg10"):
            values = [run[metric] for run in runs]
            spread = np.std(values, ddof=1) if len(values) > 1 else 0
            cells.append(f"{np.mean(values):.4f}" + (f" ± {spread:.4f}" if spread > 0 else ""))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "news-collaborative.md").write_text("\n".join(lines) + "\n")
    (options.output / "news-collaborative.json").write_text(
        json.dumps({"chosen": chosen, "test": rows, "cpu_seconds": cpu}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
