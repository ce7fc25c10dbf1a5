"""Pages a second of reading, Trafilatura and writing: the command `build` beside datatrove, on 1 and 2 cores.

    python -m benchmarks.text.corpus_speed --html DIR --pages 200

Both read the same WARC files of the labelled crawl, call the same Trafilatura, and write what comes out; no filter
runs. Ours has the extractor in a process of its own that a page cannot outlive; so has datatrove. Contenders run in
turns, each as a process with its children: wall seconds, and the memory of the largest of its processes. Then the CPU
time of every stage on whole real pages, in one process.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.text.corpus_pages import pages, write

DATATROVE = """
import sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.readers import WarcReader
from datatrove.pipeline.writers import JsonlWriter
if __name__ == "__main__":
    source, output, workers = sys.argv[1:]
    steps = Trafilatura(favour_precision=True, include_comments=False, include_tables=True, include_formatting=True)
    LocalPipelineExecutor(
        [WarcReader(source, glob_pattern="*.warc.gz"), steps, JsonlWriter(output)],
        tasks=4, workers=int(workers), logging_dir=output + "/logs",
    ).run()
"""


def stages(folder: Path, count: int, seed: int) -> dict[str, float]:
    """CPU milliseconds a real page of each stage; ``MB`` of HTML a page. Later stages see every text that came out."""
    from multiway_text.redstone.document_rules import DocumentRules
    from multiway_text.redstone.extraction import decode, resiliparse_text, trafilatura_text
    from multiway_text.redstone.language import LanguageFilter
    from multiway_text.redstone.line_rules import LineRules
    from multiway_text.redstone.minhash import MinHash
    from multiway_text.redstone.record import Record

    files = random.Random(seed).sample(sorted(folder.rglob("*.html")), count)
    html = [path.read_bytes() for path in files]
    minhash = MinHash()

    def cpu(work: Callable[[Any], Any], inputs: Sequence[Any]) -> tuple[float, list[Any]]:
        work(inputs[0])
        start = time.process_time()
        outputs = [work(item) for item in inputs]
        return 1000 * (time.process_time() - start) / count, outputs

    values = {"MB": sum(map(len, html)) / count / 1e6}
    values["Trafilatura"], _ = cpu(lambda page: trafilatura_text(decode(page)), html)
    values["Resiliparse"], texts = cpu(lambda page: resiliparse_text(decode(page)), html)
    found = [Record("", "", text=text) for text in texts]
    steps: dict[str, Callable[[Any], Any]] = {
        "language": LanguageFilter(()),
        "document rules": DocumentRules(),
        "line rules": LineRules(),
        "signature": lambda record: minhash.signature(record.text),
    }
    for name, step in steps.items():
        values[name], _ = cpu(step, found)
    return values


def measured(command: list[str]) -> tuple[float, float]:
    """(wall seconds, MB of the largest process) of a command."""
    start = time.monotonic()
    null = os.open(os.devnull, os.O_WRONLY)
    file_actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=file_actions)
    _, status, usage = os.wait4(process, 0)
    os.close(null)
    if status:
        raise SystemExit(f"{command[:4]} failed with status {status}")
    return time.monotonic() - start, usage.ru_maxrss / 1024


def main() -> None:
    parser: argparse.ArgumentParser = harness.parser(__doc__, "text")
    parser.add_argument("--html", type=Path, required=True, metavar="DIR")
    parser.add_argument("--pages", type=int, default=400)
    parser.add_argument("--stage-pages", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        write(Path(name, "crawl"), list(pages(options.html, options.pages, options.seed)), 4)
        script = Path(name, "with_datatrove.py")
        script.write_text(DATATROVE)
        for turn in range(options.rounds):
            for workers in (1, 2):
                out = [f"{name}/{way}-{turn}-{workers}" for way in ("ours", "datatrove")]
                ours = [
                    sys.executable,
                    "-m",
                    "multiway_corpus",
                    "build",
                    f"{name}/crawl",
                    "-o",
                    out[0],
                    "--no-dedup",
                ]
                ours += ["--recipe", "texts", "--workers", str(workers)]
                theirs = [sys.executable, str(script), f"{name}/crawl", out[1], str(workers)]
                for way, command in (("ours", ours), ("datatrove", theirs)):
                    rows.setdefault((way, workers), []).append(measured(command))
    best = {key: min(taken) for key, taken in rows.items()}
    cells = [
        [way, workers, f"{options.pages / wall:.1f}", f"{memory:.0f}"]
        for (way, workers), (wall, memory) in best.items()
    ]
    head = ["", "processes", "pages a second", "largest process, MB"]
    page = f"{options.pages} pages, best of {options.rounds} rounds, start of the program included.\n\n"
    each = stages(options.html, options.stage_pages, options.seed)
    parts = [[name, f"{value:.2f}"] for name, value in each.items() if name != "MB"]
    page += harness.table(head, cells)
    page += f"\n\n{options.stage_pages} whole pages of {each['MB'] * 1000:.1f} kB, in one process:\n\n"
    page += harness.table(["stage", "CPU ms a page"], parts)
    values = {"stages": each, "rounds": [[way, workers, taken] for (way, workers), taken in rows.items()]}
    harness.save(
        options.output,
        "corpus-speed",
        harness.provenance("corpus-speed") | values,
        page,
    )


if __name__ == "__main__":
    main()
