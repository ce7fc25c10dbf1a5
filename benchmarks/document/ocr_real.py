"""Scans, columns, photographs, receipts, PDF pages: the bundled reader, what it was before, Tesseract and RapidOCR.

    python -m benchmarks.document.ocr_real --before ../before --fonts FONTS --pdfs PDFS --scans SCANS

One process an engine, one thread each, every engine reads a page before any reads the next. ``--before`` is a checkout
of an earlier state, run by the same interpreter. ``--fonts`` holds the faces of Debian's fonts-ebgaramond,
fonts-urw-base35, fonts-open-sans, fonts-crosextra-carlito, fonts-linuxlibertine and fonts-lato; ``--pdfs`` the papers
of the repository tesseract-ocr/docs, the test files of jsvine/pdfplumber and manuals of Debian packages by the names
in ``photo_pages.py``; ``--scans`` the folder ``testing`` of tesseract-ocr/test. Thresholds were set on ``--split dev``,
numbers in cards are those of ``held_out``.
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

import numpy as np

from benchmarks import harness
from benchmarks.document.ocr_engines import Engine, in_turn
from benchmarks.document.ocr_pages import RECEIPTS, Case
from benchmarks.document.photo_pages import (
    COLUMNS,
    PHOTOGRAPHS,
    REAL_SCANS,
    SCANS,
    Source,
    columns,
    nothing,
    pdf_pages,
    photographs,
    real_scans,
    scans,
)

SETS = (*SCANS, *REAL_SCANS, *COLUMNS, "columns_pdf", *PHOTOGRAPHS, "receipts", "pages_pdf", "nothing")
ENGINES = ("multiway", "multiway-fast", "before", "tesseract", "rapidocr")
READERS = {"multiway": "multiway-auto", "before": "multiway-fast"}
USES = {
    "scan_": "drawn here in held-out faces from Wikipedia paragraphs (XQuAD); held out",
    "scans_real": "pictures of tesseract-ocr/test; held out",
    "columns_scan": "magazine scans of UNLV's set in tesseract-ocr/test; held out",
    "columns": "drawn here in held-out faces from Wikipedia paragraphs (XQuAD); held out",
    "columns_inset": "drawn here as the columns, which run round a picture with a caption; held out",
    "columns_pdf": "papers of tesseract-ocr/docs, files of jsvine/pdfplumber, as pictures; held out",
    "photo_": "drawn here as the scans, then bent, lit and blurred by a program, not a camera; held out",
    "receipts": "SROIE's test part, of the receipts shared for development: a development number",
    "pages_pdf": "manuals and files of jsvine/pdfplumber, as pictures; held out",
}
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
            before = before.resolve()  # the process runs in that folder
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
    if name in SCANS:
        return scans(name, count, folder, seed, source)
    if name in REAL_SCANS:
        return real_scans(name, max(count, 6), folder, source)
    if name in PHOTOGRAPHS:
        return photographs(name, count, folder, seed, source)
    if name in COLUMNS:
        return columns(name, count, folder, seed, source)
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
        "lost": len(lost),  # not the lines: some sets may not be passed on
        "flagged": bool(answer.get("flags")),
        "read": len(read),
    }


def interval(scores: list[dict[str, Any]], draws: int = 2000) -> list[float]:
    """95 % of the pooled error rate when the pages are drawn again with replacement."""
    edits, characters = (np.array([score[key] for score in scores]) for key in ("edits", "characters"))
    picks = np.random.default_rng(0).integers(len(scores), size=(draws, len(scores)))
    rates = edits[picks].sum(1) / np.maximum(1, characters[picks].sum(1))
    return [float(value) for value in np.quantile(rates, (0.025, 0.975))]


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One engine on one set; rates over pooled counts, and a bootstrap interval over its pages."""
    scores = [row["scores"] for row in rows]
    matched, predicted, expected = (sum(score["words"][k] for score in scores) for k in range(3))
    return {
        "pages": len(rows),
        "cer": sum(score["edits"] for score in scores) / max(1, sum(score["characters"] for score in scores)),
        "cer_interval": interval(scores),
        "word_f1": 2 * matched / max(1, predicted + expected),
        "lines": sum(score["lines"] for score in scores),
        "lost": sum(score["lost"] for score in scores),
        "lost_unflagged": sum(score["lost"] for score in scores if not score["flagged"]),
        "read": sum(score["read"] for score in scores),
        "cpu_seconds": statistics.fmean(row["cpu_seconds"] for row in rows),
        "peak_rss_bytes": max(row["peak_rss_bytes"] for row in rows),
    }


