"""Does text of the recipes for code and for math move a language model on code and on math it has not seen?

    python -m benchmarks.text.corpus_domains --built DIR --work DIR

DIR holds builds by `multiway-corpus build --no-dedup`: ``web``, ``code`` and ``math`` to train on, ``code-held`` and
``math-held`` of other packages' documentation. ``web`` trains on web text alone; ``web + code`` and ``web + math`` on
as many bytes, of which every second thousand is the recipe's. The network and the steps are those of `corpus_lm`; bits
a byte over a hundred pieces of 1,000 characters. Runs that lie in --work are not done again.
"""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.text.corpus_lm import TRAINING, bits

ARMS = {"web": ("web",), "web-code": ("web", "code"), "web-math": ("web", "math")}
HELD_OUT = ("code-held", "math-held", "web-held")
PIECE, PIECES = 1000, 600
"""Characters of a piece of a document, pieces of an arm: 600,000 bytes, which all of them are."""


def pieces(built: Path, name: str) -> list[str]:
    """Pieces of the documents of a build, in random order."""
    from multiway_text.redstone.storage import read_records

    found = [
        record.text[start : start + PIECE]
        for part in sorted((built / name).glob("part-*"))
        for record in read_records(part)
        for start in range(0, len(record.text) - PIECE, PIECE)
    ]
    random.Random(0).shuffle(found)
    return found


def arrange(built: Path, work: Path) -> None:
    """The texts of the arms and of the held-out sets as JSON lines."""
    texts = {name: pieces(built, name) for name in ("web", "code", "math", *HELD_OUT)}
    for arm, sources in ARMS.items():
        each = PIECES // len(sources)
        mixed = [text for row in zip(*(texts[name][:each] for name in sources), strict=True) for text in row]
        _write(work / arm / "t.jsonl", mixed)
    for name in HELD_OUT:
        _write(work / f"{name}.jsonl", texts[name][:100])


def _write(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--built", type=Path, metavar="DIR", required=True)
    parser.add_argument("--work", type=Path, metavar="DIR", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    arrange(options.built, options.work)
    values: dict[str, Any] = {}
    rows = []
    for name in HELD_OUT:
        held_out = options.work / f"{name}.jsonl"
        found = {arm: [bits(arm, seed, held_out, options.work) for seed in options.seeds] for arm in ARMS}
        values[name] = found
        gains = [
            " ".join(f"{a - b:+.3f}" for a, b in zip(found["web"], found[arm], strict=True))
            for arm in ("web-code", "web-math")
        ]
        rows.append([name, *(f"{statistics.mean(found[arm]):.3f}" for arm in ARMS), *gains])
    head = ["held out", *ARMS, "web minus web-code, by seed", "web minus web-math, by seed"]
    page = f"Bits a byte, mean of seeds {options.seeds}; `multiway-lm train {TRAINING}`.\n\n{harness.table(head, rows)}"
    harness.save(options.output, "corpus-domains", harness.provenance("corpus-domains") | values, page)


if __name__ == "__main__":
    main()
