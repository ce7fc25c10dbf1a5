"""Kosmos-2 against the class of `transformers`: the same random weights, one thread, measured in turn.

    python -m benchmarks.vision_language.grounding_speed [--sizes mid full] [--parts speed loading]
        [--rounds 3] [--scratch DIR]

The real size (1.66 G parameters) in bfloat16 and a mid size (about 200 M) in float32 and bfloat16, in the published
layout, from a scratch folder that is removed at the end. A run adds its parts to the results of earlier ones.

Loading is measured with a float32 file, which is what is published, in a fresh process for each side and round: seconds
until the model is built, and until every weight was read once; the peak resident set is that of the process from its
start until then. Speed is measured in one process that holds both networks and lets them take turns (A B A B ...):

* tower: one picture through vision tower and connector,
* prompt: 80 tokens with the picture's 64 in them, until the logits of the next token are there,
* step: one decoding step at batch 1 and 8 behind that prompt. The peer's step is its bare forward pass with its cache,
  without the time that its `generate` takes around it,
* phrases: where ten phrases are in one picture whose features are known, four tokens each: ours with the prompt's
  beginning read once, ours one phrase after the other, the peer's `generate` one phrase after the other.

Times are CPU seconds of a single thread, because other work may share the machine; a ratio is the median of the ratios
of measurements that follow each other. Both must write the same 24 tokens in float32, or the run fails. Needs 4 GB of
disk (7 GB for loading) and 8 GB of memory for the full size; about 5 CPU minutes with it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from torch import Tensor

SIDES = ("multiway", "transformers")
PARTS = ("speed", "loading")
DTYPES = {"mid": ("float32", "bfloat16"), "full": ("bfloat16",)}
MID: dict[str, Any] = {
    "vision": {"hidden_size": 512, "num_layers": 8, "num_heads": 8, "inner_size": 2048},
    "text": {"hidden_size": 1024, "num_layers": 8, "num_heads": 16, "inner_size": 4096},
}
PROMPT_TOKENS = 80
STEPS = 6
PHRASES, PHRASE_TOKENS, BOX_TOKENS = 10, 6, 4
SAME_TOKENS = 24
TARGETS = {
    "step_1": 1.2,
    "step_8": 1.5,
    "phrases_shared": 3.0,
    "load_cpu_seconds": 1.43,  # 0.7 of their time
    "load_peak_rss_bytes": 0.7,
}
NAMES = {
    "tower": ("tower and connector", "pictures/s", 1),
    "prompt": (f"prompt of {PROMPT_TOKENS} tokens", "s", 0),
    "step_1": ("decoding, batch 1", "tokens/s", 1),
    "step_8": ("decoding, batch 8", "tokens/s", 8),
    "phrases": (f"{PHRASES} phrases one after the other", "s", 0),
}


def write_model(size: str, folder: Path, dtype: torch.dtype) -> int:
    """Random weights in the published layout; returns the number of parameters."""
    from dataclasses import replace

    from multiway_core.checkpoint import on_meta
    from multiway_vision_language.kosmos2 import checkpoint
    from multiway_vision_language.kosmos2.config import KOSMOS_2
    from multiway_vision_language.kosmos2.model import Kosmos2

    config = KOSMOS_2
    if size == "mid":
        config = replace(
            config,
            vision=replace(config.vision, **MID["vision"]),
            text=replace(config.text, **MID["text"]),
        )
    with on_meta():
        model = Kosmos2(config)
    # Repeated: drawing 1.7 G numbers would take a minute. Tensors of different sizes begin at different places of it.
    noise = (torch.randn((1 << 22) + 1, generator=torch.Generator().manual_seed(0)) * 0.03).to(dtype)
    count = 0
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                repeats = -(-parameter.numel() // len(noise))
                values = noise.repeat(repeats)[: parameter.numel()].view(parameter.shape).clone()
                if "norm" in type(module).__name__.lower() and name == "weight":
                    values += 1
                module._parameters[name] = torch.nn.Parameter(values)
                count += parameter.numel()
    checkpoint.save(model, folder)
    return count


def status_bytes(key: str) -> int:
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith(key + ":"):
            return int(row.split()[1]) * 1024
    raise RuntimeError(f"this system does not tell {key}")


def load(side: str, folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    if side == "multiway":
        from multiway_vision_language.kosmos2 import checkpoint

        return checkpoint.load(folder, dtype=dtype)
    from transformers import Kosmos2ForConditionalGeneration

    return Kosmos2ForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()


def measure_loading(side: str, folder: Path, dtype: torch.dtype) -> dict[str, float]:
    """In this fresh process. Imports are not timed, the memory they take is counted."""
    if side == "multiway":
        pass
    else:
        from transformers import Kosmos2ForConditionalGeneration  # noqa: F401
    cpu, wall = time.process_time(), time.perf_counter()
    model = load(side, folder, dtype)
    values = {"load_cpu_seconds": time.process_time() - cpu, "load_wall_seconds": time.perf_counter() - wall}
    values["load_peak_rss_bytes"] = status_bytes("VmHWM")
    with torch.inference_mode():
        values["checksum"] = sum(float(p.sum(dtype=torch.float32)) for p in model.parameters())
    values["touched_cpu_seconds"] = time.process_time() - cpu
    values["peak_rss_bytes"] = status_bytes("VmHWM")
    return values


class WordIds:
    """The prompts of this run are drawn ids."""

    def encode(self, text: str) -> list[int]:
        return []

    def encode_with_offsets(self, text: str) -> list[tuple[int, int, int]]:
        return []

    def decode(self, ids: Any) -> str:
        return ""


class Ours:
    def __init__(self, model: Any) -> None:
        from multiway_vision_language.kosmos2.generation import Kosmos2Generator
        from multiway_vision_language.kosmos2.processor import Kosmos2Processor

        self.model = model
        self.generator = Kosmos2Generator(model, Kosmos2Processor(model.config, WordIds()))
        self.images: Any = None

    def tower(self, pixels_BCHW: Tensor) -> None:
        self.images = self.model.encode_images(pixels_BCHW)

    def prompt(self, ids: list[int], rows: int = 1) -> Any:
        prefix = self.generator.prefill([ids], self.images, room=SAME_TOKENS + STEPS + 2)
        if rows > 1:
            prefix = self.generator.extend(prefix, [[5]] * rows, room=STEPS + 2)
        return prefix

    def step(self, prefix: Any, token: int) -> None:
        tokens_BT = torch.full((len(prefix), 1), token)
        valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        self.model(tokens_BT, valid_BT, cache=prefix.cache)

    def decoding(self, count: int) -> Any:
        from multiway_vision_language.kosmos2.generation import Decoding

        return Decoding(max_new_tokens=count)

    def write(self, ids: list[int], count: int) -> list[int]:
        prefix = self.generator.prefill([ids], self.images, room=count)
        return self.generator.generate(prefix, self.decoding(count))[0].ids

    def shared(self, head: list[int], phrases: list[list[int]]) -> None:
        prefix = self.generator.prefill([head], self.images)
        self.generator.generate(
            self.generator.extend(prefix, phrases, room=BOX_TOKENS), self.decoding(BOX_TOKENS)
        )


class Theirs:
    def __init__(self, model: Any) -> None:
        self.model = model
        self.images: Any = None
        self.slots = model.config.latent_query_num

    def tower(self, pixels_BCHW: Tensor) -> None:
        self.images = self.model.get_image_features(pixels_BCHW.to(self.model.dtype)).pooler_output

    def inputs(self, ids: list[int]) -> dict[str, Tensor]:
        places = torch.zeros(1, len(ids), dtype=torch.long)
        places[0, 2 : 2 + self.slots] = 1
        tokens = torch.tensor([ids])
        return {
            "input_ids": tokens,
            "attention_mask": torch.ones_like(tokens),
            "image_embeds": self.images,
            "image_embeds_position_mask": places,
        }

    def prompt(self, ids: list[int], rows: int = 1) -> Any:
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config.text_config)
        self.model.text_model(**self.inputs(ids), cache=cache, use_cache=True, logits_to_keep=1)
        if rows > 1:
            cache.batch_repeat_interleave(rows)
            self.step(cache, 5)
        return cache

    def step(self, cache: Any, token: int) -> None:
        rows = cache.layers[0].keys.shape[0]
        self.model.text_model(
            input_ids=torch.full((rows, 1), token), cache=cache, use_cache=True, logits_to_keep=1
        )

    def write(self, ids: list[int], count: int) -> list[int]:
        written = self.model.generate(
            **self.inputs(ids),
            max_new_tokens=count,
            do_sample=False,
            no_repeat_ngram_size=3,
            eos_token_id=2,
            pad_token_id=1,
        )
        return written[0, len(ids) :].tolist()


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def measure_speed(folder: Path, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """Both networks in this process, in turn; every number of every round."""
    sides: dict[str, Any] = {
        "multiway": Ours(load("multiway", folder, dtype)),
        "transformers": Theirs(load("transformers", folder, dtype)),
    }
    ours = sides["multiway"]
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in SIDES}

    def in_turn(key: str, work: Callable[[Any, str], Any], times: int) -> dict[str, Any]:
        for number in range(times + 1):  # the first turn warms up
            found = {}
            for name, side in sides.items():
                spent, found[name] = seconds(lambda side=side, name=name: work(side, name))
                if number:
                    taken[name].setdefault(key, []).append(spent)
        return found

    size = ours.model.config.vision.image_size
    generator = torch.Generator().manual_seed(1)
    pixels_BCHW = torch.randn(1, 3, size, size, generator=generator)
    tokens = ours.model.config.tokens
    head = ours.generator.processor.prompt("")
    words = torch.randint(
        100, 60_000, (PROMPT_TOKENS + PHRASES * PHRASE_TOKENS,), generator=generator
    ).tolist()
    prompt = head + words[: PROMPT_TOKENS - len(head)]
    phrases = [
        [tokens.phrase, *words[PROMPT_TOKENS + PHRASE_TOKENS * row :][: PHRASE_TOKENS - 2], tokens.phrase_end]
        for row in range(PHRASES)
    ]
    with torch.inference_mode():
        in_turn("tower", lambda side, _: side.tower(pixels_BCHW), rounds)
        in_turn("prompt", lambda side, _: side.prompt(prompt), rounds)
        for rows in (1, 8):
            caches = {name: side.prompt(prompt, rows) for name, side in sides.items()}
            in_turn(f"step_{rows}", lambda side, name, caches=caches: side.step(caches[name], 7), STEPS - 1)
            del caches
        for number in range(max(rounds - 1, 1) + 1):
            spent = {
                ("multiway", "phrases_shared"): seconds(lambda: ours.shared(head, phrases))[0],
                **{
                    (name, "phrases"): seconds(
                        lambda side=side: [side.write(head + phrase, BOX_TOKENS) for phrase in phrases]
                    )[0]
                    for name, side in sides.items()
                    if number  # two minutes of the full size: nothing is left to be warmed up
                },
            }
            for (name, key), value in spent.items():
                if number:
                    taken[name].setdefault(key, []).append(value)
        written = (
            [side.write(prompt, SAME_TOKENS) for side in sides.values()] if dtype == torch.float32 else []
        )
    if written and written[0] != written[1]:
        raise SystemExit("the two implementations did not write the same tokens in float32")
    return {"taken": taken, "written": written[:1]}


def in_process(work: str, size: str, dtype: str, folder: Path, rounds: int, side: str = "") -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, "--work", work, "--sizes", size, "--dtype", dtype]
    command += ["--scratch", str(folder), "--rounds", str(rounds), "--side", side]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    values = json.loads(done.stdout.splitlines()[-1])
    print(size, dtype, work, side, values, file=sys.stderr, flush=True)
    return values


def measure(part: str, size: str, dtype: str, scratch: Path | None, rounds: int) -> dict[str, Any]:
    """One part of the results about one size in one data type."""
    folder = Path(tempfile.mkdtemp(prefix="kosmos-2-", dir=scratch))
    try:
        in_file = "float32" if part == "loading" else dtype
        values: dict[str, Any] = in_process("write", size, in_file, folder, rounds)
        if part == "speed":
            values |= in_process("speed", size, dtype, folder, rounds)
        else:
            values |= {name: [] for name in SIDES}
            for _ in range(rounds):
                for name in SIDES:
                    values[name].append(in_process("loading", size, dtype, folder, rounds, name))
    finally:
        shutil.rmtree(folder)
    return values | {"started_at": harness.STARTED_AT, "rounds": rounds, "load_average": os.getloadavg()[0]}


def rows_of(size: str, dtype: str, parts: dict[str, Any]) -> list[str]:
    parameters = next(iter(parts.values()))["parameters"]
    lines = []

    def add(name: str, mine: str, other: str, ratio: float, key: str) -> None:
        target, verdict, bound = TARGETS.get(key), "", ""
        if target is not None:
            smaller = key == "load_peak_rss_bytes"
            bound = ("<= " if smaller else ">= ") + str(target)
            verdict = "met" if (ratio <= target if smaller else ratio >= target) else "**missed**"
        case = f"{size} ({parameters / 1e6:,.0f} M), {dtype}"
        lines.append(f"| {case} | {name} | {mine} | {other} | {ratio:.2f} | {bound} | {verdict} |")

    def median_ratio(first: list[float], second: list[float]) -> float:
        return statistics.median(b / a for a, b in zip(first, second, strict=True))

    if "speed" in parts:
        speed_rows(parts["speed"]["taken"], add, median_ratio)
    if "loading" in parts:
        loading_rows(parts["loading"], add, median_ratio)
    return lines


def speed_rows(taken: dict[str, Any], add: Callable[..., None], median_ratio: Callable[..., float]) -> None:
    for key, (name, unit, count) in NAMES.items():
        pair = [taken[side][key] for side in SIDES]
        medians = [statistics.median(times) for times in pair]
        shown = [f"{count / value:.2f} {unit}" if count else f"{value:.2f} {unit}" for value in medians]
        add(name, *shown, median_ratio(*pair), key)
    shared, single = taken["multiway"]["phrases_shared"], taken["multiway"]["phrases"]
    add(
        f"{PHRASES} phrases, ours: prefix shared (left) or not (right)",
        f"{statistics.median(shared):.2f} s",
        f"{statistics.median(single):.2f} s",
        median_ratio(shared, single),
        "phrases_shared",
    )


def loading_rows(
    loading: dict[str, Any], add: Callable[..., None], median_ratio: Callable[..., float]
) -> None:
    for key, name, form, unit in (
        ("load_cpu_seconds", "loading a float32 file", "{:.2f} s", 1.0),
        ("touched_cpu_seconds", "the same, and every weight read once", "{:.2f} s", 1.0),
        ("load_peak_rss_bytes", "peak resident set of loading", "{:.0f} MiB", 2.0**20),
        ("peak_rss_bytes", "the same, and every weight read once", "{:.0f} MiB", 2.0**20),
    ):
        pair = [[row[key] for row in loading[side]] for side in SIDES]
        medians = [statistics.median(values) for values in pair]
        ratio = medians[0] / medians[1] if "bytes" in key else median_ratio(*pair)
        add(name, *(form.format(value / unit) for value in medians), ratio, key)


def main() -> None:
    parser = harness.parser(__doc__, "vision_language")
    parser.add_argument("--sizes", nargs="+", default=["mid", "full"], choices=list(DTYPES))
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--scratch", type=Path, help="where to put 3.4 GB for a while; default: the system's choice"
    )
    for hidden in ("--work", "--dtype", "--side"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.work:
        answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what a library prints must not mix with the answer
        size, dtype = options.sizes[0], getattr(torch, options.dtype)
        if options.work == "write":
            answer: dict[str, Any] = {"parameters": write_model(size, options.scratch, dtype)}
        elif options.work == "loading":
            answer = dict(measure_loading(options.side, options.scratch, dtype))
        else:
            answer = measure_speed(options.scratch, dtype, options.rounds)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        return

    file = options.output / "grounding-speed.json"
    options.output.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"results": {}}
    report |= {
        **harness.provenance("grounding-speed"),
        "mid": MID,
        "clock": "CPU seconds of one thread",
    }
    for part in options.parts:
        for size in options.sizes:
            for dtype in DTYPES[size]:
                measured = measure(part, size, dtype, options.scratch, options.rounds)
                report["results"].setdefault(size, {}).setdefault(dtype, {})[part] = measured
                file.write_text(json.dumps(report, indent=1) + "\n")
    page = render(report)
    harness.save(options.output, "grounding-speed", report, page)


def render(report: dict[str, Any]) -> str:
    lines = [
        "| size | | multiway | transformers | ratio | target | |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    runs = []
    for size, by_dtype in report["results"].items():
        for dtype, parts in by_dtype.items():
            lines += rows_of(size, dtype, parts)
            for part, run in parts.items():
                when = f"`--rounds {run['rounds']}`, {run['started_at']}, load {run['load_average']:.0f}"
                runs.append(f"* {size}, {dtype}, {part}: {when}")
    machine, versions = report["machine"], report["versions"]
    head = (
        f"`python -m {__spec__.name}`: the same random weights, one thread, CPU time, in turn; "
        f"{machine['cpu']}, {machine['cores']} cores, torch {versions['torch']}, transformers "
        f"{versions['transformers']}. The ratio is transformers' time over ours (for peak resident sets: ours over "
        "theirs), the median of the rounds' ratios; what is measured is told at the top of the script. Both wrote the "
        "same tokens in float32."
    )
    title = "# Kosmos-2: our engine and the class of `transformers`"
    loads = "Runs and the machine's load at their end:"
    return "\n\n".join([title, head, "\n".join(lines), loads, "\n".join(runs)]) + "\n"


if __name__ == "__main__":
    main()
