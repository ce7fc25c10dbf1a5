"""The Markdown page of ``ocr_engines.py``: tables by set, then each target, met or missed, then where peers win."""

from __future__ import annotations

from typing import Any

from benchmarks.document.ocr_pages import DEGRADED

Summary = dict[str, dict[str, dict[str, Any]]]

COLUMNS = (
    ("word_f1", "word F1", "{:.3f}"),
    ("iou_union", "IOU a", "{:.3f}"),
    ("iou_matched", "IOU b", "{:.3f}"),
    ("ned", "NED", "{:.3f}"),
    ("cer", "CER", "{:.1%}"),
    ("line_cer", "line CER", "{:.1%}"),
    ("cpu_seconds", "CPU-s a page", "{:.2f}"),
    ("peak_rss_bytes", "peak RSS, MiB", "{:.0f}"),
)
LOWER_IS_BETTER = ("cer", "line_cer", "cpu_seconds")
OURS = "multiway-fast"


def report_markdown(report: dict[str, Any]) -> str:
    summary: Summary = report["summary"]
    machine = report["machine"]
    parts = [
        "# Text readers, side by side",
        f"Started {report['started_at']}; {report['wall_seconds'] / 60:.0f} minutes; {machine['cpu']}, one thread an "
        f"engine, load {machine['load_average']:.1f}. "
        + (
            f"{report['pages_not_begun']} readings were not begun in time. "
            if report["pages_not_begun"]
            else ""
        )
        + f"{sum(row['from_cache'] for row in report['rows'])} of {len(report['rows'])} readings of peers come from an "
        "earlier run on this machine, with the time that they took there.",
        "Engines: "
        + "; ".join(
            f"`{name}` = {engine['version']} "
            + ("(start-up counted)" if name in ("tesseract", "tesseract-tuned") else "")
            + (
                f"(start-up {engine['startup_cpu_seconds']:.1f} CPU-s, not counted)"
                if "tess" not in name
                else ""
            )
            for name, engine in report["engines"].items()
        )
        + (
            f". Not offered by this model or not installed: {', '.join(report['left_out'])}"
            if report["left_out"]
            else ""
        )
        + f". `rapidocr-sorted` is the same reading with its boxes in our reading order. Tuned Tesseract: "
        f"{report['tuned']}.",
    ]
    for set_name, engines in summary.items():
        if set_name != "markdown":
            parts.append(f"## {set_name}\n\n" + set_table(engines))
    if "markdown" in summary:
        parts.append(
            "## Pages as markdown (article and report pages)\n\n" + markdown_table(summary["markdown"])
        )
    if report["rendered_lines"]:
        parts.append(
            "## Single lines in held-out fonts, drawn as crops\n\n" + lines_table(report["rendered_lines"])
        )
    parts.append("## Targets\n\n" + targets(report))
    parts.append("## Where a peer is better than the fast engine\n\n" + losses(summary))
    return "\n\n".join(parts) + "\n"


def set_table(engines: dict[str, dict[str, Any]]) -> str:
    rows = [
        ["engine", "pages", *(title for _, title, _ in COLUMNS)],
        ["---", *["--:"] * (len(COLUMNS) + 1)],
    ]
    for name, values in engines.items():
        cells = []
        for key, _, form in COLUMNS:
            value = values.get(key)
            if value is not None and key == "peak_rss_bytes":
                value /= 2**20
            cells.append("–" if value is None else form.format(value))
        rows.append([name, str(values["pages"]), *cells])
    return _table(rows)


def markdown_table(engines: dict[str, dict[str, Any]]) -> str:
    rows = [["engine", "pages", "NTED", "NTED of tags", "NED", "CPU-s a page"], ["---", *["--:"] * 5]]
    for name, values in engines.items():
        if "nted" in values:
            scores = [f"{values[key]:.3f}" for key in ("nted", "nted_tags", "markdown_ned")]
            rows.append([name, str(values["pages"]), *scores, f"{values['cpu_seconds']:.2f}"])
    return _table(rows)


def lines_table(lines: dict[str, dict[str, float]]) -> str:
    rows = [["engine", "lines each", "CER clean", "CER degraded"], ["---", "--:", "--:", "--:"]]
    for name, rates in lines.items():
        rows.append([name, str(int(rates["lines"])), f"{rates['clean']:.1%}", f"{rates['degraded']:.1%}"])
    return _table(rows)


