"""``python -m tests.fuzz --inputs 1000000``: mutated files through every reader; only errors of ours may come out.

Inputs are drawn evenly over the readers; input K of a reader depends on the seed alone, so that a finding is repeated
by ``--only NAME --first K --inputs 1``. A raw exception, a message of several lines, more than ``--seconds`` for one
file or a process that dies is a finding: its file is written to ``--keep``. Ends with exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from multiway_core.errors import MultiwayError

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import Target, targets

MAX_SECONDS = 10.0
MEMORY = 12 << 30  # bytes of address space, of which torch takes some for itself


def attempt(target: Target, path: Path, seconds: float = MAX_SECONDS) -> str | None:
    """Read a file; what is wrong with the way it ended, or None."""
    started = time.monotonic()
    try:
        target.read(path)
    except MultiwayError as error:
        if "\n" in str(error) or not str(error):
            return f"not one line: {error!r}"
    except Exception:
        return traceback.format_exc()
    took = time.monotonic() - started
    return f"took {took:.1f} s" if took > seconds else None


def fuzz(name: str, first: int, count: int, seed: int, keep: Path, seconds: float) -> int:
    """Inputs ``first`` to ``first + count`` of a reader; the number of findings."""
    target, findings = targets()[name], 0
    seeds = target.seeds()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder, target.name)
        path.write_bytes(seeds[0])
        attempt(target, path)  # the first reading imports libraries, which is no file's fault
        for number in range(first, first + count):
            path.write_bytes(mutated(seeds, random.Random(f"{seed}.{name}.{number}")))
            wrong = attempt(target, path, seconds)
            if wrong is not None:
                findings += 1
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{number}-{target.name}").write_bytes(path.read_bytes())
                print(f"{name} {number}: {wrong}", file=sys.stderr, flush=True)
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1_000_000, help="over all readers")
    parser.add_argument("--minutes", type=float, default=None, help="stop then, after whole rounds of 100")
    parser.add_argument("--only", default="", metavar="NAME", help="one reader")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=MAX_SECONDS, help="for one file")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--log", type=Path, default=None, help="a line of JSON per reader and round")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    names = [options.only] if options.only else list(targets())
    each = -(-options.inputs // len(names))
    step = min(
        100 if options.minutes else 2000, each
    )  # short rounds, so that every reader has its turn in time
    end = time.monotonic() + 60 * (options.minutes or 1e9)
    done = findings = 0
    for first in range(options.first, options.first + each, step):
        for name in names:
            if time.monotonic() > end:
                break
            child = os.fork()  # a reader that kills the process costs only its own round
            if child == 0:
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
                os._exit(min(fuzz(name, first, step, options.seed, options.keep, options.seconds), 100))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code < 0:
                print(
                    f"{name}: killed by signal {-code} within inputs {first} to {first + step}",
                    file=sys.stderr,
                )
            done, findings = done + step, findings + abs(code)
            if options.log is not None:
                with options.log.open("a") as out:
                    out.write(
                        json.dumps({"reader": name, "first": first, "inputs": step, "findings": code}) + "\n"
                    )
    print(f"{done:,} inputs, {len(names)} readers, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
