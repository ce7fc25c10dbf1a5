"""SIGKILL at random moments: what a killed command leaves, and whether the next run ends as one that was never killed.

``python -m benchmarks.sigkill`` runs every command once to its end, then again and again: killed after a random part of
that time (one to three times), then to its end. The outputs must be equal byte for byte, and no output may be there
half written. Every trial is appended to ``--log`` at once; a stopped study resumes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness

ROOT = Path(__file__).parents[1]
TEMPORARY = re.compile(r"(^|/)\.[0-9a-f]{12}\.tmp(/|$)")  # the next writer that comes 10 s later removes them
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Case:
    """A command of an app: ``arguments`` with ``{in}`` and ``{out}``, and what of ``{out}`` is compared.

    Attributes:
        prepare: makes the inputs in a folder.
        rerun: arguments that the runs after a kill have in addition.
        result: below ``{out}``; "" is all of it.
        ignored: keys of JSON lines and objects whose values are times of the run.
    """

    name: str
    app: str
    arguments: tuple[str, ...]
    kills: int
    prepare: Callable[[Path], None] = lambda folder: None
    rerun: tuple[str, ...] = ()
    result: str = ""
    ignored: tuple[str, ...] = ()


def texts(folder: Path) -> None:
    generator = random.Random(0)
    words = (EXAMPLES / "huckleberry.txt").read_text().split()
    lines = (" ".join(generator.choices(words, k=20)) for _ in range(2000))
    (folder / "a.txt").write_text("\n\n".join(lines))


def pictures(folder: Path) -> None:
    from PIL import Image

    for number, box in enumerate([(0, 0, 400, 300), (100, 50, 500, 350), (50, 100, 450, 400)]):
        Image.open(EXAMPLES / "coffee.jpg").crop(box).save(folder / f"{number}.png")


def pages(folder: Path) -> None:
    from PIL import Image

    page = Image.open(EXAMPLES / "huckleberry.jpg")
    width, height = page.size
    for number in range(4):
        top = height * number // 4
        page.crop((0, top, width, top + height // 4)).save(folder / f"{number}.png")


def recordings(folder: Path) -> None:
    import soundfile

    samples, rate = soundfile.read(EXAMPLES / "dialogue.flac")
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", samples[number * 3 * rate : (number + 1) * 3 * rate], rate)


def events(folder: Path) -> None:
    import numpy as np
    from multiway_event_vision.events import Events
    from multiway_event_vision.formats import write_events

    generator = np.random.default_rng(0)
    count = 1_500_000
    t = np.sort(generator.integers(0, 5_000_000, count))
    x, y, p = (generator.integers(0, high, count) for high in (320, 240, 2))
    write_events(folder / "a.csv", Events.from_arrays(t, x, y, p, 320, 240))


def clicks(folder: Path) -> None:
    generator = random.Random(0)
    rows = ["user,item,time"]
    rows += [
        f"u{generator.randrange(3000)},i{generator.randrange(500)},{1_600_000_000 + 60 * k}"
        for k in range(150_000)
    ]
    (folder / "log.csv").write_text("\n".join(rows) + "\n")


def frames(folder: Path) -> None:
    from PIL import Image, ImageDraw

    for number in range(6):
        picture = Image.new("RGB", (96, 64), "grey")
        ImageDraw.Draw(picture).ellipse((10 + 8 * number, 20, 30 + 8 * number, 40), "white")
        picture.save(folder / f"{number}.png")


def smoke(app: str, kills: int, steps: str = "3") -> Case:
    arguments = (
        "train",
        "--preset",
        "smoke",
        "--steps",
        steps,
        "--checkpoint-every",
        "0.02",
        "--output",
        "{out}",
    )
    return Case(f"{app} train", app, arguments, kills, result="model")


CASES = (
    Case(
        "lm train",
        "lm",
        (
            "train",
            "--data",
            "{in}",
            "--size",
            "tiny",
            "--steps",
            "40",
            "--batch-size",
            "4",
            "--length",
            "64",
            "--max-tokens",
            "40000",
            "--checkpoint-every",
            "0.02",
            "--output",
            "{out}",
        ),
        30,
        texts,
        result="model",
    ),
    smoke("event-detection", 10),
    smoke("news-recommendation", 8),
    smoke("ocr", 8),
    smoke("asr", 4),
    smoke("tts", 4),
    Case(
        "lm quantize",
        "lm",
        ("quantize", "bundled:lm-tiny", "--format", "packed", "-o", "{out}/packed"),
        15,
    ),
    Case(
        "event-detection convert",
        "event-detection",
        ("convert", "{in}/a.csv", "-o", "{out}/a.npz"),
        35,
        events,
        ("--overwrite",),
    ),
    Case("ocr read", "ocr", ("read", "{in}", "--engine", "fast", "-o", "{out}"), 20, pages),
    Case(
        "asr transcribe",
        "asr",
        ("transcribe", "{in}", "-f", "txt", "-f", "srt", "-o", "{out}"),
        16,
        recordings,
        ("--resume",),
    ),
    Case(
        "grounding batch",
        "grounding",
        ("batch", "{in}", "--task", "caption", "-o", "{out}/a.jsonl"),
        16,
        pictures,
        ignored=("seconds",),
    ),
    Case(
        "news-recommendation import",
        "news-recommendation",
        ("import", "{in}/log.csv", "-o", "{out}/mind"),
        20,
        clicks,
    ),
    Case(
        "frame-interpolation interpolate",
        "frame-interpolation",
        ("interpolate", "{in}", "--factor", "2", "--input-fps", "30", "--simulate", "-o", "{out}/frames"),
        14,
        frames,
    ),
)


def command(case: Case, inputs: Path, output: Path, *, again: bool) -> list[str]:
    """The command line; ``again``: after a kill."""
    places = {"{in}": str(inputs), "{out}": str(output)}
    arguments = [*case.arguments, *(case.rerun if again else ())]
    for name, path in places.items():
        arguments = [argument.replace(name, path) for argument in arguments]
    return [sys.executable, "-m", f"multiway_{case.app.replace('-', '_')}", *arguments]


def run(line: list[str], kill_after: float | None = None) -> tuple[int, str]:
    """(exit code, standard error); killed with all its children after so many seconds."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            line, stdout=subprocess.DEVNULL, stderr=errors, env=environment, start_new_session=True
        )
        try:
            code = process.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        errors.seek(0)
        return code, errors.read()