def page_of(report: dict[str, Any]) -> str:
    machine = report["machine"]
    parts = [
        "# Pages as users have them: four readers, side by side",
        f"`{report['command']}`, started {report['started_at']}, {report['wall_seconds'] / 60:.0f} minutes; "
        + (f"`{joined['command']}`, started {joined['started_at']}; " if (joined := report["joined"]) else "")
        + f"{machine['cpu']}, {machine['instruction_set']}, load {machine['load_average']:.1f}, "
        f"one thread an engine. Split: {report['options']['split']}. "
        + "; ".join(f"`{name}` = {engine['version']}" for name, engine in report["engines"].items())
        + ". In brackets: 95 % of the rate when the pages are drawn again with replacement (one page has no interval). "
        "A line is lost when nothing like it was read anywhere on its page; "
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
                f"{values['cer']:.1%} ({values['cer_interval'][0]:.1%} to {values['cer_interval'][1]:.1%})",
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
        use = USES.get(name) or USES[name.split("_")[0] + "_"]
        parts.append(f"## {name}\n\n{use[0].upper()}{use[1:]}.\n\n" + harness.table(titles, rows))
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
    parser.add_argument("--scans", type=Path, default=Path("testing"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rapidocr-pages", type=int, default=3, help="pages a set for RapidOCR, ~8 CPU-s each"
    )
    parser.add_argument("--cache", type=Path, help="folder for what the peers read")
    parser.add_argument("--minutes", type=float, default=60, help="no page is begun after this many minutes")
    parser.add_argument("--join", type=Path, help="a report of an earlier run whose readings are counted too")
    parser.add_argument("--name", default="ocr-real")
    options = parser.parse_args()
    started = time.monotonic()
    chosen = [name for name in options.engines if name != "before" or options.before]
    readers = {name: Reader(name, options.model, options.cache, options.before) for name in chosen}
    source = Source(options.split, options.fonts, options.pdfs, options.scans)
    earlier = json.loads(options.join.read_text(encoding="utf-8")) if options.join else {"rows": []}
    rows: list[dict[str, Any]] = earlier["rows"]
    known = {(row["set"], row["page"]) for row in rows}
    done: dict[tuple[str, str], int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        sets = {
            name: cases(name, options.pages, Path(scratch), options.seed, source) for name in options.sets
        }
        for case in in_turn(sets):
            if time.monotonic() - started > 60 * options.minutes:
                break
            if (case.set, case.name) in known:
                continue
            for name, reader in readers.items():
                done[case.set, name] = done.get((case.set, name), 0) + 1
                most = options.rapidocr_pages * (3 if case.set == "receipts" else 1)
                if name == "rapidocr" and done[case.set, name] > most:
                    continue
                answer = reader.read(case.path, "ocr")
                row = {"set": case.set, "page": case.name, "engine": name, "scores": score(case, answer)}
                row |= {
                    key: answer[key]
                    for key in ("cpu_seconds", "wall_seconds", "peak_rss_bytes", "from_cache")
                }
                rows.append(row)
                rate = row["scores"]["edits"] / max(1, row["scores"]["characters"])
                print(
                    f"{case.name} {name}: CER {rate:.1%}, lost {row['scores']['lost']}, "
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
        for name in SETS
        if any(row["set"] == name for row in rows)
    }
    report = {
        **harness.provenance("ocr-real"),
        "wall_seconds": time.monotonic() - started,
        "joined": {key: earlier[key] for key in ("command", "started_at", "wall_seconds") if key in earlier},
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
