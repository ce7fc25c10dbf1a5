"""A build's report as text and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from multiway_core.errors import InputError
from multiway_core.files import atomic_write


def report_text(report: dict[str, Any]) -> str:
    """Markdown: kept and dropped pages by reason, languages, lengths, and the first records that were bad."""
    pages = report["pages"] or 1
    lines = [
        f"{report['pages']:,} pages, {report['kept']:,} kept with {report['characters']:,} characters.",
        "",
    ]
    if report["repeated_lines"]:
        lines[0] += f" {report['repeated_lines']:,} repeated lines left out."
    rows = [("kept", report["kept"]), *report["dropped"].items()]
    lines += _table("pages", rows, pages)
    lines += ["", *_table("language", list(report["languages"].items())[:10], pages)]
    lengths = [
        (f"{1 << int(key) >> 1:,} to {(1 << int(key)) - 1:,}", n)
        for key, n in report["characters_log2"].items()
    ]
    lines += ["", *_table("characters of kept pages", lengths, report["kept"] or 1)]
    for title, found in (
        ("Bad records", report["bad_records"]),
        ("Failed inputs", [f"{item['input']}: {item['reason']}" for item in report["failed_inputs"]]),
    ):
        if found:
            lines += ["", f"{title}:", *(f"- {_printable(line)}" for line in found)]
    return "\n".join(lines) + "\n"


def plot_report(report: dict[str, Any], path: Path) -> None:
    """The same as bars, in a PNG. Raises InputError without matplotlib, OutputError."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError("pictures need matplotlib: pip install 'multiway-core[evaluation]'") from error
    groups = {
        "pages": {"kept": report["kept"], **report["dropped"]},
        "language": report["languages"],
        "characters of kept pages": {
            f"{1 << int(k) >> 1:,}+": n for k, n in report["characters_log2"].items()
        },
    }
    figure = Figure(figsize=(11, 6), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, 3), groups.items(), strict=True):
        names = list(values)[:20]
        axes.barh([name[:40] for name in names], [values[name] for name in names], color="#2563eb")
        axes.invert_yaxis()
        axes.set_title(title)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _table(title: str, rows: list[tuple[str, int]], whole: int) -> list[str]:
    width = max([len(title), *(len(name) for name, _ in rows)])
    lines = [f"| {title:<{width}} | count | share |", f"| {'-' * width} | ---: | ---: |"]
    return lines + [
        f"| {_printable(name):<{width}} | {count:,} | {count / whole:.1%} |" for name, count in rows
    ]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
