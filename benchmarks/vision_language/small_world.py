"""What the small runs of MetaLM and Kosmos-1 share: words, drawings of coloured shapes, made-up names, stages."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_core.training import Loss, TrainConfig, Trainer
from PIL import Image, ImageDraw
from torch import nn

COLOURS = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "brown": (165, 42, 42),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
}
SHAPES = ("circle", "rectangle", "triangle")
LABELS = tuple(a + b for a in ("da", "wu", "ki", "po", "ze") for b in ("x", "g", "mo", "lu"))
SIDE = 64


class Words:
    """One id a word; enough for grammars of a hundred words."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = ["<pad>", "<s>", "</s>", "<mask>", *sorted(set(words))]
        self.ids = {word: index for index, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        for sign in "?:.":
            text = text.replace(sign, f" {sign} ")
        return [self.ids[word] for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.words[index] for index in ids)


@dataclass(frozen=True)
class Scene:
    colour: str
    shape: str

    @property
    def caption(self) -> str:
        return f"a {self.colour} {self.shape} ."


def random_scene(rng: random.Random) -> Scene:
    return Scene(rng.choice(list(COLOURS)), rng.choice(SHAPES))


def draw(scene: Scene, rng: random.Random) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A drawing and the box of its shape, in pixels."""
    light = tuple(rng.randint(225, 255) for _ in range(3))
    picture = Image.new("RGB", (SIDE, SIDE), light)
    width = rng.randint(8, 34)
    height = rng.randint(8, 34) if scene.shape == "rectangle" else width
    left, top = rng.randint(0, SIDE - width), rng.randint(0, SIDE - height)
    box = (left, top, left + width - 1, top + height - 1)
    pen, fill = ImageDraw.Draw(picture), COLOURS[scene.colour]
    if scene.shape == "circle":
        pen.ellipse(box, fill)
    elif scene.shape == "rectangle":
        pen.rectangle(box, fill)
    else:
        pen.polygon([(left, box[3]), (box[2], box[3]), (left + width // 2, top)], fill)
    return np.array(picture), box


def held_out(pair: tuple[str, str]) -> bool:
    """A fifth of the pairs of labels never names things in training."""
    return (LABELS.index(pair[0]) + LABELS.index(pair[1])) % 5 == 0


class Stages:
    """Trains models in named stages, each kept in a folder: what is there is not trained again."""

    def __init__(self, folder: Path, seed: int, scale: float) -> None:
        self.folder, self.seed, self.scale = folder, seed, scale
        self.times: dict[str, dict[str, float]] = {}

    def train(
        self, name: str, model: nn.Module, loss: Callable[..., Loss], data: Any, steps: int, rate: float
    ) -> None:
        """Train ``model`` in place, or take the weights of an earlier run."""
        steps = max(2, round(steps * self.scale))
        config = TrainConfig(
            steps=steps,
            learning_rate=rate,
            warmup_steps=max(1, steps // 20),
            optimizer="muon",
            weight_decay=0.01,
            final_learning_rate_ratio=0.05,
            log_every=25,
            seed=self.seed,
            checkpoint_every_seconds=120,
            keep_checkpoints=1,
        )
        record, started = self.folder / f"{name}.json", time.process_time()
        result = Trainer(model, loss, data, config, self.folder / name).fit()
        if not result.finished:
            raise SystemExit(f"{name}: ended at step {result.step} of {steps}; the same command goes on")
        if record.is_file():
            self.times[name] = json.loads(record.read_text())
        else:
            self.times[name] = {
                "steps": steps,
                "seconds": round(result.seconds, 1),
                "cpu_seconds": round(time.process_time() - started, 1),
                "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            }
            record.write_text(json.dumps(self.times[name]))
        print(name, self.times[name], f"loss {result.loss:.3f}", flush=True)


def stage_table(times: dict[str, dict[str, float]]) -> list[str]:
    """Lines of Markdown: what each stage took."""
    rows = [f"| {name} | {s['steps']} | {s['cpu_seconds']} | {s['seconds']} |" for name, s in times.items()]
    return ["| stage | steps | CPU s | wall s |", "| --- | --- | --- | --- |", *rows]


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def main(
    description: str | None,
    name: str,
    run: Callable[[Stages], dict[str, Any]],
    markdown: Callable[[dict[str, Any]], str],
) -> None:
    """The command line of a small run: trains, measures, writes ``name``.json and ``name``.md."""
    parser = harness.parser(description, "vision_language")
    parser.add_argument("--work", type=Path, default=Path("runs") / name, help="checkpoints of the stages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all numbers of steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    results = run(Stages(options.work, options.seed, options.scale))
    record = {"seed": options.seed, "scale": options.scale, **harness.provenance(name), **results}
    harness.save(options.output, name, record, markdown(record))
