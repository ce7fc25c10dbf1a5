"""An hour of sound through the speech tokenizers' encoders: frames, time, and memory from minute to minute.

    python -m benchmarks.speech.speech_hour [--cases official narrow tiny] [--minutes 60] [--official-minutes 3]
        [--output DIR]

The sound lies in a WAV file and takes the way that any file takes: `SoundFile.pieces` (10 s each) and `encode_stream`.

* **official**: the published acoustic encoder (344 M parameters, 13.6 billion multiplications a second of sound),
  random weights, float32. An hour of it would take this machine half an hour; so it hears ``--official-minutes``, and
  the memory of the first 30 s of them at once is measured beside.
* **narrow**: the same ratios and depths (7.5 frames a second) at an eighth of the channels, for the whole hour.
* **tiny**: the bundled tokenizer, `bundled:codec-tiny` (25 frames a second at 16 kHz), for the whole hour.

A run keeps what earlier ones measured of other cases; every case runs in a process of its own. Resident memory is read
behind every minute; ``drift`` is its largest value after the first minute less the value at the first minute's end.
``pieces and whole`` is the largest difference between the frames of 20 s in pieces of 0.1 to 15 s and at once (6 s for
the official size), over the spread of the frames.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import soundfile
import torch
from multiway_speech.audio import SoundFile
from multiway_speech.speech_tokenizer.config import ACOUSTIC
from multiway_speech.speech_tokenizer.folder import load
from multiway_speech.speech_tokenizer.model import encode_stream, new_encoder
from torch import Tensor, nn

from benchmarks.speech.speech_speed import fill_randomly

CASES = ("official", "narrow", "tiny")
Row = dict[str, Any]


def write_sound(path: Path, rate: int, minutes: float) -> None:
    """Noise that swells and fades four times a second, as speech does."""
    generator = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", rate, 1, subtype="PCM_16") as file:
        left = int(minutes * 60 * rate)
        while left:
            count = min(left, 10 * rate)
            loudness = 0.1 * (1.1 + np.sin(2 * np.pi * 4 * np.arange(count) / rate))
            file.write(np.clip(generator.normal(size=count) * loudness, -1, 1))
            left -= count


def encoder_of(case: str) -> tuple[nn.Module, int]:
    """The encoder and its sampling rate."""
    if case == "tiny":
        tokenizer = load("bundled:codec-tiny")
        return tokenizer.encoder.eval(), tokenizer.config.sample_rate
    config = ACOUSTIC if case == "official" else replace(ACOUSTIC, num_filters=ACOUSTIC.num_filters // 8)
    with torch.device("meta"):
        encoder = new_encoder(config)
    encoder = encoder.to_empty(device="cpu").eval()
    fill_randomly(encoder)
    return encoder, config.sample_rate


def pieces_of(path: Path, rate: int, seconds: float = 10.0) -> Iterator[Tensor]:
    for piece in SoundFile(path).pieces(rate, seconds):
        yield torch.from_numpy(piece)[None, None]


def resident() -> float:
    """Mebibytes now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak() -> float:
    """Mebibytes since the last :func:`forget_peak`."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@torch.no_grad()
def hear(case: str, path: Path) -> Row:
    """Encode the file; what came and what it took."""
    encoder, rate = encoder_of(case)
    loaded = resident()
    forget_peak()
    frames, seconds, memory = 0, 0.0, []
    start = time.process_time()

    def heard() -> Iterator[Tensor]:
        nonlocal seconds
        for piece in pieces_of(path, rate):
            yield piece
            seconds += piece.shape[-1] / rate
            if round(seconds) % 60 == 0:
                memory.append(resident())

    finite = True
    for found in encode_stream(encoder, heard()):
        frames += found.shape[1]
        finite = finite and bool(torch.isfinite(found).all())
    used, highest = time.process_time() - start, peak()
    sample = (
        torch.cat(list(pieces_of(path, rate)), dim=-1) if seconds < 60 else next(pieces_of(path, rate, 20.0))
    )
    sample = sample[..., : (6 if case == "official" else 20) * rate]
    lengths = [int(rate * share) for share in (0.1, 0.73, 1.31, 2.0)]
    parts = sample[..., : sum(lengths)].split(lengths, dim=-1)
    streamed = torch.cat(list(encode_stream(encoder, [*parts, sample[..., sum(lengths) :]])), dim=1)
    whole = next(encode_stream(encoder, [sample]))
    rest = streamed[:, : whole.shape[1]] - whole
    row: Row = {
        "case": case, "parameters": sum(p.numel() for p in encoder.parameters()), "rate": rate,
        "seconds": round(seconds, 3), "frames": frames, "finite": finite, "cpu_s": used,
        "real_time_factor": used / seconds,
        "loaded_mib": loaded, "peak_mib": highest, "by_minute_mib": memory,
        "drift_mib": max(memory[1:], default=memory[0]) - memory[0],
        "pieces_and_whole": float(rest.abs().max() / whole.std()),
    }  # fmt: skip
    if case == "official":
        forget_peak()
        encoder(next(pieces_of(path, rate, 30.0)))
        row["peak_of_30_s_at_once_mib"] = peak()
    return row


def table(rows: list[Row]) -> str:
    lines = [
        "| encoder | parameters | minutes | frames | CPU s a second of sound | loaded, MiB | after minute 1"
        " | drift after it | peak | pieces and whole |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['case']} | {row['parameters'] / 1e6:.1f} M | {row['seconds'] / 60:.0f} | {row['frames']:,} "
            f"| {row['real_time_factor']:.4f} | {row['loaded_mib']:.0f} | {row['by_minute_mib'][0]:.0f} "
            f"| {row['drift_mib']:+.0f} | {row['peak_mib']:.0f} | {row['pieces_and_whole']:.0e} |"
        )
        if "peak_of_30_s_at_once_mib" in row:
            lines.append(
                f"| official, 30 s at once | | | | | | | | {row['peak_of_30_s_at_once_mib']:.0f} | |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, "speech")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--official-minutes", type=float, default=3)
    parser.add_argument("--hear", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.hear:
        print(json.dumps(hear(options.cases[0], options.hear)))
        return
    about = {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m " + " ".join([__spec__.name, *sys.argv[1:]]),
    }
    kept = options.output / "speech-hour.json"
    rows: list[Row] = json.loads(kept.read_text())["rows"] if kept.is_file() else []
    with tempfile.TemporaryDirectory() as scratch:
        for case in options.cases:
            path = Path(scratch) / "sound.wav"
            minutes = options.official_minutes if case == "official" else options.minutes
            write_sound(path, 16_000 if case == "tiny" else 24_000, minutes)
            command = [sys.executable, "-m", __spec__.name, "--cases", case, "--hear", str(path)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            new = json.loads(done.stdout.splitlines()[-1]) | about
            rows = [row for row in rows if row["case"] != case] + [new]
            write(sorted(rows, key=lambda row: CASES.index(row["case"])), options.output)
    print(table(rows))


def write(rows: list[Row], folder: Path) -> None:
    """Both files, with what earlier runs measured."""
    report: Row = {
        **harness.provenance("speech-hour"),
        "rows": rows,
    }
    runs = ", ".join(
        f"`{command}` ({at})" for at, command in sorted({(r["started_at"], r["command"]) for r in rows})
    )
    page = (
        "# An hour of sound through the speech tokenizers' encoders\n\n"
        f"Pieces of 10 s from a WAV file, float32, one thread of {report['machine']['cpu']}, torch {torch.__version__}."
        f" Memory is resident memory in MiB. Runs: {runs}.\n\n{table(rows)}\n"
    )
    harness.save(folder, "speech-hour", report, page)


if __name__ == "__main__":
    main()