def digest(case: Case, output: Path) -> dict[str, str]:
    """Name -> SHA-256 of every file of the result, without times."""
    top = output / case.result
    found = {}
    for path in sorted(top.rglob("*")):
        if not path.is_file() or TEMPORARY.search(path.relative_to(top).as_posix()):
            continue
        data = path.read_bytes()
        if case.ignored and path.suffix in (".json", ".jsonl"):
            rows = [json.loads(row) for row in data.decode().splitlines()]
            data = json.dumps([_without(row, case.ignored) for row in rows]).encode()
        found[path.relative_to(top).as_posix()] = hashlib.sha256(data).hexdigest()
    return found


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, keys) for key, item in value.items() if key not in keys}
    return [_without(item, keys) for item in value] if isinstance(value, list) else value


def study(case: Case, kills: int, seed: int, log: Path) -> None:
    """Trials until ``kills`` kills of the case are in the log."""
    done = sum(row["kills"] for row in read_log(log) if row["case"] == case.name)
    if done >= kills:
        return
    with tempfile.TemporaryDirectory(prefix="sigkill-") as folder:
        inputs = Path(folder, "in")
        inputs.mkdir()
        case.prepare(inputs)
        reference = Path(folder, "reference")
        started = time.monotonic()
        code, errors = run(command(case, inputs, reference, again=False))
        whole = time.monotonic() - started
        if code:
            raise SystemExit(f"{case.name}: {errors[-2000:]}")
        expected = digest(case, reference)
        if not expected:
            raise SystemExit(f"{case.name}: nothing to compare")
        while done < kills:
            row = trial(
                case,
                inputs,
                Path(folder, "out"),
                expected,
                whole,
                random.Random(f"{seed}.{case.name}.{done}"),
            )
            with log.open("a") as out:
                out.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            done += max(row["kills"], 1)


def trial(
    case: Case, inputs: Path, output: Path, expected: dict[str, str], whole: float, generator: random.Random
) -> dict[str, Any]:
    """One output killed one to three times and then finished."""
    shutil.rmtree(output, ignore_errors=True)
    moments, lines, code = [], [], 0
    for number in range(generator.choice([1, 1, 2, 3])):
        after = generator.uniform(0.05, 1.0) * whole
        code, errors = run(command(case, inputs, output, again=number > 0), after)
        if code != -signal.SIGKILL:
            break
        moments.append(round(after, 2))
    finished = code == 0 and bool(moments) is False
    if not finished and code in (0, -signal.SIGKILL):
        code, errors = run(command(case, inputs, output, again=True))
        lines = errors.splitlines()[-3:] if code else []
    found = digest(case, output)
    left = [path.name for path in output.rglob(".*.tmp")] if output.exists() else []
    return {
        "case": case.name, "kills": len(moments), "moments": moments, "exit": code, "equal": found == expected,
        "differ": sorted({*found.items()} ^ {*expected.items()})[:3] if found != expected else [],
        "left": len(left), "errors": lines,
    }  # fmt: skip


def read_log(log: Path) -> list[dict[str, Any]]:
    """The trials of earlier runs."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def report(log: Path, output: Path) -> None:
    """Write the table."""
    rows = []
    trials = read_log(log)
    for case in CASES:
        own = [row for row in trials if row["case"] == case.name]
        if own:
            good = sum(row["equal"] for row in own)
            rows.append(
                [
                    f"`{case.name}`",
                    sum(row["kills"] for row in own),
                    len(own),
                    good,
                    sum(r["left"] > 0 for r in own),
                ]
            )
    data = harness.provenance("sigkill") | {"trials": trials}
    heads = ["command", "kills", "outputs", "equal to a run without kills", "temporary files left"]
    harness.save(output, "sigkill", data, "# SIGKILL at random moments\n\n" + harness.table(heads, rows))


def main() -> None:
    parser = harness.parser(__doc__, "trust")
    parser.add_argument("--only", default="", metavar="TEXT", help="commands whose name contains this")
    parser.add_argument("--share", type=float, default=1.0, help="of the 200 kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("sigkill.jsonl"))
    options = parser.parse_args()
    for case in CASES:
        if options.only in case.name:
            study(case, max(1, round(case.kills * options.share)), options.seed, options.log)
    report(options.log, options.output)


if __name__ == "__main__":
    main()
