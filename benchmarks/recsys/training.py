"""Training of news recommenders on a CPU: ours and the authors' code, impressions a second at the same sizes.

    python -m benchmarks.recsys.training [--glory DIR] [--glocim DIR] [--batch-size 32] [--steps 3] [--output DIR]

``--glory`` and ``--glocim`` name checkouts of the authors' repositories (tinyrolls/GLORY, EdwinWang37/GLoCIM), which
are not part of this one; a side without its folder is left out. GLoCIM's code does not parse as it is published: it is
copied to a scratch folder, where what stops Python from reading the model is mended.

A generated log of MIND's shape (Zipf popularity, histories of 18 clicks in the mean, titles of 30 words, 5 entities) is
given to both. A step is what training does: making the batch (theirs: their data set class reading lines; ours: the
batch function), forward, backward, Adam. 400 numbers a news, 4 negatives, dropout on, float32, one thread.
``same graph`` computes what theirs does (a subgraph a reader); ``default`` is our preset. CPU seconds, since other work
may share the machine; sides take turns, each in a process of its own. About 10 minutes on a free core.

The small presets (64 wide, given text vectors) are measured as well, on a log of 10,000 news with batches of 1,024.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch

NUM_WORDS, NUM_ENTITIES = 5000, 1000
NO_USER_LEVEL = "glocim-small, chains at news level only"
SMALL = ("nrms-small", "naml-small", "lstur-small", "glory-small", "glocim-small", NO_USER_LEVEL)
SIDES = {
    "glory": ("GLORY, authors' code", "glory, same graph", "glory, union graph"),
    "glocim": ("GLoCIM, authors' code", "glocim-released, same graph", "glocim, default"),
}


def generated_log(
    num_news: int, num_impressions: int, *, mean_history: float, seed: int = 0
) -> tuple[Any, Any]:
    """Features and labelled impressions with MIND's proportions, all numbers random."""
    from multiway_recsys.data.tables import Behaviors, Ragged
    from multiway_recsys.glocim.features import Features

    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, num_news) ** 0.8
    chance /= chance.sum()

    def popular(count: int) -> np.ndarray:
        return 1 + rng.choice(num_news - 1, count, p=chance)

    lengths = np.clip(rng.geometric(1 / mean_history, num_impressions), 1, 200)
    candidates = [1 + rng.choice(num_news - 1, 20, replace=False) for _ in range(num_impressions)]
    labels = np.zeros((num_impressions, 20), np.int8)
    labels[:, 0] = 1
    behaviors = Behaviors(
        impression_ids=tuple(str(row) for row in range(num_impressions)),
        users=np.zeros(num_impressions, np.int32),
        user_ids=("U",),
        times=1_573_000_000 + np.arange(num_impressions),
        histories=Ragged.from_rows([popular(length) for length in lengths]),
        candidates=Ragged.from_rows(candidates),
        labels=labels.ravel(),
    )
    edges = np.unique(np.stack([popular(num_news * 6), popular(num_news * 6)], 1), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]]
    indptr = np.zeros(num_news + 1, np.int64)
    indptr[1:] = np.cumsum(np.bincount(edges[:, 0], minlength=num_news))
    indices = edges[:, 1].astype(np.int32)
    chains = np.zeros((num_news, 1, 10), np.int32)
    with_edges = np.flatnonzero(np.diff(indptr))
    chains[with_edges, 0, :8] = indices[indptr[with_edges]][:, None]
    features = Features(
        categories=rng.integers(0, 17, num_news).astype(np.int32),
        subcategories=rng.integers(0, 264, num_news).astype(np.int32),
        num_categories=17,
        num_subcategories=264,
        tokens=rng.integers(1, NUM_WORDS, (num_news, 30)).astype(np.int32),
        num_words=NUM_WORDS,
        text_vectors=rng.standard_normal((num_news, 384)).astype(np.float32),
        entities=rng.integers(0, NUM_ENTITIES, (num_news, 5)).astype(np.int32),
        entity_neighbours=rng.integers(0, NUM_ENTITIES, (NUM_ENTITIES, 10)).astype(np.int32),
        num_entities=NUM_ENTITIES,
        graph_indptr=indptr,
        graph_indices=indices,
        graph_weights=np.ones(len(indices), np.float32),
        chains=chains,
    )
    return features, behaviors


def measured(step: Callable[[int], int], steps: int) -> dict[str, Any]:
    """CPU seconds of each of ``steps`` steps behind one to warm up; ``step`` returns its impressions."""
    step(0)
    seconds, walls, impressions = [], [], 0
    for number in range(1, steps + 1):
        cpu, wall = time.process_time(), time.monotonic()
        impressions += step(number)
        seconds.append(time.process_time() - cpu)
        walls.append(time.monotonic() - wall)
    return {
        "impressions_per_cpu_second": impressions / sum(seconds),
        "step_cpu_seconds": seconds,
        "step_wall_seconds": walls,
        "impressions": impressions,
    }


