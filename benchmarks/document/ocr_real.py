"""Columns, photographs, receipts and real PDF pages: the bundled reader, what it was before, Tesseract and RapidOCR.

    python -m benchmarks.document.ocr_real --before ../before --fonts FONTS --pdfs PDFS

One process an engine, one thread each, every engine reads a page before any reads the next. ``--before`` is a checkout
of an earlier state, run by the same interpreter. ``--fonts`` holds the faces of Debian's fonts-ebgaramond,
fonts-urw-base35, fonts-open-sans, fonts-crosextra-carlito, fonts-linuxlibertine and fonts-lato; ``--pdfs`` the papers
of the repository tesseract-ocr/docs, the test files of jsvine/pdfplumber and manuals of Debian packages by the names
in ``photo_pages.py``. Thresholds were set on ``--split dev``, numbers in cards are those of ``held_out``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.document.ocr_engines import Engine, in_turn
from benchmarks.document.ocr_pages import RECEIPTS, Case
from benchmarks.document.photo_pages import PHOTOGRAPHS, Source, columns, nothing, pdf_pages, photographs

SETS = ("columns", "columns_pdf", *PHOTOGRAPHS, "receipts", "pages_pdf", "nothing")
ENGINES = ("multiway", "before", "tesseract", "rapidocr")
READERS = {"multiway": "multiway-auto", "before": "multiway-fast"}
LONG, FOUND = (
    12,
    60.0,
)  # characters of a true line that is looked for; its likeness (0 to 100) where it was read


class Reader(Engine):
    """An engine's process; ``before`` takes its modules from another checkout."""

    def __init__(self, name: str, model: str, cache: Path | None, before: Path | None) -> None:
        self.name, self.fresh = name, False
        self.cache = cache if name in ("tesseract", "rapidocr") else None
        environment, folder = dict(os.environ), None
        if name == "before":
            assert before is not None
            sources = sorted(before.glob("packages/*/src")) + sorted(before.glob("apps/*/src"))
            environment["PYTHONPATH"] = os.pathsep.join(map(str, [before, *sources]))
            folder = before
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.document.ocr_readers", READERS.get(name, name), model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )
        hello = self._receive()
        self.version: str = hello["version"]
        self.startup_cpu_seconds: float = hello["startup_cpu_seconds"]


def cases(name: str, count: int, folder: Path, seed: int, source: Source) -> Iterator[Case]:
    if name in PHOTOGRAPHS:
        return photographs(name, count, folder, seed, source)
    if name == "columns":
        return columns(count, folder, seed, source)
    if name == "receipts":
        return receipts(3 * count, source.split)
    if name == "nothing":
        return nothing(folder)
    return pdf_pages(name, count, folder, source)


def receipts(count: int, split: str) -> Iterator[Case]:
    """SROIE: ``dev`` is its training part."""
    from multiway_document.datasets import load

    folder = RECEIPTS if split == "held_out" else RECEIPTS.parent / "train"
    for sample in list(load(folder))[:count] if folder.is_dir() else []:
        yield Case("receipts", sample.name, sample.image_path, sample.text, None, ignore_case=True)


