"""The bundled reader against Tesseract 5 and RapidOCR: the same pages, one thread, side by side.

    python -m benchmarks.document.ocr_engines --pages 6 --output benchmarks/results/document

Every engine is a process of its own (``ocr_readers.py``); all read one page before any reads the next, set by set in
turn, until the pages or the minutes are used up. What a peer made of a page is kept in ``--cache`` (by the picture's
bytes and the peer's version), so that after a new model only that model runs; ``--fresh`` ignores what is kept.

Writes ``ocr-engines.json`` and ``ocr-engines.md``; the latter ends with each target, met or missed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import harness

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "MKL_NUM_THREADS"), "1")
os.environ.update(THREADS)

from multiway_core.files import write_text  # noqa: E402

from benchmarks.document.ocr_pages import FACTOR, SETS, Case, cases, rendered_lines  # noqa: E402
from benchmarks.document.ocr_readers import ENGINES, PEERS, TUNED  # noqa: E402
from benchmarks.document.ocr_report import report_markdown  # noqa: E402
from benchmarks.document.ocr_scores import corners_of, hull, score, summarise  # noqa: E402

OWN_CONVENTION = {"multiway-fast": "line", "multiway-full": "line"}  # all others: close around the ink
NO_MARKDOWN = ("tesseract-tuned", "rapidocr")
RENDERED_LINES = 300


class Engine:
    """One reader's process."""

    def __init__(self, name: str, model: str, cache: Path | None, fresh: bool) -> None:
        self.name, self.cache, self.fresh = name, cache if name in PEERS else None, fresh
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.document.ocr_readers", name, model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        hello = self._receive()
        self.version: str = hello["version"]
        self.startup_cpu_seconds: float = hello["startup_cpu_seconds"]

    def read(self, path: Path, task: str) -> dict[str, Any]:
        kept = None
        if self.cache is not None:
            recipe = TUNED if self.name == "tesseract-tuned" else ""
            key = hashlib.sha256(path.read_bytes() + f"{self.version}{recipe}".encode()).hexdigest()[:32]
            kept = self.cache / f"{self.name}-{key}.json"
            if kept.is_file() and not self.fresh:
                return json.loads(kept.read_text()) | {"from_cache": True}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"path": str(path), "task": task}) + "\n")
        self.process.stdin.flush()
        answer = self._receive()
        if kept is not None:
            write_text(kept, json.dumps(answer))
        return answer | {"from_cache": False}

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def _receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        row = self.process.stdout.readline()
        if not row:
            raise RuntimeError(f"{self.name} ended with exit code {self.process.wait()}")
        return json.loads(row)


def in_turn(sources: dict[str, Iterator[Case]]) -> Iterator[Case]:
    """One page of every set, then the next of every set, so that a time limit cuts all sets alike."""
    left = dict(sources)
    while left:
        for name in list(left):
            case = next(left[name], None)
            if case is None:
                del left[name]
            else:
                yield case


def in_reading_order(answer: dict[str, Any]) -> dict[str, Any]:
    """RapidOCR's lines in the order in which our own line finder would read such boxes."""
    from multiway_document.segmentation.reading_order import reading_order

    if not answer["lines"]:
        return answer
    boxes = [hull(corners_of(place)) for _, place in answer["lines"]]
    order, _ = reading_order(boxes, [(box[3] - box[1]) / 2 for box in boxes])
    return answer | {"lines": [answer["lines"][index] for index in order]}


def well_formed(answer: dict[str, Any]) -> bool:
    """Whether an output of ours is complete and a valid page: what 'parsable' means for boxes and text."""
    boxes = [place for _, place in answer["lines"]]
    ordered = all(box[0] <= box[2] and box[1] <= box[3] for box in boxes)
    has_content = bool(answer["lines"]) or bool(answer.get("markdown"))
    return ordered and has_content and not answer["truncated"] and not answer["looped"]


