"""The quick evaluation of every app, gathered into one table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiway_core.app import InstalledApp, note
from multiway_core.errors import MultiwayError
from multiway_core.evaluation import Report
from multiway_core.files import write_text

from multiway.table import aligned

SCHEMA = "multiway.summary/1"


@dataclass(frozen=True)
class Headline:
    """The metric that an app is judged by: its key in the report, its usual name, and keys and names of what the same
    report measured beside it (a baseline, chance, the best other method).
    """

    key: str
    name: str
    beside: tuple[tuple[str, str], ...] = ()


HEADLINES = {
    "asr": Headline("wer", "word error rate"),
    "encoder": Headline("accuracy@1", "accuracy@1", (("bm25 accuracy@1", "BM25"), ("chance", "chance"))),
    "event-detection": Headline("ap", "COCO AP"),
    "frame-interpolation": Headline(
        "psnr auto",
        "PSNR, dB",
        (
            ("psnr blend", "blending"),
            ("psnr dis", "DIS optical flow"),
            ("psnr integration", "event integration"),
        ),
    ),
    "grounding": Headline(
        "acc@0.5",
        "Acc@0.5 in photographs",
        (
            ("present AUC", "AUC of present"),
            ("largest object", "the largest object"),
            ("centre box", "a central box"),
        ),
    ),
    "lm": Headline("accuracy", "multiple-choice accuracy", (("chance", "chance"),)),
    "news-recommendation": Headline(
        "ndcg@5",
        "nDCG@5",
        (("ndcg@5:popularity-live", "the most clicked of the moment"), ("ndcg@5:item_knn", "item kNN")),
    ),
    "ocr": Headline(
        "cer",
        "character error rate",
        (("cer tesseract", "Tesseract"), ("cer fast engine", "its fast engine alone")),
    ),
    "pathology": Headline("accuracy", "accuracy on generated slides", (("chance", "chance"),)),
    "search": Headline(
        "accuracy@1",
        "accuracy@1 of the note that answers",
        (("dense accuracy@1", "by meaning alone"), ("bm25 accuracy@1", "BM25"), ("chance", "chance")),
    ),
    "summarization": Headline("rougeL", "ROUGE-L of titles", (("rougeL:lead", "the first eight words"),)),
    "tts": Headline("wer", "word error rate as recognized", (("wer_shuffled", "against other sentences"),)),
}
"""An app that is not here is judged by the first metric of its report."""


@dataclass(frozen=True)
class Measured:
    """One app's report, or why there is none."""

    app: str
    report: Report | None
    problem: str | None


def evaluate_apps(apps: Sequence[InstalledApp]) -> list[Measured]:
    """Run the quick evaluations one after another; what fails is kept with its reason and stops no other."""
    measured = []
    for item in apps:
        if item.app is None or item.app.quick_evaluation is None:
            measured.append(Measured(item.name, None, item.problem or "it has no quick evaluation"))
            continue
        note(f"multiway: measuring {item.name} ...")
        try:
            measured.append(Measured(item.name, item.app.load("quick_evaluation")(), None))
        except Exception as error:  # an app's bug must not cost the others their row
            reason = str(error) if isinstance(error, MultiwayError) else f"{type(error).__name__}: {error}"
            measured.append(Measured(item.name, None, " ".join(reason.split())))
    return measured


def summary_rows(measured: Sequence[Measured], *, details: bool = False) -> list[list[str]]:
    """A header and one row an app: its headline, with what the same report measured beside it.

    ``details``: a row a metric. An app that failed has one row with its reason.
    """
    rows = [["app", "evaluation", "metric", "mean [95 % interval]", "beside it", "n", "median s", "peak MiB"]]
    for item in measured:
        report = item.report
        if report is None:
            rows.append([item.app, f"FAILED: {item.problem}", "", "", "", "", "", ""])
            continue
        peak = "" if report.peak_rss_bytes is None else f"{report.peak_rss_bytes / 2**20:.0f}"
        headline = HEADLINES.get(item.app)
        if headline is None or headline.key not in report.metrics:
            headline = Headline(next(iter(report.metrics)), next(iter(report.metrics)))
        if details:
            shown = [(name, name, "") for name in report.metrics]
        else:
            beside = [
                f"{name} {report.metrics[key].mean:.4g}"
                for key, name in headline.beside
                if key in report.metrics
            ]
            shown = [(headline.key, headline.name, ", ".join(beside))]
        for key, name, others in shown:
            metric, seconds = report.metrics[key], f"{report.latency.median:.3f}"
            rows.append([item.app, report.name, name, str(metric), others, str(metric.n), seconds, peak])
    return rows


def summary_json(measured: Sequence[Measured]) -> dict[str, Any]:
    """Everything as JSON-ready data: each app's whole report without its rows, or its problem."""
    apps = []
    for item in measured:
        report = None
        if item.report is not None:
            report = {key: value for key, value in item.report.to_json().items() if key != "rows"}
        apps.append({"app": item.app, "report": report, "problem": item.problem})
    return {"schema": SCHEMA, "apps": apps}


def write_summary(measured: Sequence[Measured], folder: Path) -> None:
    """``summary.json`` and ``summary.md`` in ``folder``, and each app's full report in ``folder/<app>``."""
    for item in measured:
        if item.report is not None:
            item.report.save(folder / item.app)
    text = json.dumps(summary_json(measured), ensure_ascii=False, indent=2)
    write_text(folder / "summary.json", text + "\n")
    write_text(folder / "summary.md", "# Quick evaluation\n\n" + aligned(summary_rows(measured)))
