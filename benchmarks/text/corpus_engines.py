"""What each engine of `multiway-corpus build --engine` costs: seconds for 16 jobs that do nothing, cold and warm.

    uv run --with ray[data] --with pyspark --with datatrove python -m benchmarks.text.corpus_engines

The first call of an engine starts it; a build makes three calls or four. One process an engine, two workers; an engine
that is not installed is left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import harness

ENGINES = ("local", "ray", "spark", "datatrove")


def nothing() -> Callable[[Any], Any]:
    """The start of a worker whose jobs do nothing."""
    return lambda job: job


def measure(name: str) -> dict[str, float]:
    """Wall seconds of two calls, one after the other."""
    from multiway_corpus.engines import ENGINES as engines

    from benchmarks.text import corpus_engines  # by its name, so that the workers find it

    found = {}
    for call in ("first", "second"):
        start = time.monotonic()
        outcomes = list(engines[name]()(list(range(16)), corpus_engines.nothing, processes=2))
        assert sorted(outcome.value for outcome in outcomes) == list(range(16))
        found[call] = time.monotonic() - start
    return found


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--one", choices=ENGINES, help="This engine alone, as JSON.")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    values = {}
    for name in ENGINES:
        command = [sys.executable, "-m", "benchmarks.text.corpus_engines", "--one", name]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode == 0:
            values[name] = json.loads(ended.stdout.splitlines()[-1])
        elif "InputError" not in ended.stderr:
            raise SystemExit(ended.stderr)
    rows = [[name, f"{item['first']:.1f}", f"{item['second']:.1f}"] for name, item in values.items()]
    page = harness.table(["engine", "first call, s", "second call, s"], rows)
    harness.save(options.output, "corpus-engines", harness.provenance("corpus-engines") | values, page)


if __name__ == "__main__":
    main()