def our_step(
    preset: str, features: Any, behaviors: Any, batch_size: int, **changes: Any
) -> Callable[[int], int]:
    """A step of our training."""
    from multiway_recsys.glocim.batches import TrainingBatches
    from multiway_recsys.glocim.config import PRESETS
    from multiway_recsys.glocim.model import Glocim
    from multiway_recsys.glocim.objective import negative_sampling_loss

    torch.manual_seed(0)
    config = replace(PRESETS[preset], **changes).fitted(features, num_users=1)
    model = Glocim(config).train()
    batches = TrainingBatches(features, behaviors, config, seed=0, batch_size=batch_size)
    optimizer = torch.optim.Adam(model.parameters(), 2e-4)

    def step(number: int) -> int:
        batch = batches(number, 0, 1)
        optimizer.zero_grad(set_to_none=True)
        (negative_sampling_loss(model(batch)) / len(batch)).backward()
        optimizer.step()
        return len(batch)

    return step


def mended(folder: Path, scratch: Path) -> Path:
    """GLoCIM's sources in a scratch folder, so that Python reads them."""
    sources = scratch / "src"
    shutil.copytree(folder / "src", sources)
    model = sources / "models" / "LICM.py"
    text = model.read_text(encoding="utf-8").replace("class LSP-GNR(", "class LICM(")
    model.write_text(text.replace("from utils.common import *", ""), encoding="utf-8")
    candidate = sources / "models" / "component" / "candidate_encoder.py"
    text = candidate.read_text(encoding="utf-8").replace("\r\n", "\n")
    if text.count("[") != text.count("]"):
        cut = text.rindex("nn.LeakyReLU(0.2),") + len("nn.LeakyReLU(0.2),")
        text = f"{text[:cut]}\n            ])\n{text[cut:]}"
    candidate.write_text(text, encoding="utf-8")
    return sources


def their_step(
    side: str, folder: Path, features: Any, behaviors: Any, batch_size: int
) -> Callable[[int], int]:
    """A step of the authors' training: their data set class, their model."""
    scratch = Path(tempfile.mkdtemp())
    sources = mended(folder, scratch) if side == "glocim" else folder / "src"
    sys.path.insert(0, str(sources))
    from torch_geometric.data import Data

    num_news = len(features)
    model_config = SimpleNamespace(
        use_entity=True, head_num=20, head_dim=20, entity_emb_dim=100, word_emb_dim=300, title_size=30,
        abstract_size=50, attention_hidden_dim=200, entity_size=5, entity_neighbors=10, category_emb_dim=300,
        subcategory_emb_dim=300, his_size=50, k_hops=2, num_neighbors=8,
    )  # fmt: skip
    config = SimpleNamespace(
        model=model_config,
        dataset=SimpleNamespace(dataset_lang="english"),
        dropout_probability=0.2,
        batch_size=batch_size,
        gpu_num=1,
        npratio=4,
    )
    rows = [features.tokens, features.entities, features.categories[:, None], features.subcategories[:, None]]
    news_input = np.concatenate([*rows, np.arange(num_news)[:, None]], 1).astype(np.int64)
    targets = np.repeat(np.arange(num_news), np.diff(features.graph_indptr))
    edge_index = torch.from_numpy(np.stack([features.graph_indices, targets]).astype(np.int64))
    senders = np.split(features.graph_indices, features.graph_indptr[1:-1])
    neighbours = {news: row.tolist() for news, row in enumerate(senders)}
    lines = scratch / "behaviors.tsv"
    with lines.open("w", encoding="utf-8") as file:
        for row in range(len(behaviors)):
            shown = behaviors.candidates[row][:5].astype(str)
            history = " ".join(behaviors.histories[row].astype(str))
            file.write(f"{row}\tU\ttime\t{history}\t{shown[0]}\t{' '.join(shown[1:])}\n")
    from dataload.dataset import TrainGraphDataset

    dataset = TrainGraphDataset(
        filename=str(lines),
        news_index={str(news): news for news in range(num_news)},
        news_input=news_input,
        local_rank="cpu",
        cfg=config,
        neighbor_dict=neighbours,
        news_graph=Data(
            x=torch.from_numpy(news_input), edge_index=edge_index, edge_attr=torch.ones(edge_index.shape[1])
        ),
        entity_neighbors=dict(enumerate(features.entity_neighbours.tolist())),
    )
    torch.manual_seed(0)
    words = np.random.default_rng(0).standard_normal((NUM_WORDS, 300)).astype(np.float32)
    entities = np.random.default_rng(1).standard_normal((NUM_ENTITIES, 100)).astype(np.float32)
    extra: tuple[Any, ...] = ()
    if side == "glory":
        from models.GLORY import GLORY as Model
    else:
        from models.LICM import LICM as Model

        vectors = torch.randn(num_news, 3, 400)  # their snapshot of the three heaviest neighbours' vectors
        extra = (vectors, {news: row[:3] for news, row in neighbours.items()})
    model = Model(config, words, entities).train()
    optimizer = torch.optim.Adam(model.parameters(), 2e-4)
    batches = iter(dataset)

    def step(number: int) -> int:
        graph, mapping, candidates, candidate_entities, mask, labels = next(batches)
        optimizer.zero_grad(set_to_none=True)
        loss, _ = model(graph, mapping, candidates, candidate_entities, mask, *extra, label=labels)
        loss.backward()
        optimizer.step()
        return len(labels)

    return step


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """One measurement in this process."""
    torch.set_num_threads(1)
    if job["kind"] == "small":
        features, behaviors = generated_log(10_000, 20_000, mean_history=12)
        changes = {"chain_user_level": False} if job["name"] == NO_USER_LEVEL else {}
        step = our_step(job["name"].split(",")[0], features, behaviors, job["batch_size"], **changes)
        return measured(step, job["steps"])
    features, behaviors = generated_log(job["news"], 2000, mean_history=18)
    theirs, same, _ = SIDES[job["kind"]]
    if job["name"] == theirs:
        step = their_step(job["kind"], Path(job["folder"]), features, behaviors, job["batch_size"])
    elif job["name"] == same:
        preset = "glory" if job["kind"] == "glory" else "glocim-released"
        step = our_step(preset, features, behaviors, job["batch_size"])
    else:
        step = our_step(job["kind"], features, behaviors, job["batch_size"], graph_batch="union")
    return measured(step, job["steps"])