def score(case: Case, answer: dict[str, Any]) -> dict[str, Any]:
    """Counts of one page: edits, words, true lines that were not read and how many of them a flag tells of."""
    from multiway_document.metrics import character_edits, count_words
    from rapidfuzz import fuzz

    read = "\n".join(text for text, _ in answer["lines"])
    truth = case.text
    if case.ignore_case:
        read, truth = read.upper(), truth.upper()
    edits, characters = character_edits(read, truth)
    words = count_words(read, truth)
    long_lines = [line for line in truth.split("\n") if sum(map(str.isalpha, line)) >= LONG]
    plain = " ".join(read.split())
    lost = [line for line in long_lines if fuzz.partial_ratio(line, plain) < FOUND]
    return {
        "edits": edits,
        "characters": characters,
        "words": [words.matched, words.predicted, words.expected],
        "lines": len(long_lines),
        "lost": lost,
        "flagged": bool(answer.get("flags")),
        "read": len(read),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One engine on one set; rates over pooled counts, and the standard error of the pages' error rates."""
    scores = [row["scores"] for row in rows]
    matched, predicted, expected = (sum(score["words"][k] for score in scores) for k in range(3))
    rates = [score["edits"] / max(1, score["characters"]) for score in scores]
    return {
        "pages": len(rows),
        "cer": sum(score["edits"] for score in scores) / max(1, sum(score["characters"] for score in scores)),
        "cer_error": statistics.stdev(rates) / len(rates) ** 0.5 if len(rates) > 1 else 0.0,
        "word_f1": 2 * matched / max(1, predicted + expected),
        "lines": sum(score["lines"] for score in scores),
        "lost": sum(len(score["lost"]) for score in scores),
        "lost_unflagged": sum(len(score["lost"]) for score in scores if not score["flagged"]),
        "read": sum(score["read"] for score in scores),
        "cpu_seconds": statistics.fmean(row["cpu_seconds"] for row in rows),
        "peak_rss_bytes": max(row["peak_rss_bytes"] for row in rows),
    }


def page_of(report: dict[str, Any]) -> str:
    machine = report["machine"]
    parts = [
        "# Pages as users have them: four readers, side by side",
        f"`{report['command']}`, started {report['started_at']}, {report['wall_seconds'] / 60:.0f} minutes; "
        f"{machine['cpu']}, one thread an engine. Split: {report['options']['split']}. "
        + "; ".join(f"`{name}` = {engine['version']}" for name, engine in report["engines"].items())
        + ". ± is the standard error over pages. A line is lost when nothing like it was read anywhere on its page; "
        "`in silence`: and the page carries no flag.",
    ]
    for name, engines in report["summary"].items():
        if name == "nothing":
            rows = [[engine, values["pages"], values["read"]] for engine, values in engines.items()]
            parts.append(
                "## Pictures without text\n\n"
                + harness.table(["engine", "pictures", "characters read"], rows)
            )
            continue
        rows = [
            [
                engine,
                values["pages"],
                f"{values['cer']:.1%} ± {values['cer_error']:.1%}",
                f"{values['word_f1']:.3f}",
                f"{values['lost']} of {values['lines']}",
                values["lost_unflagged"],
                f"{values['cpu_seconds']:.2f}",
                f"{values['peak_rss_bytes'] / 2**20:.0f}",
            ]
            for engine, values in engines.items()
        ]
        titles = [
            "engine",
            "pages",
            "CER",
            "word F1",
            "lost lines",
            "in silence",
            "CPU s a page",
            "peak RSS, MiB",
        ]
        parts.append(f"## {name}\n\n" + harness.table(titles, rows))
    return "\n\n".join(parts)


def main() -> None:
    parser = harness.parser(__doc__, "document")
    parser.add_argument("--pages", type=int, default=5, help="pages a set, three times as many receipts")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--split", choices=("dev", "held_out"), default="held_out")
    parser.add_argument("--model", default="bundled:ocr-small")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier state")
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"))
    parser.add_argument("--pdfs", type=Path, default=Path("/usr/share/doc"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder for what the peers read")
    parser.add_argument("--minutes", type=float, default=60, help="no page is begun after this many minutes")
    parser.add_argument("--name", default="ocr-real")
    options = parser.parse_args()
    started = time.monotonic()
    chosen = [name for name in options.engines if name != "before" or options.before]
    readers = {name: Reader(name, options.model, options.cache, options.before) for name in chosen}
    source = Source(options.split, options.fonts, options.pdfs)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        sets = {
            name: cases(name, options.pages, Path(scratch), options.seed, source) for name in options.sets
        }
        for case in in_turn(sets):
            if time.monotonic() - started > 60 * options.minutes:
                break
            for name, reader in readers.items():
                answer = reader.read(case.path, "ocr")
                row = {"set": case.set, "page": case.name, "engine": name, "scores": score(case, answer)}
                row |= {
                    key: answer[key]
                    for key in ("cpu_seconds", "wall_seconds", "peak_rss_bytes", "from_cache")
                }
                rows.append(row)
                rate = row["scores"]["edits"] / max(1, row["scores"]["characters"])
                print(
                    f"{case.name} {name}: CER {rate:.1%}, lost {len(row['scores']['lost'])}, "
                    f"{row['cpu_seconds']:.2f} CPU-s",
                    file=sys.stderr,
                )
    for reader in readers.values():
        reader.close()
    summary = {
        name: {
            engine: summarise(found)
            for engine in readers
            if (found := [row for row in rows if row["set"] == name and row["engine"] == engine])
        }
        for name in options.sets
    }
    report = {
        **harness.provenance("ocr-real"),
        "wall_seconds": time.monotonic() - started,
        "options": {
            "split": options.split,
            "pages": options.pages,
            "seed": options.seed,
            "model": options.model,
        },
        "engines": {
            name: {"version": reader.version, "startup_cpu_seconds": reader.startup_cpu_seconds}
            for name, reader in readers.items()
        },
        "summary": summary,
        "rows": json.loads(json.dumps(rows)),
    }
    harness.save(options.output, options.name, report, page_of(report))


if __name__ == "__main__":
    main()
