"""Precision and recall on labelled texts: of each filter of a recipe, of the duplicates, and of a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.errors import InputError
from multiway_core.evaluation import Metric, Report, Sample, evaluate
from multiway_text.redstone.classifier import TextClassifier, train_classifier
from multiway_text.redstone.duplicates import band_edges, representatives
from multiway_text.redstone.minhash import MinHash
from multiway_text.redstone.pipeline import Pipeline, Recipe
from multiway_text.redstone.record import Record
from multiway_text.redstone.storage import read_texts

KEEP = "keep"
HELD_OUT = 10
FILTERS = ("extraction", "language", "document", "lines", "math", "code", "question", "classifier")


def labelled_records(paths: Sequence[Path]) -> Iterator[Record]:
    """The rows of labelled files, ``html`` as markup; label and group stand in ``meta["source"]``. Raises DataError."""
    for path in paths:
        for record in read_texts(path, fields=("text", "html")):
            row = record.meta.get("source", {})
            where = f"{path}:{record.meta['offset']}"
            if record.drop_reason or not isinstance(row.get("label"), str):
                raise InputError(f"{where}: expected a row with text or html, and label, which are text")
            html = row.get("html")
            yield (
                dataclasses.replace(record, id=where, html=html.encode()) if isinstance(html, str) else record
            )


def evaluate_recipe(
    paths: Sequence[Path], recipe: Recipe, *, limit: int | None = None, seed: int = 0
) -> Report:
    """A recipe's filters on labelled rows; see the command. Raises InputError."""
    kept: list[tuple[Record, Any]] = []

    def filter_of(record: Record) -> str:
        (found,) = pipeline([record])
        if not found.drop_reason and "group" in record.meta["source"]:
            kept.append((found, record.meta["source"]["group"]))
        return found.drop_reason.partition(":")[0] or KEEP

    metrics: dict[str, Callable[[str, str], float | None]] = {}
    for name in (KEEP, *FILTERS):
        metrics[f"{name}, precision"] = lambda found, label, name=name: (  # type: ignore[misc]
            None if found != name else float((label == KEEP) == (name == KEEP))
        )
        metrics[f"{name}, recall"] = lambda found, label, name=name: (  # type: ignore[misc]
            None if label != name else float(found == name)
        )
    samples = (
        Sample(record.id, record, record.meta["source"]["label"])
        for record in islice(labelled_records(paths), limit)
    )
    with Pipeline(recipe) as pipeline:
        report = evaluate(
            samples,
            filter_of,
            metrics,
            name=f"recipe {recipe.name}",
            seed=seed,
            group=lambda sample: sample.target,
        )
    defined = {name: metric for name, metric in report.metrics.items() if metric.n}
    return dataclasses.replace(report, metrics=defined | _pairs(kept))


def classifier_of(paths: Sequence[Path], domain: str, seed: int) -> tuple[TextClassifier, dict[str, float]]:
    """A classifier of labelled texts, and its precision and recall on every tenth, which it has not seen."""
    rows = [(record.text, record.meta["source"]["label"] == domain) for record in labelled_records(paths)]
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(rows))
    held_out = [rows[i] for i in order[::HELD_OUT]]
    seen = [rows[i] for place, i in enumerate(order) if place % HELD_OUT]
    if not all(any(label for _, label in part) for part in (seen, held_out)):
        raise InputError(f"too few texts of the label {domain!r}; {HELD_OUT} or more are needed")
    classifier = train_classifier([text for text, _ in seen], [label for _, label in seen], domain, seed)
    said = np.array([classifier(text) >= 0.5 for text, _ in held_out])
    true = np.array([label for _, label in held_out])
    hits = float((said & true).sum())
    report = {"precision": hits / max(said.sum(), 1), "recall": hits / true.sum()}
    return classifier, report | {
        "held_out": len(held_out),
        "held_out_of_domain": int(true.sum()),
        "trained_on": len(seen),
    }


def _pairs(kept: list[tuple[Record, Any]]) -> dict[str, Metric]:
    """Pairs of one group that are found to be duplicates, among the rows that passed all filters."""
    if not kept:
        return {}
    minhash, ids = MinHash(), np.arange(len(kept))
    signatures = [minhash.signature(record.text) for record, _ in kept]
    alone = np.arange(len(kept), dtype=np.uint64)
    keys = np.stack([
        np.full(minhash.bands, alone[i]) if signature is None else minhash.band_keys(signature)
        for i, signature in enumerate(signatures)
    ])  # fmt: skip
    stays = representatives(ids, [band_edges(ids, band) for band in keys.T])
    found, true = (_pairs_of(values) for values in (stays.tolist(), [group for _, group in kept]))
    hits = len(found & true)
    values = {
        "duplicates, precision": (hits, len(found)),
        "duplicates, recall": (hits, len(true)),
        "duplicates, F1": (2 * hits, len(found) + len(true)),
    }
    return {name: Metric(a / b, None, None, b) for name, (a, b) in values.items() if b}


def _pairs_of(values: Sequence[Any]) -> set[tuple[int, int]]:
    groups: dict[Any, list[int]] = {}
    for index, value in enumerate(values):
        groups.setdefault(str(value), []).append(index)
    return {pair for group in groups.values() for pair in combinations(group, 2)}
