"""Reading recordings of an event camera: ours, expelliarmus, evt3 and evlib; events a second and peak memory.

    python -m benchmarks.event_vision.readers [--megabytes 200] [--rounds 3] [--recordings shapes] [--formats evt3]
        [--output DIR]

Two recordings of 304 x 240 pixels are written in every format with as many events as a DAT file of `--megabytes`
holds: `shapes`, a simulated scene repeated in time, and `scattered`, events of random pixels that share nothing with
their neighbours, the worst case for EVT3. npz and HDF5 get a quarter, CSV a twentieth of the events; a rate is a rate.

Every measurement is a process of its own on one thread, sides in turn, and the best of `--rounds` counts; CPU seconds
without imports, those of child processes included (HDF5 is read in one). Peak memory is the largest resident set above
that before reading. Ours checks every event (order of time, sensor, polarity), the peers do not. A side whose last time
differs from what was written is marked.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
os.environ.update(dict.fromkeys(("RAYON_NUM_THREADS", "POLARS_MAX_THREADS"), "1"))

import numpy as np
import psutil
from multiway_event_vision.events import Events
from multiway_event_vision.formats import open_events, write_events

SIZE = (304, 240)
SHARE_OF_EVENTS = {"dat": 1.0, "evt2": 1.0, "evt3": 1.0, "npz": 0.25, "hdf5": 0.25, "csv": 0.05}
SUFFIX = {"dat": ".dat", "evt2": ".raw", "evt3": ".raw", "npz": ".npz", "hdf5": ".h5", "csv": ".csv"}
SIDES = {
    "ours": "ours, in chunks",
    "ours-numpy": "ours, in chunks, without a compiler",
    "ours-whole": "ours, whole",
    "expelliarmus": "expelliarmus, whole",
    "expelliarmus-chunks": "expelliarmus, in chunks",
    "evt3": "evt3, whole",
    "evt3-chunks": "evt3, in chunks",
    "evlib": "evlib, whole",
}
FORMATS_OF = {
    "ours": tuple(SHARE_OF_EVENTS),
    "ours-numpy": ("evt2", "evt3"),
    "ours-whole": ("dat", "evt2", "evt3"),
    "expelliarmus": ("dat", "evt2", "evt3"),
    "expelliarmus-chunks": ("dat", "evt2", "evt3"),
    "evt3": ("evt3",),
    "evt3-chunks": ("evt3",),
    "evlib": ("evt2", "evt3"),
}
SCENE_US = 500_000


class Repeated:
    """`scene` again and again until `count` events; an `EventStream`."""

    width, height = SIZE

    def __init__(self, scene: Callable[[int], Events], count: int) -> None:
        self.scene, self.count = scene, count

    def chunks(self, chunk_events: int = 0) -> Iterator[Events]:
        sent = turn = 0
        while sent < self.count:
            events = self.scene(turn)[: self.count - sent]
            yield Events(events.t + turn * SCENE_US, events.x, events.y, events.p, *SIZE)
            sent, turn = sent + len(events), turn + 1

    def last_time(self) -> int:
        """Microseconds."""
        return max(int(events.t[-1]) for events in self.chunks())


def recordings(count: int) -> dict[str, Repeated]:
    from multiway_event_vision.simulator import MovingShapes, SensorConfig, ShapesConfig, Simulation

    config = ShapesConfig(*SIZE, duration_us=SCENE_US - 1, min_shapes=3, radius=(15.0, 40.0))
    shapes = Simulation(MovingShapes(config, seed=0), SensorConfig(noise_hz=0.5)).read()

    def scattered(turn: int) -> Events:
        generator = np.random.default_rng(turn)
        t = np.sort(generator.integers(0, SCENE_US, 200_000))
        x, y = (generator.integers(0, side, len(t)) for side in SIZE)
        return Events.from_arrays(t, x, y, generator.integers(0, 2, len(t)), *SIZE)

    return {"shapes": Repeated(lambda turn: shapes, count), "scattered": Repeated(scattered, count)}


# -------------------------------------------------------------------------------------------- sides, one a process


def read_ours(path: Path, name: str) -> tuple[int, int]:
    count, last = 0, 0
    for events in open_events(path, size=SIZE).chunks():
        count, last = count + len(events), int(events.t[-1])
    return count, last


def read_ours_whole(path: Path, name: str) -> tuple[int, int]:
    events = open_events(path, size=SIZE).read()
    return len(events), int(events.t[-1])


def read_expelliarmus(path: Path, name: str) -> tuple[int, int]:
    from expelliarmus import Wizard

    events = Wizard(encoding=name).read(path)
    return len(events), int(events["t"][-1])


def read_expelliarmus_chunks(path: Path, name: str) -> tuple[int, int]:
    from expelliarmus import Wizard

    wizard = Wizard(encoding=name, chunk_size=1 << 18)
    wizard.set_file(path)
    count, last = 0, 0
    for events in wizard.read_chunk():
        count, last = count + len(events), int(events["t"][-1])
    return count, last


def read_evt3(path: Path, name: str) -> tuple[int, int]:
    import evt3

    events = evt3.decode_file(str(path))
    return len(events), int(events.t[-1])


def read_evt3_chunks(path: Path, name: str) -> tuple[int, int]:
    import evt3

    count, last = 0, 0
    for events in evt3.decode_file_batches(str(path)):
        count, last = count + len(events), int(events.t[-1]) if len(events) else last
    return count, last


def read_evlib(path: Path, name: str) -> tuple[int, int]:
    import evlib

    frame = evlib.load_events(str(path), sort=False).collect()
    return frame.height, int(frame["t"].dt.total_microseconds()[-1])


READERS = {
    "ours": read_ours,
    "ours-numpy": read_ours,
    "ours-whole": read_ours_whole,
    "expelliarmus": read_expelliarmus,
    "expelliarmus-chunks": read_expelliarmus_chunks,
    "evt3": read_evt3,
    "evt3-chunks": read_evt3_chunks,
    "evlib": read_evlib,
}


def status_bytes(key: str) -> int:
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith(key + ":"):
            return int(row.split()[1]) * 1024
    raise RuntimeError(f"this system does not tell {key}")


def cpu_seconds() -> float:
    """Of this process and its children, those that still run too."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    others = [(times.user, times.system) for times in running] + [(ended.ru_utime, ended.ru_stime)]
    return time.process_time() + sum(map(sum, others))


