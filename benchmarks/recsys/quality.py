"""Who ranks news best, and is it the long chains? Models, ablations and controls on the same data, budget and vectors.

    python -m benchmarks.recsys.quality --minutes 120
    python -m benchmarks.recsys.quality --worlds portal --models glory glocim shuffled-chains --seeds 5 --report

A cell is one model trained on one world with one seed. Each finished cell is a file in `--cells`, so a run can be
stopped and taken up at any time; a report of what is there goes to `--output` after each group of cells. The worlds:

    portal      our simulator with our own texts: stories drift, readers come back after days or weeks, communities and
                stories of the test weeks did not exist in the training weeks
    headlines   the same with real headlines (--headlines FILE), clustered into topics
    static      the simulator without drift and births: chains have nothing to add, so nothing may be gained
    msweb, movielens   real behaviour, made into impressions by the package's converters (--msweb, --movielens: folders)

For every model alike, texts are frozen vectors, and graph and chains are made anew for each period: in the simulated
worlds of the histories as they were when the period began, for msweb and movielens of all earlier impressions. All
that a model knows of the test days is that graph; only `popularity-live` and the models `+popularity` see the clicks of
the test itself (those before the impression). Controls: `random-chains` (as many hops, random news of the graph),
`shuffled-chains` (true chains of another news), both trained and judged so; and of each trained model the swapped
reader (the history of another reader), and of GLoCIM true chains in training but shuffled ones in the test.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from multiway_core.files import atomic_write, write_text
from multiway_recsys.data.tables import Behaviors, News, Ragged
from multiway_recsys.glocim.statistics import ClickStatistics
from multiway_recsys.metrics.ranking import METRICS, RankingScores, evaluate_ranking
from numpy.typing import NDArray

SIMULATED = ("portal", "headlines", "static")
REAL = ("msweb", "movielens")
DORMANCY = ((0, 3), (3, 6), (6, 9), (9, 99))  # days
TEST_IMPRESSIONS = 6000
RUN = {"batch_size": 512, "learning_rate": 1e-3, "evaluations": 9, "patience": 3}
SIZES: dict[str, Any] = {"num_heads": 4, "head_dim": 16, "attention_hidden_size": 64}
PORTAL: dict[str, Any] = {"num_users": 3000, "communities": 10}
# epochs; impressions that are trained on, at random (the graph is made of all); share of turned batches (`rotation`).
# Chosen on the judging periods, for all models of a world alike: turning keeps a model from learning news by heart,
# which helps where every season has stories of its own, and costs where the same few hundred pages stay for ever.
BUDGETS: dict[str, tuple[float, int, float]] = {
    **dict.fromkeys(SIMULATED, (4.0, 9_000, 0.5)),
    **dict.fromkeys(REAL, (5.0, 30_000, 0.0)),
}
ARTICLES = 8000
CHAIN_LENGTH = 16

# name: preset, changes of its config, what is done to the chains
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "popularity": ("", {}, ""),
    "popularity-live": ("", {}, ""),
    "most-recent": ("", {}, ""),
    "nrms": ("nrms-small", {}, ""),
    "naml": ("naml-small", {}, ""),
    "lstur": ("lstur-small", {}, ""),
    "glory": ("glory-small", {}, ""),
    "glocim": ("glocim-small", {"chain_length": CHAIN_LENGTH}, ""),
    "glory+popularity": ("glory-small", {"popularity": True}, ""),
    "glocim+popularity": ("glocim-small", {"chain_length": CHAIN_LENGTH, "popularity": True}, ""),
    "glocim-8-hops": ("glocim-small", {"chain_length": 8}, ""),
    "random-chains": ("glocim-small", {"chain_length": CHAIN_LENGTH}, "random"),
    "shuffled-chains": ("glocim-small", {"chain_length": CHAIN_LENGTH}, "shuffled"),
    "no-neighbour": ("glocim-small", {"neighbour": "none", "chain_length": CHAIN_LENGTH}, ""),
    "with-category": ("glocim-small", {"category": "enhanced", "chain_length": CHAIN_LENGTH}, ""),
    "no-gate": ("glocim-small", {"gate": "none", "chain_length": CHAIN_LENGTH}, ""),
}
# The order in which cells are worth having.
BASELINES = ("popularity", "popularity-live", "most-recent")
MAIN = (*BASELINES, "nrms", "glory", "glocim", "shuffled-chains", "random-chains")
COMPARED = (
    ("glocim", "glory"), ("glocim+popularity", "glory+popularity"), ("glocim+popularity", "popularity-live"),
    ("glocim", "random-chains"), ("glocim", "shuffled-chains"),
    ("glocim", "no-neighbour"), ("glocim", "with-category"), ("glocim", "no-gate"), ("glocim", "nrms"),
    ("glory", "nrms"), ("no-neighbour", "nrms"), ("nrms", "popularity"), ("glocim", "popularity"),
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """Data of all cells of one world and seed. ``dormancy`` in days, of the test impressions."""

    name: str
    news: News
    train: Behaviors
    test: Behaviors
    vectors: NDArray[np.float32]
    dormancy: NDArray[np.float32]
    all_shown: list[Behaviors]
    test_graph: Behaviors  # what the graph of the test days is made of
    read: NDArray[np.float64]  # (N,) readers of each news before the test days


@cache
def own_bank() -> Any:
    from multiway_recsys.simulator import generated_texts

    return generated_texts(ARTICLES, seed=0)


@cache
def headlines_bank(path: Path, vectors: Path | None) -> Any:
    from multiway_recsys.simulator import real_headlines

    given = None if vectors is None else np.load(vectors, allow_pickle=False).astype(np.float32)
    return real_headlines(path, num_topics=120, vectors=given)


def load_world(name: str, seed: int, options: argparse.Namespace) -> World:
    if name in REAL:
        return _real_world(name, options)
    from multiway_recsys.simulator import PortalConfig, simulate

    config = PortalConfig(**PORTAL, seed=seed)
    if name == "static":
        config = replace(config, drift=0.0, births=0.0)
    bank = headlines_bank(options.headlines, options.vectors) if name == "headlines" else own_bank()
    portal = simulate(config, bank)
    test = portal.splits["test"]
    rows = np.sort(np.random.default_rng(seed).permutation(len(test))[:TEST_IMPRESSIONS])
    vectors = _narrow(bank.vectors)
    return World(
        name=name,
        news=portal.news,
        train=portal.splits["train"],
        test=test.take(rows),
        vectors=np.concatenate([np.zeros((1, vectors.shape[1]), np.float32), vectors]),
        dormancy=portal.truth.dormancy["test"][rows],
        all_shown=list(portal.splits.values()),
        test_graph=test,
        read=_readers_of(test, len(portal.news)),
    )


def _real_world(name: str, options: argparse.Namespace) -> World:
    from multiway_recsys.data import movielens, ms_web
    from multiway_recsys.text.tfidf import TfidfEncoder, news_text

    news, splits = (ms_web if name == "msweb" else movielens).read_splits(getattr(options, name))
    texts = [
        news_text(title, " ".join((abstract, news.category_names[category])))
        for title, abstract, category in zip(news.titles, news.abstracts, news.categories, strict=True)
    ]
    vectors = TfidfEncoder.fit(texts[1:], width=64)(texts)
    vectors[0] = 0
    test = splits["test"]
    rows = np.sort(np.random.default_rng(0).permutation(len(test))[:TEST_IMPRESSIONS])
    return World(
        name=name,
        news=news,
        train=splits["train"],
        test=test.take(rows),
        vectors=vectors,
        dormancy=np.full(len(rows), np.nan, np.float32),
        all_shown=list(splits.values()),
        test_graph=splits["train"],
        read=_readers_of(splits["train"], len(news)),
    )


def _readers_of(log: Behaviors, num_news: int) -> NDArray[np.float64]:
    """Distinct readers of each news in the histories."""
    rows = np.repeat(log.users.astype(np.int64), log.histories.lengths)
    keys = np.unique(rows * num_news + log.histories.values)
    return np.bincount(keys % num_news, minlength=num_news).astype(np.float64)


def _narrow(vectors: NDArray[np.float32], width: int = 64) -> NDArray[np.float32]:
    """At most ``width`` principal directions, unit length."""
    if vectors.shape[1] <= width:
        return vectors
    centred = vectors - vectors.mean(0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    reduced = centred @ directions[:, -width:]
    return (reduced / np.linalg.norm(reduced, axis=1, keepdims=True)).astype(np.float32)


def baseline_scores(name: str, world: World) -> NDArray[np.float32]:
    """Readers before the test days; click rate of the last day before the impression; or age."""
    if name == "popularity":
        return world.read[world.test.candidates.values].astype(np.float32)
    statistics = ClickStatistics.build(all_shown(world), len(world.news), published=world.news.published)
    moments = np.repeat(world.test.times, world.test.candidates.lengths)
    found = statistics.at(world.test.candidates.values, moments)
    if name == "most-recent":
        return np.where(found[:, 4] > 0, -found[:, 3], -99.0)
    clicks, shows = np.expm1(found[:, 0]), np.expm1(found[:, 1])
    return ((clicks + 1) / (shows + 10)).astype(np.float32)


def all_shown(world: World) -> Behaviors:
    """What was shown in all splits, without histories: what a portal counts clicks of. At a moment only what lies
    before it is looked at."""
    shown = world.all_shown
    return Behaviors(
        impression_ids=tuple(name for part in shown for name in part.impression_ids),
        users=np.concatenate([part.users for part in shown]),
        user_ids=shown[0].user_ids,
        times=np.concatenate([part.times for part in shown]),
        histories=Ragged.from_rows([[]] * sum(len(part) for part in shown)),
        candidates=Ragged(
            np.concatenate([part.candidates.values for part in shown]),
            np.concatenate([[0], np.cumsum(np.concatenate([part.candidates.lengths for part in shown]))]),
        ),
        labels=np.concatenate([part.labels for part in shown if part.labels is not None]),
    )


def run_cell(name: str, world: World, seed: int, work: Path) -> dict[str, RankingScores | Any]:
    """Scores of the test impressions, by condition, and what the training took."""
    if name in BASELINES:
        return {"test": evaluate_ranking(baseline_scores(name, world), world.test)}
    import torch
    from multiway_core import training
    from multiway_core.training import TrainJob, TrainOptions
    from multiway_recsys.feature_extraction import ClickStructure, click_structure, with_clicks
    from multiway_recsys.glocim.config import PRESETS
    from multiway_recsys.glocim.features import Features
    from multiway_recsys.glocim.model import Glocim
    from multiway_recsys.glocim.scoring import score_behaviors
    from multiway_recsys.graph import random_chains, shuffled_chains
    from multiway_recsys.periods import LogPeriod, Period, held_out, log_periods
    from multiway_recsys.recipe import Recipe

    torch.set_num_threads(1)
    preset, changes, treatment = MODELS[name]
    epochs, most, rotation = BUDGETS[world.name]
    config = replace(PRESETS[preset], **SIZES, rotation=rotation, **changes)
    plain = Features.of_news(world.news, text_vectors=world.vectors)
    config = config.fitted(plain, num_users=len(world.test.user_ids) + 1)

    counted = all_shown(world) if config.popularity else None

    def clicks_of(log: Behaviors, treatment: str) -> Features:
        structure = click_structure(log, plain, world.news, config)
        if treatment == "random":
            structure = ClickStructure(
                structure.graph, random_chains(structure.chains, structure.graph, seed=seed)
            )
        if treatment == "shuffled":
            structure = ClickStructure(structure.graph, shuffled_chains(structure.chains, seed=seed))
        return with_clicks(plain, structure, world.news, config, statistics_of=counted)

    def period(part: LogPeriod, share: float) -> Period:
        shown = part.behaviors
        rows = np.sort(np.random.default_rng(seed).permutation(len(shown))[: round(share * len(shown))])
        return Period(clicks_of(part.past, treatment), _from_one(shown.take(rows)))

    taught, judging = held_out(log_periods(world.train))
    share = min(1.0, most / sum(len(part.behaviors) for part in taught))
    torch.manual_seed(seed)
    model = Glocim(config)

    class Cell(Recipe):
        def build(self, options: TrainOptions) -> TrainJob:
            periods = [period(part, share) for part in taught], [period(part, 1.0) for part in judging]
            return self.job(model, *periods, options, lambda trained, folder: None)

    cpu = time.process_time()
    report = training.run(Cell(config, epochs=epochs, **RUN), TrainOptions(work, seed=seed))  # type: ignore[arg-type]
    cpu = time.process_time() - cpu
    scores = {step: row["AUC"] for step, row in json.loads((work / "held_out.json").read_text()).items()}
    later, test = clicks_of(world.test_graph, treatment), _from_one(world.test)
    found: dict[str, Any] = {
        "test": evaluate_ranking(score_behaviors(model, later, test), test),
        "swapped reader": evaluate_ranking(score_behaviors(model, later, swapped(test, seed)), test),
    }
    if name == "glocim":
        found["chains shuffled in the test"] = evaluate_ranking(
            score_behaviors(model, clicks_of(world.test_graph, "shuffled"), test), test
        )
    found["training"] = {
        "cpu_seconds": round(cpu, 1),
        "steps": report.steps,
        "held_out_auc": {step: round(value, 5) for step, value in scores.items()},
        "parameters": model.parameter_count(),
    }
    return found


def _from_one(behaviors: Behaviors) -> Behaviors:
    return replace(behaviors, users=behaviors.users + 1)


def swapped(behaviors: Behaviors, seed: int) -> Behaviors:
    """Each impression with the history of an impression of another reader."""
    rng = np.random.default_rng([seed, 7])
    other = rng.permutation(len(behaviors))
    same = behaviors.users[other] == behaviors.users
    while same.any():
        other[same] = rng.integers(0, len(behaviors), int(same.sum()))
        same = behaviors.users[other] == behaviors.users
    return replace(behaviors, histories=behaviors.histories.take(other), users=behaviors.users[other])


def save_cell(path: Path, found: dict[str, Any], world: World) -> None:
    """Means as JSON; metrics of every impression beside it, for paired comparisons."""
    arrays = {"dormancy": world.dormancy}
    summary: dict[str, Any] = {"impressions": len(world.test), "training": found.pop("training", None)}
    for condition, scores in found.items():
        summary[condition] = scores.means()
        arrays |= {f"{condition}.{metric}": getattr(scores, metric).astype(np.float32) for metric in METRICS}
    with atomic_write(path.with_suffix(".npz")) as file:
        np.savez_compressed(file, **arrays)
    write_text(path, json.dumps(summary, indent=1) + "\n")


def report(cells: Path, output: Path) -> None:
    """All cells as one JSON and one table in Markdown."""
    found: dict[str, dict[str, dict[int, Any]]] = {}
    for path in sorted(cells.glob("*.json")):
        world, model, seed = path.stem.split("__")
        found.setdefault(world, {}).setdefault(model, {})[int(seed)] = json.loads(path.read_text())
    result = {world: _world_result(cells, world, models) for world, models in found.items()}
    settings = {
        "sizes": SIZES,
        "run": RUN,
        "epochs, impressions, rotation": BUDGETS,
        "portal": PORTAL,
        "articles": ARTICLES,
        "chain_length": CHAIN_LENGTH,
    }
    write_text(
        output / "news-quality.json", json.dumps({"settings": settings, "worlds": result}, indent=1) + "\n"
    )
    write_text(output / "news-quality.md", _markdown(result))


def _world_result(cells: Path, world: str, models: dict[str, dict[int, Any]]) -> dict[str, Any]:
    arrays = {
        (model, seed): np.load(cells / f"{world}__{model}__{seed}.npz", allow_pickle=False)
        for model, seeds in models.items()
        for seed in seeds
    }
    table: dict[str, Any] = {}
    for model, seeds in models.items():
        row: dict[str, Any] = {"seeds": sorted(seeds)}
        for condition in ("test", "swapped reader", "chains shuffled in the test"):
            runs = [seeds[seed][condition] for seed in sorted(seeds) if condition in seeds[seed]]
            if runs:
                row[condition] = {
                    metric: [
                        float(np.mean(values)),
                        float(np.std(values, ddof=1)) if len(values) > 1 else None,
                    ]
                    for metric in METRICS
                    for values in [[run[metric] for run in runs]]
                }
        row["by dormancy"] = [
            _mean(
                [
                    arrays[model, seed]["test.auc"][_between(arrays[model, seed]["dormancy"], span)]
                    for seed in seeds
                ]
            )
            for span in DORMANCY
        ]
        training = [seeds[seed]["training"] for seed in seeds if seeds[seed]["training"]]
        if training:
            row["cpu_seconds"] = float(np.mean([run["cpu_seconds"] for run in training]))
            row["parameters"] = training[0]["parameters"]
        table[model] = row
    compared = {}
    for one, other in COMPARED:
        seeds = sorted(set(models.get(one, {})) & set(models.get(other, {})))
        if seeds:
            compared[f"{one} - {other}"] = _difference(
                [arrays[one, seed] for seed in seeds], [arrays[other, seed] for seed in seeds]
            )
    return {"models": table, "differences": compared}


def _between(dormancy: NDArray[np.float32], span: tuple[int, int]) -> NDArray[np.bool_]:
    return (dormancy >= span[0]) & (dormancy < span[1])


def _mean(parts: list[NDArray[np.float32]]) -> float | None:
    values = np.concatenate(parts)
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _difference(ones: list[Any], others: list[Any]) -> dict[str, Any]:
    """Paired over impressions: mean AUC difference over seeds, its spread, and a 95 % bootstrap of the impressions."""
    rng = np.random.default_rng(0)
    gaps = [one["test.auc"] - other["test.auc"] for one, other in zip(ones, others, strict=True)]
    gaps = [gap[np.isfinite(gap)] for gap in gaps]
    seeds = [float(gap.mean()) for gap in gaps]
    drawn = [np.mean([gap[rng.integers(0, len(gap), len(gap))].mean() for gap in gaps]) for _ in range(1000)]
    return {
        "auc": float(np.mean(seeds)),
        "interval": [float(value) for value in np.quantile(drawn, [0.025, 0.975])],
        "seeds": seeds,
        "by dormancy": [
            _mean([(one["test.auc"] - other["test.auc"])[_between(one["dormancy"], span)]
                   for one, other in zip(ones, others, strict=True)])
            for span in DORMANCY
        ],
    }  # fmt: skip


def _markdown(result: dict[str, Any]) -> str:
    spans = [f"{low}-{high - 1} d" if high < 99 else f"{low}+ d" for low, high in DORMANCY]
    lines = [
        "# News recommendation: quality",
        "",
        "Mean over seeds ± standard deviation over seeds. `portal`, `headlines` and `static` are simulated worlds: the",
        "readers are not real. A seed draws the world (where simulated) and the network anew.",
        "",
    ]
    for world, part in result.items():
        lines += [
            f"## {world}",
            "",
            "| model | seeds | AUC | MRR | nDCG@5 | nDCG@10 | swapped reader AUC | "
            + " | ".join(spans)
            + " | CPU s |",
            "|---|---|---|---|---|---|---|" + "---|" * (len(spans) + 1),
        ]
        for model in MODELS:
            row = part["models"].get(model)
            if row is None:
                continue
            cells = [_spread(row["test"][metric]) for metric in METRICS]
            other = row.get("swapped reader")
            cells.append(_spread(other["auc"]) if other else "")
            cells += ["" if value is None else f"{value:.4f}" for value in row["by dormancy"]]
            cells.append(f"{row['cpu_seconds']:.0f}" if "cpu_seconds" in row else "")
            lines.append(f"| {model} | {len(row['seeds'])} | " + " | ".join(cells) + " |")
        glocim = part["models"].get("glocim", {}).get("chains shuffled in the test")
        if glocim:
            lines += ["", f"glocim with the chains shuffled in the test only: AUC {_spread(glocim['auc'])}"]
        lines += [
            "",
            "| AUC difference | mean | 95 % bootstrap | each seed | " + " | ".join(spans) + " |",
            "|---|---|---|---|" + "---|" * len(spans),
        ]
        for name, gap in part["differences"].items():
            by_span = ["" if value is None else f"{value:+.4f}" for value in gap["by dormancy"]]
            lines.append(
                f"| {name} | {gap['auc']:+.4f} | {gap['interval'][0]:+.4f} to {gap['interval'][1]:+.4f} | "
                + " ".join(f"{value:+.4f}" for value in gap["seeds"]) + " | " + " | ".join(by_span) + " |"
            )  # fmt: skip
        lines.append("")
    return "\n".join(lines)


def _spread(value: list[float | None]) -> str:
    mean, spread = value
    return f"{mean:.4f}" + ("" if spread is None else f" ± {spread:.4f}")


def main() -> None:
    parser = harness.parser(__doc__, "recsys")
    parser.add_argument("--worlds", nargs="+", default=["portal"], choices=[*SIMULATED, *REAL])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=1e9, help="no cell is begun after these")
    parser.add_argument(
        "--headlines", type=Path, help="JSON lines with headline, short_description, category"
    )
    parser.add_argument("--vectors", type=Path, help="npy file with a row a headline, of a sentence encoder")
    parser.add_argument("--msweb", type=Path, help="folder with anonymous-msweb.data and .test")
    parser.add_argument("--movielens", type=Path, help="folder with u.data and u.item, or RecBole's ml-100k")
    parser.add_argument("--cells", type=Path, default=Path("build/news-quality"))
    parser.add_argument("--report", action="store_true", help="only write the report of the cells there are")
    options = parser.parse_args()
    started = time.monotonic()
    for world in options.worlds:
        if world in ("headlines", *REAL) and getattr(options, world) is None:
            parser.error(f"the world {world} needs --{world}")
    models = sorted(options.models, key=lambda name: (name not in MAIN, list(MODELS).index(name)))
    for seed in range(options.seeds):
        for name in options.worlds:
            world = None
            for model in models:
                path = options.cells / f"{name}__{model}__{seed}.json"
                if path.is_file() or options.report or time.monotonic() - started > 60 * options.minutes:
                    continue
                world = world or load_world(name, seed, options)
                work = options.cells / "work" / path.stem
                found = run_cell(model, world, seed, work)
                auc = found["test"].means()["auc"]
                save_cell(path, found, world)
                shutil.rmtree(work, ignore_errors=True)
                print(f"{time.strftime('%H:%M:%S')} {path.stem} AUC {auc:.4f}", file=sys.stderr, flush=True)
            if world is not None:
                report(options.cells, options.output)
    report(options.cells, options.output)


if __name__ == "__main__":
    main()
