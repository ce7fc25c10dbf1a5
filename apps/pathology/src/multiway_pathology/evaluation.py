"""Scores of a run's folds, and of a model on labelled slides."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist, mean, stdev
from typing import Any

import numpy as np
from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError
from multiway_core.evaluation import Report, Sample, evaluate
from multiway_vision_language.longvit.metrics import brier, calibration_error, macro_auc
from multiway_vision_language.longvit.pipeline import ImageRaster, LongVitPipeline
from multiway_vision_language.longvit.slide_table import read_slides
from multiway_vision_language.longvit.survival import concordance_index
from multiway_vision_language.longvit.tissue import LABELS, Tissue
from PIL import Image

from multiway_pathology.app import APP
from multiway_pathology.example import SEED
from multiway_pathology.slides import open_slide

RESAMPLES = 1000
QUICK_SLIDES, QUICK_SIDE = 128, 384
_T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Quantiles of Student's distribution by degrees of freedom."""


def evaluate_run(folder: Path) -> dict[str, Any]:
    """Of each number the folds' mean, and the 95 % interval of it by Student's distribution: best and last step.

    The best step was chosen by the held-out slides themselves, so its score is too good; the last one is not chosen.
    Raises InputError: no folds there.
    """
    files = sorted(folder.glob("fold-*/held_out.json")) or sorted(folder.glob("held_out.json"))
    if not files:
        raise InputError(f"{folder}: no fold-*/held_out.json; expected the folder of a `train`")
    best, last = [], []
    name = ""
    for file in files:
        try:
            scores = {int(step): row for step, row in json.loads(file.read_text()).items()}
            name = "auc" if "auc" in scores[max(scores)] else "c_index"
            trained = [row[name] for step, row in scores.items() if step > 0]
            best.append(max(trained))
            last.append(scores[max(scores)][name])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file}: is damaged ({type(error).__name__})") from error
    return {
        "folds": len(files),
        f"{name}_last": _with_interval(last),
        f"{name}_best_step_chosen_on_held_out": _with_interval(best),
        "last_by_fold": last,
    }


def evaluate_model(
    table: Path, pipeline: LongVitPipeline, *, size: int | None, limit: int | None, seed: int
) -> dict[str, Any]:
    """The model's scores on a CSV, with 95 % intervals of a bootstrap over patients. Raises InputError, DataError."""
    pipeline.require_head()
    config = pipeline.model.config
    rows = read_slides(table, config.task)[:limit]
    unknown = sorted({row.label for row in rows} - set(config.labels)) if config.task == "classify" else []
    if unknown:
        raise InputError(f"{table}: the model has no class {unknown[0]!r}; it has {', '.join(config.labels)}")
    results = [pipeline(open_slide(row.path), size=size) for row in rows]
    patients = np.unique([row.patient for row in rows], return_inverse=True)[1]
    scores: dict[str, Callable[[np.ndarray], float]]
    if config.task == "survival":
        times, events = np.array([row.time for row in rows]), np.array([row.event for row in rows])
        risks = np.array([result.risk for result in results], float)
        scores = {"c_index": lambda i: concordance_index(times[i], events[i], risks[i])}
    else:
        probability = np.array([list((result.probabilities or {}).values()) for result in results])
        truth = np.array([config.labels.index(row.label) for row in rows])
        scores = {
            "auc": lambda i: macro_auc(probability[i], truth[i]),
            "accuracy": lambda i: float((probability[i].argmax(axis=1) == truth[i]).mean()),
            "calibration_error": lambda i: calibration_error(probability[i], truth[i]),
            "brier": lambda i: brier(probability[i], truth[i]),
        }
    generator = np.random.default_rng(seed)
    of_patient = [np.flatnonzero(patients == number) for number in range(patients.max() + 1)]
    samples = [
        np.concatenate([of_patient[k] for k in generator.integers(len(of_patient), size=len(of_patient))])
        for _ in range(RESAMPLES)
    ]
    every = np.arange(len(rows))
    found: dict[str, Any] = {"slides": len(rows), "patients": len(of_patient)}
    for name, measure in scores.items():
        drawn = [value for value in map(measure, samples) if not math.isnan(value)]
        value = measure(every)
        low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (math.nan, math.nan)
        found[name] = {"value": _finite(value), "low": _finite(low), "high": _finite(high)}
    return found


def _with_interval(values: list[float]) -> dict[str, float | None]:
    known = [value for value in values if value is not None and not math.isnan(value)]
    if len(known) < 2:
        return {"mean": known[0] if known else None, "low": None, "high": None}
    factor = _T_975.get(len(known) - 1, NormalDist().inv_cdf(0.975))
    half = factor * stdev(known) / math.sqrt(len(known))
    return {"mean": mean(known), "low": mean(known) - half, "high": mean(known) + half}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def quick_evaluation() -> Report:
    """The bundled model on generated slides that no training has seen; chance is one half."""
    pipeline: LongVitPipeline = load_pipeline(APP, ModelOptions(device="cpu"))
    labels = LABELS["order"]
    tissue = Tissue(SEED)
    made = [tissue.slide(number, QUICK_SIDE) for number in range(QUICK_SLIDES)]
    return evaluate(
        (
            Sample(f"generated-{number}", ImageRaster(Image.fromarray(slide.pixels)), labels[slide.label])
            for number, slide in enumerate(made)
        ),
        pipeline,
        {
            "accuracy": lambda found, label: float(found.label == label),
            "chance": lambda *_: 1 / len(labels),
        },
        name="side of the small-celled nest on generated slides",
    )