def main() -> None:
    parser = harness.parser(__doc__, "document")
    parser.add_argument("--pages", type=int, default=6, help="pages a set")
    parser.add_argument(
        "--rapidocr-pages", type=int, default=2, help="pages a set for RapidOCR, ~10 CPU-s each"
    )
    parser.add_argument("--full-pages", type=int, default=2, help="pages a set for our autoregressive engine")
    parser.add_argument("--minutes", type=float, default=40, help="no page is begun after this many minutes")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--model", default="bundled:ocr-small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder for what the peers read")
    parser.add_argument(
        "--fresh", action="store_true", help="run the peers even where the cache has their answer"
    )
    options = parser.parse_args()
    started = time.monotonic()
    limits = {"rapidocr": options.rapidocr_pages, "multiway-full": options.full_pages}

    engines, left_out = {}, []
    for name in options.engines:
        try:
            engines[name] = Engine(name, options.model, options.cache, options.fresh)
        except RuntimeError as error:
            left_out.append(name)
            print(f"left out: {error}", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    skipped = 0
    lines: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        sources = {
            name: cases(name, options.pages * FACTOR.get(name, 1), Path(scratch), options.seed)
            for name in options.sets
        }
        done: dict[tuple[str, str], int] = {}
        for case in in_turn(sources):
            for name, engine in engines.items():
                if time.monotonic() - started > 60 * options.minutes:
                    skipped += 1
                    continue
                task = "markdown" if case.set == "markdown" else "ocr"
                count = done.get((case.set, name), 0)
                most = limits.get(name, options.pages) * FACTOR.get(case.set, 1)
                if count >= most or (task == "markdown" and name in NO_MARKDOWN):
                    continue
                done[case.set, name] = count + 1
                answer = engine.read(case.path, task)
                variants = {name: answer}
                if name == "rapidocr":
                    variants["rapidocr-sorted"] = in_reading_order(answer)
                for variant, given in variants.items():
                    row = {"set": case.set, "page": case.name, "engine": variant}
                    row |= {
                        key: given[key]
                        for key in ("cpu_seconds", "wall_seconds", "peak_rss_bytes", "from_cache")
                    }
                    if name.startswith("multiway-"):
                        row["well_formed"] = well_formed(given)
                    row["scores"] = score(case, given, OWN_CONVENTION.get(name, "ink"))
                    rows.append(row)
                shown = rows[-1]["scores"]
                print(
                    f"{case.name} {name}: CER {shown['edits'] / max(1, shown['characters']):.1%},"
                    f" {rows[-1]['cpu_seconds']:.2f} CPU-s",
                    file=sys.stderr,
                )
        for name in [name for name in engines if name.startswith("multiway-")]:
            lines[name] = rendered_lines(engines[name].read, Path(scratch), options.seed, RENDERED_LINES)
            if name == "multiway-full":
                lines["its decoder alone"] = rendered_lines(
                    engines[name].read,
                    Path(scratch),
                    options.seed,
                    RENDERED_LINES,
                    task="lines, decoder alone",
                )
            print(name, "rendered lines", lines[name], file=sys.stderr)
    for engine in engines.values():
        engine.close()

    summary: dict[str, dict[str, Any]] = {}
    for set_name in options.sets:
        for name in [*engines, "rapidocr-sorted"]:
            chosen = [row for row in rows if row["set"] == set_name and row["engine"] == name]
            if chosen:
                summary.setdefault(set_name, {})[name] = summarise(chosen)
    report = {
        **harness.provenance("ocr-engines"),
        "wall_seconds": time.monotonic() - started,
        "pages_not_begun": skipped,
        "options": {"model": options.model, "pages": options.pages, "seed": options.seed},
        "engines": {
            name: {"version": engine.version, "startup_cpu_seconds": engine.startup_cpu_seconds}
            for name, engine in engines.items()
        },
        "left_out": left_out,
        "tuned": TUNED,
        "rendered_lines": lines,
        "summary": summary,
        "rows": rows,
    }
    page = report_markdown(report)
    harness.save(options.output, "ocr-engines", report, page)


if __name__ == "__main__":
    main()