def work(side: str, path: Path, name: str, small: Path) -> dict[str, Any]:
    """Read `path` once in this fresh process; `small`, a recording of the same format, loads what is needed before."""
    reader = READERS[side]
    reader(small, name)
    before = status_bytes("VmHWM")
    wall, cpu = time.perf_counter(), cpu_seconds()
    count, last = reader(path, name)
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    peak = status_bytes("VmHWM")
    return {
        "events": count,
        "last_us": last,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "peak_bytes": peak - before,
    }


# ---------------------------------------------------------------------------------------------------- the report


def measure(
    megabytes: int, rounds: int, scratch: Path | None, scenes: list[str], formats: list[str]
) -> dict[str, Any]:
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="event-readers-", dir=scratch) as place:
        for scene, stream in recordings(megabytes * 1_000_000 // 8).items():
            if scene not in scenes:
                continue
            runs[scene] = {}
            for name in formats:
                share = SHARE_OF_EVENTS[name]
                path, small = (Path(place) / f"{part}{SUFFIX[name]}" for part in ("recording", "small"))
                part = Repeated(stream.scene, int(stream.count * share))
                seconds = time.process_time()
                write_events(path, part, format=name)
                seconds = time.process_time() - seconds
                write_events(small, Repeated(stream.scene, 1000), format=name)
                sides = [side for side in SIDES if name in FORMATS_OF[side]]
                found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
                for _ in range(rounds):
                    for side in sides:
                        run = run_side(side, path, name, small)
                        if run is not None:
                            found[side].append(run)
                runs[scene][name] = {
                    "events": part.count,
                    "file_bytes": path.stat().st_size,
                    "last_us": part.last_time(),
                    "write_cpu_seconds": seconds,
                    "sides": {side: measured for side, measured in found.items() if measured},
                }
                path.unlink()
                print(
                    scene, name, {s: round(rate(m) / 1e6, 1) for s, m in found.items() if m}, file=sys.stderr
                )
    return runs


def run_side(side: str, path: Path, name: str, small: Path) -> dict[str, Any] | None:
    """One measurement; None where the peer is not installed or cannot read the file."""
    command = [sys.executable, "-m", __spec__.name, "--worker", side, str(path), name, str(small)]
    environment = os.environ | ({"MULTIWAY_KERNELS": "reference"} if side == "ours-numpy" else {})
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        if side.startswith("ours"):
            raise RuntimeError(done.stderr)
        print(f"{side} left out: {done.stderr.splitlines()[-1:]}", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def rate(measured: list[dict[str, Any]]) -> float:
    """Events a CPU second, best round."""
    return max(run["events"] / run["cpu_seconds"] for run in measured)


def table(runs: dict[str, Any]) -> str:
    lines = [
        "| recording | format | bytes an event | | Mevents / CPU-s | ours over it | peak memory, MiB | |",
        "|---|---|--:|---|--:|--:|--:|---|",
    ]
    for scene, formats in runs.items():
        for name, made in formats.items():
            for side, measured in made["sides"].items():
                # Like is compared with like: chunks with chunks, whole with whole.
                own = (
                    "ours" if side.endswith("-chunks") or "ours-whole" not in made["sides"] else "ours-whole"
                )
                factor = rate(made["sides"][own]) / rate(measured)
                last = measured[0]
                remark = (
                    "" if (last["events"], last["last_us"]) == (made["events"], made["last_us"]) else "wrong"
                )
                if last["events"] == made["events"] and remark:
                    remark = "times wrong"
                elif remark:
                    remark = f"{last['events'] - made['events']:+,} events"
                lines.append(
                    f"| {scene} | {name} | {made['file_bytes'] / made['events']:.2f} | {SIDES[side]} | "
                    f"{rate(measured) / 1e6:.1f} | {'–' if side.startswith('ours') else f'{factor:.2f} x'} | "
                    f"{max(run['peak_bytes'] for run in measured) / 2**20:.0f} | {remark} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, "event_vision")
    parser.add_argument("--megabytes", type=int, default=200, help="size of the DAT file")
    parser.add_argument("--rounds", type=int, default=3)
    scenes = ("shapes", "scattered")
    parser.add_argument("--recordings", nargs="+", choices=scenes, default=list(scenes))
    parser.add_argument("--formats", nargs="+", choices=tuple(SHARE_OF_EVENTS), default=list(SHARE_OF_EVENTS))
    parser.add_argument(
        "--scratch", type=Path, help="where the recordings lie for a while; default: the system's choice"
    )
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        side, path, name, small = options.worker
        print(json.dumps(work(side, Path(path), name, Path(small))))
        return
    from importlib.metadata import version

    from multiway_core.evaluation.machine import installed_versions

    runs = measure(options.megabytes, options.rounds, options.scratch, options.recordings, options.formats)
    machine = harness.machine()
    sides = {side for formats in runs.values() for made in formats.values() for side in made["sides"]}
    peers = [peer for peer in ("expelliarmus", "evt3", "evlib") if peer in sides]
    versions = installed_versions() | {peer: version(peer) for peer in peers}
    report = {
        **harness.provenance("event-readers"),
        "versions": versions,
        "megabytes": options.megabytes,
        "runs": runs,
    }
    events = options.megabytes * 1_000_000 // 8
    load = f"{machine['load_average']:.1f}"
    text = (
        f"# Readers of event recordings\n\n{events:,} events in DAT and EVT, {options.megabytes} MB "
        f"as DAT; {machine['cpu']}, one thread, shared with other work (load {load}), {harness.STARTED_AT}; "
        f"{', '.join(f'{peer} {versions[peer]}' for peer in peers)}. Best of {options.rounds} rounds. Ours checks "
        "every event, the peers none. Whole is compared with whole, chunks with chunks. Peak memory is above that of "
        f"the process with all loaded.\n\n{table(runs)}\n"
    )
    harness.save(options.output, "event-readers", report, text)


if __name__ == "__main__":
    main()