def main() -> None:
    parser = harness.parser(__doc__, "recsys")
    parser.add_argument("--glory", type=Path, help="checkout of tinyrolls/GLORY")
    parser.add_argument("--glocim", type=Path, help="checkout of EdwinWang37/GLoCIM")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--news", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=3, help="measured steps behind one to warm up")
    parser.add_argument("--small-steps", type=int, default=20)
    parser.add_argument("--only", nargs="*", help="parts of names of sides to measure")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        print(json.dumps(worker(options.worker)))
        return

    jobs: list[dict[str, Any]] = []
    for kind, names in SIDES.items():
        folder = getattr(options, kind)
        sides = names if folder is not None else names[1:]
        jobs += [
            {"kind": kind, "name": name, "folder": str(folder), "batch_size": options.batch_size,
             "news": options.news, "steps": options.steps}
            for name in sides
        ]  # fmt: skip
    jobs += [
        {"kind": "small", "name": name, "batch_size": 1024, "steps": options.small_steps} for name in SMALL
    ]
    results = []
    for job in jobs:
        if options.only and not any(part in job["name"] for part in options.only):
            continue
        command = [sys.executable, "-m", __spec__.name, "--worker", json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{job['name']}: left out: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            continue
        result = {**{key: job[key] for key in ("kind", "name", "batch_size", "steps")}}
        result |= json.loads(done.stdout.splitlines()[-1])
        results.append(result)
        print(
            f"{job['name']}: {result['impressions_per_cpu_second']:.1f} impressions per CPU second",
            flush=True,
        )
    write(results, options)


def write(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """One JSON and one table."""
    from multiway_core.evaluation.machine import describe_machine

    lines = [
        "| training | batch | impressions per CPU second | CPU seconds a step (median) | against the authors' code |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        theirs = SIDES.get(result["kind"], ("",))[0]
        base = next((other for other in results if other["name"] == theirs), None)
        speed = result["impressions_per_cpu_second"]
        ratio = "" if base is None else f"{speed / base['impressions_per_cpu_second']:.1f}x"
        seconds = statistics.median(result["step_cpu_seconds"])
        lines.append(f"| {result['name']} | {result['batch_size']} | {speed:.1f} | {seconds:.2f} | {ratio} |")
    content = {
        "benchmark": "news-training",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "news": options.news,
        "torch": torch.__version__,
        "machine": describe_machine(),
        "results": results,
    }
    table = "\n".join(lines) + "\n"
    harness.save(options.output, "news-training", content, table)
    print(table)


if __name__ == "__main__":
    main()
