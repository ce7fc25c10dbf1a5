"""SIGKILL at random moments while a folder is indexed, its files changing between the runs.

``python -m benchmarks.text.search_kills`` indexes a folder of texts, broken files and JSONL in processes that are
killed after a random time, one to four times; between the kills files are edited, renamed, removed and added. After
every kill the index is checked (each passage has its document, vector and words, once), and searched. The last run goes
to its end, and the index must hold the very passages and vectors of one that was never killed. The kills fall into the
creation of the index, its transactions, the graph of vectors and its file.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from multiway_text.search import update, vectors
from multiway_text.search.pipeline import SearchPipeline
from multiway_text.search.store import DATABASE, Index

from benchmarks import harness

TEXT = (Path(__file__).parents[2] / "examples" / "huckleberry.txt").read_text().split()
GRAPH = 40  # passages above which there is a graph, so that small folders have one


def write_folder(folder: Path, files: int, generator: random.Random) -> None:
    """Texts, of which every twentieth is broken, and rows of JSON."""
    folder.mkdir()
    for number in range(files):
        change(folder / f"{number % 7}" / f"{number}.md", generator)
    (folder / "rows.jsonl").write_text(
        "".join(f'{{"text": "{number} {passage(generator, 20)}"}}\n' for number in range(120))
    )


def passage(generator: random.Random, words: int) -> str:
    """Words of a book in another order."""
    return " ".join("".join(c for c in word if c.isalpha()) for word in generator.choices(TEXT, k=words))


def change(path: Path, generator: random.Random) -> None:
    """Write a file anew."""
    path.parent.mkdir(exist_ok=True)
    kind = generator.random()
    if kind < 0.03:
        path.write_bytes(b"\0\1" * 50)
    elif kind < 0.05:
        path.write_text("")
    else:
        path.write_text("\n\n".join(passage(generator, 30) for _ in range(generator.randint(1, 6))))


def disturb(folder: Path, generator: random.Random) -> None:
    """Edit, rename, remove and add files."""
    files = sorted(path for path in folder.rglob("*.md"))
    for path in generator.sample(files, 6):
        what = generator.choice(["edit", "rename", "remove", "add"])
        if what == "edit":
            change(path, generator)
        elif what == "rename":
            path.rename(path.with_name(f"renamed-{generator.randrange(10**6)}.md"))
        elif what == "remove":
            path.unlink()
        else:
            change(path.with_name(f"added-{generator.randrange(10**6)}.md"), generator)


def in_process(work: Callable[[], None], kill_after: float | None) -> bool:
    """Run in a child; whether it was killed. Raises RuntimeError: it failed by itself."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"child: {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + (1e9 if kill_after is None else kill_after)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise RuntimeError(f"the run ended with status {status}")
            return False
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.001)


def contents(index: Index) -> list[tuple[Any, ...]]:
    """All that a reader can see, but for ids and the order of files."""
    return index.connection.execute(
        "SELECT d.path, c.place, c.start, c.end, c.text, v.vector FROM documents d JOIN chunks c ON c.document = d.id "
        "JOIN vectors v ON v.chunk = c.id WHERE d.whole ORDER BY d.path, c.id"
    ).fetchall()


def faults(folder: Path, pipeline: SearchPipeline) -> list[str]:
    """What is wrong with an index after a kill."""
    if not (folder / DATABASE).is_file():
        return []
    found = []
    with Index(folder) as index:
        one = index.connection.execute
        counts = {
            name: one(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in (
                "chunks",
                "vectors",
                "words_docsize",
                "chunks JOIN documents d ON d.id = document",
                "chunks JOIN vectors ON chunk = id",
            )
        }
        if len(set(counts.values())) != 1:
            found.append(f"counts {counts}")
        if one("PRAGMA integrity_check").fetchone()[0] != "ok":
            found.append("integrity")
        one("INSERT INTO words (words) VALUES ('integrity-check')")
        double = one(
            "SELECT count(*) - count(DISTINCT d.path || char(0) || c.place || char(0) || c.start) "
            "FROM chunks c JOIN documents d ON d.id = c.document WHERE d.whole"
        ).fetchone()[0]
        if double:
            found.append(f"{double} passages doubled")
        if index.count() and not pipeline.query(index, "the river", mode="dense", highlight=False).hits:
            found.append("a query finds nothing")
    return found


def trial(pipeline: SearchPipeline, folder: Path, files: int, seed: int) -> dict[str, Any]:
    """One folder: kills, changes, and a last run."""
    generator = random.Random(seed)
    notes, output = folder / "notes", folder / "index"
    write_folder(notes, files, generator)

    def work() -> None:
        with pipeline.open(output, create=True, tokens=48) as index:
            pipeline.update(index, [notes])

    def fresh() -> None:
        with pipeline.open(folder / "fresh", create=True, tokens=48) as index:
            pipeline.update(index, [notes])

    started = time.monotonic()
    in_process(fresh, None)
    whole = time.monotonic() - started
    shutil.rmtree(folder / "fresh")
    kills, wrong = 0, []
    for _ in range(generator.choice([1, 2, 3, 4])):
        killed = in_process(work, generator.uniform(0.0, 1.0) * whole)
        kills += killed
        wrong += faults(output, pipeline)
        disturb(notes, generator)
    in_process(work, None)
    in_process(fresh, None)
    wrong += faults(output, pipeline)
    with Index(output) as one, Index(folder / "fresh") as other:
        mine, expected = contents(one), contents(other)
        equal = [row[:5] for row in mine] == [row[:5] for row in expected]
        parts = len(list(one.documents(whole=False)))
        graph = vectors.open_graph(one)[0]
        in_graph = 0 if graph is None else len(graph)
    near = np.ones(1)
    if equal:
        pair = [
            np.array([np.frombuffer(row[5], np.float16) for row in rows], np.float32)
            for rows in (mine, expected)
        ]
        near = (pair[0] * pair[1]).sum(1)
    stray = sum(path.name.endswith(".tmp") or path.name.startswith("vectors-") for path in output.iterdir())
    return {
        "seed": seed, "kills": kills, "passages": len(mine), "equal": equal, "lowest_cosine": float(near.min()),
        "parts_left": parts, "in_graph": in_graph, "files_beside": stray, "wrong": wrong,
    }  # fmt: skip


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    update.GROUP = 24  # more transactions in which a kill can fall
    update.vectors.extend_graph.__kwdefaults__["exact"] = GRAPH
    pipeline = SearchPipeline.from_pretrained("bundled:minilm-l6")
    trials: list[dict[str, Any]] = []
    while sum(row["kills"] for row in trials) < options.kills:
        with tempfile.TemporaryDirectory(prefix="search-kills-") as folder:
            trials.append(trial(pipeline, Path(folder), options.files, options.seed + len(trials)))
        print(trials[-1], flush=True)
    kills, runs = sum(row["kills"] for row in trials), len(trials)
    good = sum(row["equal"] and not row["wrong"] and not row["parts_left"] for row in trials)
    rows = [
        [kills, runs, good, sum(len(row["wrong"]) for row in trials), min(r["lowest_cosine"] for r in trials)]
    ]
    heads = [
        "kills",
        "indexes",
        "equal to one never killed",
        "faults after a kill",
        "lowest cosine of a vector",
    ]
    data = harness.provenance("search_kills") | {
        "seed": options.seed,
        "files": options.files,
        "trials": trials,
    }
    harness.save(
        options.output,
        "search-kills",
        data,
        "# SIGKILL while a folder is indexed\n\n" + harness.table(heads, rows),
    )


if __name__ == "__main__":
    main()
