"""How well turns are found in speech that was made in one go: sentences of known length, joined with known gaps.

    python -m benchmarks.speech.turn_times made/kokoro made/joe [--sentences 60] [--seed 0] [--output DIR]

Each folder holds what ``multiway_speech.speech_tokenizer.synthesize`` wrote: recordings and ``manifest.jsonl`` with
``file`` and ``text``. Silence around the sentences is cut off before, so that the gaps are all there is between turns;
the sentences have pauses of their own at commas. Reported is how far the start of each turn but the first is from the
truth.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.evaluation.machine import describe_machine
from multiway_speech.audio import SoundFile, read
from multiway_speech.turn_times import turn_times

from benchmarks import harness

RATE = 16_000
GAPS = ((0.15, 0.3), (0.3, 0.6))
TURNS = {2: 40, 4: 40, 8: 40, 30: 10}
"""Turns of a speech -> speeches."""


def sentences(folder: Path, count: int) -> list[tuple[np.ndarray, str]]:
    """The first ``count`` of a folder, without the silence around them."""
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()[:count]]
    return [
        (trimmed(read(SoundFile(folder / row["file"]), RATE, max_seconds=60)), row["text"]) for row in rows
    ]


def trimmed(samples: np.ndarray) -> np.ndarray:
    """From the first to the last 10 ms that are at most 32 dB below the loud ones."""
    hop = RATE // 100
    power = np.square(samples[: len(samples) // hop * hop].reshape(-1, hop)).mean(1)
    loud = np.flatnonzero(power > np.quantile(power, 0.95) * 10**-3.2)
    return samples[loud[0] * hop : (loud[-1] + 1) * hop]


def errors(
    known: list[tuple[np.ndarray, str]],
    turns: int,
    speeches: int,
    gap: tuple[float, float],
    rng: random.Random,
) -> np.ndarray:
    """Seconds between found and true starts, of all turns but the first."""
    found = []
    for _ in range(speeches):
        chosen = rng.sample(known, turns)
        parts: list[np.ndarray] = []
        starts: list[float] = []
        for index, (samples, _) in enumerate(chosen):
            if index:
                parts.append(np.zeros(int(RATE * rng.uniform(*gap)), np.float32))
            starts.append(sum(map(len, parts)) / RATE)
            parts.append(samples * rng.uniform(0.7, 1.3))
        times = turn_times(np.concatenate(parts), RATE, [text for _, text in chosen])
        found += [abs(time[0] - start) for time, start in zip(times[1:], starts[1:], strict=True)]
    return np.array(found)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--sentences", type=int, default=60, help="of each folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    known = [item for folder in options.folders for item in sentences(folder, options.sentences)]
    rng = random.Random(options.seed)
    rows: list[dict[str, Any]] = []
    lines = [
        "| gaps, s | turns | starts | median error, s | within 0.25 s |",
        "| --- | --: | --: | --: | --: |",
    ]
    for gap in GAPS:
        for turns, speeches in TURNS.items():
            off = errors(known, turns, speeches, gap, rng)
            row = {
                "gap": gap,
                "turns": turns,
                "starts": len(off),
                "median": float(np.median(off)),
                "within": float((off < 0.25).mean()),
            }
            rows.append(row)
            shown = f"{row['median']:.3f} | {100 * row['within']:.1f} % |"
            lines.append(f"| {gap[0]}-{gap[1]} | {turns} | {len(off)} | {shown}")
    print("\n".join(lines))
    if options.output:
        report = {
            "sentences": len(known),
            "seed": options.seed,
            "rows": rows,
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "machine": describe_machine(),
        }
        harness.save(options.output, "turn-times", report, "\n".join(lines))


if __name__ == "__main__":
    main()