def targets(report: dict[str, Any]) -> str:
    """Each target of the project for the engine shipped as default, with the number that decides it."""
    summary: Summary = report["summary"]
    rows: list[tuple[str, bool | None, str]] = []

    def value(set_name: str, engine: str, key: str) -> float | None:
        return summary.get(set_name, {}).get(engine, {}).get(key)

    clean = value("clean_150", OURS, "line_cer")
    rows.append(
        (
            "line CER <= 4 % on clean text pages",
            _holds(clean, lambda x: x <= 0.04),
            _percent(clean),
        )
    )
    pooled = _pooled_line_cer(report)
    rows.append(
        (
            "line CER <= 8 % over all degradations of them",
            _holds(pooled, lambda x: x <= 0.08),
            _percent(pooled),
        )
    )
    crops = report["rendered_lines"].get(OURS, {})
    for name, text, limit in (
        ("clean", "line CER <= 4 % on", 0.04),
        ("degraded", "line CER <= 8 % on", 0.08),
    ):
        rate = crops.get(name)
        rows.append(
            (
                f"{text} single {name} crops, see README",
                None if rate is None else rate <= limit,
                _percent(rate),
            )
        )
    for set_name in ("uneven_light", "low_contrast_noise", "skew_8", "dpi_60"):
        ours, theirs = value(set_name, OURS, "cer"), value(set_name, "tesseract", "cer")
        met = None if ours is None or theirs is None else ours < theirs
        rows.append(
            (
                f"CER below default Tesseract's: {set_name}",
                met,
                f"{_percent(ours)} against {_percent(theirs)}",
            )
        )
    page = value("clean_150", OURS, "cpu_seconds")
    rows.append(("<= 0.5 CPU-s a page: clean_150", _holds(page, lambda x: x <= 0.5), _seconds(page)))
    theirs = value("clean_150", "tesseract", "cpu_seconds")
    faster = None if page is None or theirs is None else page < theirs
    rows.append(("faster than Tesseract: clean_150", faster, f"{_seconds(page)} against {_seconds(theirs)}"))
    seconds = {name: _mean_seconds(report, name) for name in (OURS, "tesseract")}
    ours, theirs = seconds[OURS], seconds["tesseract"]
    rows.append(("<= 0.5 CPU-s a page: mean of all pages", _holds(ours, lambda x: x <= 0.5), _seconds(ours)))
    faster = None if ours is None or theirs is None else ours < theirs
    rows.append(
        (
            "faster than Tesseract: mean of the pages of both",
            faster,
            f"{_seconds(ours)} against {_seconds(theirs)}",
        )
    )
    ours, theirs = value("markdown", OURS, "nted"), value("markdown", "tesseract", "nted")
    rows.append(("NTED >= 0.65 of its markdown", _holds(ours, lambda x: x >= 0.65), _number(ours)))
    rows.append(
        ("Tesseract's text as markdown: NTED < 0.15", _holds(theirs, lambda x: x < 0.15), _number(theirs))
    )
    formed = [row["well_formed"] for row in report["rows"] if row["engine"] == OURS]
    share = sum(formed) / len(formed) if formed else None
    rows.append((">= 98 % parsable output", _holds(share, lambda x: x >= 0.98), _percent(share)))
    words = {True: "met", False: "**missed**", None: "not measured"}
    return _table(
        [
            ["target", "", "measured"],
            ["---", "---", "---"],
            *([text, words[met], shown] for text, met, shown in rows),
        ]
    )


def losses(summary: Summary) -> str:
    found = []
    for set_name, engines in summary.items():
        ours = engines.get(OURS)
        if ours is None:
            continue
        for peer, theirs in engines.items():
            if peer.startswith("multiway"):
                continue
            better = []
            for key, title, form in COLUMNS[:-1]:
                if key not in ours or key not in theirs or (set_name == "markdown" and key != "cpu_seconds"):
                    continue
                wins = theirs[key] < ours[key] if key in LOWER_IS_BETTER else theirs[key] > ours[key]
                if wins:
                    better.append(f"{title} {form.format(theirs[key])} against {form.format(ours[key])}")
            if set_name == "markdown" and "nted" in ours and theirs.get("nted", 0) > ours["nted"]:
                better.append(f"NTED {theirs['nted']:.3f} against {ours['nted']:.3f}")
            if better:
                found.append(f"- {set_name}, {peer}: " + ", ".join(better))
    return "\n".join(found) or "Nowhere in this run."


def _pooled_line_cer(report: dict[str, Any]) -> float | None:
    scores = [row["scores"] for row in report["rows"] if row["engine"] == OURS and row["set"] in DEGRADED]
    characters = sum(score["line_characters"] for score in scores)
    return sum(score["line_edits"] for score in scores) / characters if characters else None


def _mean_seconds(report: dict[str, Any], engine: str) -> float | None:
    """Over the pages that both our engine and Tesseract read as text."""
    by_page: dict[str, dict[str, float]] = {}
    for row in report["rows"]:
        if row["set"] != "markdown":
            by_page.setdefault(row["page"], {})[row["engine"]] = row["cpu_seconds"]
    both = [seconds for seconds in by_page.values() if OURS in seconds and "tesseract" in seconds]
    chosen = both or [seconds for seconds in by_page.values() if engine in seconds]
    values = [seconds[engine] for seconds in chosen if engine in seconds]
    return sum(values) / len(values) if values else None


def _holds(value: float | None, test: Any) -> bool | None:
    return None if value is None else bool(test(value))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} CPU-s"


def _table(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
