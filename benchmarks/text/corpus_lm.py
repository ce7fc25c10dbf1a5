"""Does a language model of filtered text predict clean text better than one of unfiltered text of equal tokens?

    python -m benchmarks.text.corpus_lm --built OUT --held-out wikipedia.jsonl descriptions.jsonl --work DIR

OUT is a build of the labelled crawl. ``filtered`` are the texts that it kept, ``unfiltered`` all that were extracted,
in the order of their hashes. A LLaMA of 4 layers of 128 reads bytes, 200 steps of 16 x 128. Held-out texts are of other
sources, which no arm has seen; bits a byte over the first hundred. Runs that lie in DIR are not done again.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import harness

ARMS = ("filtered", "unfiltered")
TRAINING = (
    "--arch llama --size tiny --vocab-size 0 --length 128 --batch-size 16 --max-tokens 600000 --steps 200"
)


def arrange(built: Path, work: Path) -> None:
    """The texts of both arms as JSON lines."""
    from multiway_text.redstone.storage import read_records

    kept = [r.text for part in sorted(built.glob("part-*")) for r in read_records(part)]
    gone = [r.text for part in sorted(built.glob("dropped/*")) for r in read_records(part) if r.text]
    for arm, texts in zip(ARMS, (kept, kept + gone), strict=True):
        (work / arm).mkdir(parents=True, exist_ok=True)
        texts = sorted(texts, key=lambda text: hashlib.sha1(text.encode()).digest())
        (work / arm / "t.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def bits(arm: str, seed: int, held_out: Path, work: Path) -> float:
    """Bits a byte of a held-out set; trains and evaluates what is not there yet."""
    run = work / f"run-{arm}-{seed}"
    report = work / f"run-{arm}-{seed}-{held_out.stem}.json"
    program = [sys.executable, "-m", "multiway_lm"]
    if not (run / "model").is_dir():
        options = [*TRAINING.split(), "--data", str(work / arm / "t.jsonl"), "--seed", str(seed)]
        subprocess.run([*program, "train", *options, "--output", str(run)], check=True, capture_output=True)
    if not report.is_file():
        command = [*program, "evaluate", "perplexity", str(held_out), "--model", str(run / "model")]
        found = subprocess.run([*command, "--limit", "100", "--json"], check=True, capture_output=True)
        report.write_bytes(found.stdout)
    return float(json.loads(report.read_text())["metrics"]["bits_per_byte"]["mean"])


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--built", type=Path, metavar="OUT", required=True)
    parser.add_argument("--held-out", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    if not all((options.work / arm / "t.jsonl").is_file() for arm in ARMS):
        arrange(options.built, options.work)
    values: dict[str, Any] = {}
    rows = []
    for held_out in options.held_out:
        found = {arm: [bits(arm, seed, held_out, options.work) for seed in options.seeds] for arm in ARMS}
        values[held_out.stem] = found
        gaps = [b - a for a, b in zip(*found.values(), strict=True)]
        cells = [f"{statistics.mean(found[arm]):.3f}" for arm in ARMS]
        rows.append([held_out.stem, *cells, " ".join(f"{gap:+.3f}" for gap in gaps)])
    head = ["held out", *ARMS, "unfiltered minus filtered, by seed"]
    page = f"Bits a byte, mean of seeds {options.seeds}; `multiway-lm train {TRAINING}`.\n\n{harness.table(head, rows)}"
    harness.save(options.output, "corpus-lm", harness.provenance("corpus-lm") | values, page)


if __name__ == "__main__":
    main()
