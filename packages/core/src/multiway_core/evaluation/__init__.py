"""Evaluation: data set -> pipeline -> metrics -> :class:`Report`.

    report = evaluate(samples, pipeline, {"cer": cer}, name="ocr", seed=0)
    report.save(Path("report"))        # report.json, report.md, report.png

A metric is a function ``(prediction, target) -> float | Ratio | None``. A :class:`Ratio` keeps numerator and
denominator apart, so that an error rate is pooled over the data set (errors of all samples / length of all
samples) and not averaged over samples; ``None`` or NaN says "not defined for this sample".
"""

from multiway_core.evaluation.bootstrap import Interval, mean_interval
from multiway_core.evaluation.machine import describe_machine, installed_versions, peak_rss_bytes
from multiway_core.evaluation.report import SCHEMA, Latency, Metric, Report
from multiway_core.evaluation.run import Ratio, Sample, evaluate

__all__ = [
    "SCHEMA",
    "Interval",
    "Latency",
    "Metric",
    "Ratio",
    "Report",
    "Sample",
    "describe_machine",
    "evaluate",
    "installed_versions",
    "mean_interval",
    "peak_rss_bytes",
]
