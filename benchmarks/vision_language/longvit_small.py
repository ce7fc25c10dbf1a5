"""LongViT's claim in small: a label that needs the whole slide, beside bags of tiles and a shrunk slide.

    python -m benchmarks.vision_language.longvit_small --cells /tmp/longvit-small

Slides are those of `longvit.tissue`, 192 pixels a side, in 12 x 12 patches. ``order``: whether the nest of small cells
lies left or right of the other; ``local``: whether the cells of both are small or large. Every method trains from
scratch, first on ``local``, then, from those weights, on ``order``; training and test slides have seeds of their own.
What differs is what a method sees together; widths and layers are chosen so that a pass costs all of them alike:

* LongViT: all patches, dilated attention;
* tiles + mean, tiles + attention MIL (gated; Ilse et al. 2018): a convolutional encoder of tiles of 2 x 2 patches;
* tiles + places + mean: the same, and each tile knows its place before the mean is taken;
* shrunk ViT: the slide shrunk 16 times in patches of 1 pixel, so as many patches as LongViT, dense attention.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from multiway_blocks.dilated_pattern import DilatedPattern
from multiway_vision_language.longvit.bounded import normalised
from multiway_vision_language.longvit.config import LONGVIT_TISSUE
from multiway_vision_language.longvit.metrics import auc
from multiway_vision_language.longvit.model import LongViT, PatchAttention, grid_table
from multiway_vision_language.longvit.tissue import Label, Tissue
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import harness

BATCH, TRAIN, TEST = 16, 1024, 512
STEPS: dict[Label, int] = {"local": 120, "order": 400}
RATE = 2e-3
GRID_SCALE = 1.0
"""Of the positions that every method with positions begins with."""
SEEDS = (0, 1, 2)
_BASE = dataclasses.replace(LONGVIT_TISSUE, task="classify", labels=("left", "right"))
SIDE, PATCH = _BASE.image_size, _BASE.patch_size
TILE = 2 * PATCH
ENCODED, MIXED, SHRUNK_LAYERS = 640, 1472, 3
"""Inner widths of the tile methods and layers of the shrunk ViT, for LongViT's FLOPs."""


@functools.cache
def pool(folder: Path, label: Label, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Generated slides, uint8 (N, side, side, 3), and their labels (N,); kept in ``folder``."""
    file = folder / f"slides-{label}-{seed}-{count}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        slides = [Tissue(seed).slide(number, SIDE, label) for number in range(count)]
        np.savez(
            file, pixels=np.stack([slide.pixels for slide in slides]), label=[slide.label for slide in slides]
        )
    data = np.load(file)
    return torch.from_numpy(data["pixels"]), torch.from_numpy(data["label"])


def with_grid(model: LongViT) -> LongViT:
    """The model, its positions those of a grid."""
    with torch.no_grad():
        side = model.config.image_size // model.config.patch_size
        model.positions.copy_(grid_table(side, model.config.hidden_size, GRID_SCALE))
    return model


def one_segment(model: LongViT) -> LongViT:
    """The same network with dense attention."""
    for module in model.modules():
        if isinstance(module, PatchAttention):
            module.pattern_of = lambda tokens: DilatedPattern(((tokens, 1),), mask_padding=False)
    return model


class Tiles(nn.Module):
    """A vector of each tile, then a pooling of the tiles."""

    def __init__(self, pooling: Literal["mean", "attention", "places"]) -> None:
        super().__init__()
        self.pooling, width = pooling, _BASE.hidden_size
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, PATCH, stride=PATCH), nn.GELU(),
            nn.Conv2d(width, ENCODED, TILE // PATCH, stride=TILE // PATCH), nn.GELU(),
            nn.Conv2d(ENCODED, width, 1),
        )  # fmt: skip
        self.values, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.score = nn.Linear(width, 1)
        self.places = nn.Parameter(grid_table(SIDE // TILE, width, GRID_SCALE))
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, MIXED), nn.GELU(), nn.Linear(MIXED, width)
        )
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2)
        )

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """(B, 3, side, side) -> logits (B, 2)."""
        x_BTE = self.encoder(pixels_B3HW).flatten(2).transpose(1, 2)
        if self.pooling == "places":
            x_BTE = x_BTE + self.places
        x_BTE = x_BTE + self.mix(x_BTE)
        if self.pooling == "attention":
            weight_BT1 = self.score(self.values(x_BTE).tanh() * self.gate(x_BTE).sigmoid()).softmax(dim=1)
            return self.head((weight_BT1 * x_BTE).sum(dim=1))
        return self.head(x_BTE.mean(dim=1))


class ShrunkViT(nn.Module):
    """Dense attention over the slide shrunk ``PATCH`` times."""

    def __init__(self) -> None:
        super().__init__()
        side = SIDE // PATCH
        config = dataclasses.replace(
            _BASE, patch_size=1, image_size=side, input_size=side, num_layers=SHRUNK_LAYERS
        )
        self.vit = one_segment(with_grid(LongViT(config)))

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """(B, 3, side, side) -> logits (B, 2)."""
        return self.vit(nn.functional.avg_pool2d(pixels_B3HW, PATCH))


METHODS: dict[str, Any] = {
    "LongViT": lambda: with_grid(LongViT(_BASE)),
    "tiles + mean": lambda: Tiles("mean"),
    "tiles + attention MIL": lambda: Tiles("attention"),
    "tiles + places + mean": lambda: Tiles("places"),
    "shrunk ViT": ShrunkViT,
}


def rate(step: int, steps: int) -> float:
    """Ten steps up, and the last third down to nothing."""
    return min(1, (step + 1) / 10, 3 * (steps - step) / steps)


def study(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train a method with one seed; its AUC of both labels on the test slides, and its CPU seconds."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model, began = METHODS[name](), time.process_time()
    scores: dict[str, Any] = {"method": name, "seed": seed}
    for label, steps in STEPS.items():
        train_N, answer_N = pool(folder, label, 0, TRAIN)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, functools.partial(rate, steps=steps))
        generator = torch.Generator().manual_seed(seed)
        model.train()
        for _ in range(steps):
            chosen = torch.randint(TRAIN, (BATCH,), generator=generator)
            logits = model(normalised(train_N[chosen].numpy()))
            loss = nn.functional.cross_entropy(logits, answer_N[chosen])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        test_N, answer = pool(folder, label, 1, TEST)
        with torch.inference_mode():
            logits = torch.cat([model.eval()(normalised(part.numpy())) for part in test_N.split(64)])
        scores[label] = auc(logits[:, 1] - logits[:, 0], answer)
        scores[f"{label}_accuracy"] = float((logits.argmax(dim=1) == answer).float().mean())
    spent = time.process_time() - began
    with FlopCounterMode(display=False) as counter:
        model(normalised(test_N[:1].numpy()))
    return scores | {
        "cpu_seconds": spent,
        "flops": counter.get_total_flops(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def main() -> None:
    """Run the cells that are missing, then write results/vision_language/longvit-small.{json,md}."""
    options = harness.parser(__doc__, "vision_language")
    options.add_argument("--cells", type=Path, required=True, help="folder that keeps what was measured")
    options.add_argument("--minutes", type=float, default=120, help="no new cell is begun after so long")
    chosen = options.parse_args()
    cells = []
    for seed in SEEDS:
        for name in METHODS:
            file = chosen.cells / f"{name.replace(' ', '')}-{seed}.json"
            cell = harness.kept(
                file, lambda name=name, seed=seed: study(name, seed, chosen.cells), chosen.minutes
            )
            cells += [] if cell is None else [cell]
    report = harness.provenance("longvit-small") | {
        "steps": STEPS,
        "batch": BATCH,
        "test": TEST,
        "cells": cells,
    }
    rows = []
    for name in METHODS:
        own = [cell for cell in cells if cell["method"] == name]
        if own:
            auc_of = {label: harness.spread([100 * cell[label] for cell in own]) for label in STEPS}
            rows.append(
                (
                    name,
                    auc_of["order"],
                    auc_of["local"],
                    len(own),
                    f"{own[0]['flops'] / 1e6:.1f}",
                    f"{own[0]['parameters']:,}",
                )
            )
    page = (
        "# LongViT: the claim in small\n\n"
        f"`{report['command']}`\n\n{report['machine']}\n\n"
        + harness.table(("method", "AUC order, %", "AUC local, %", "seeds", "MFLOPs", "parameters"), rows)
        + f"\n\nMean and standard deviation over seeds, {TEST} test slides a label, chance is 50. The slides are\n"
        "generated; the benchmark's docstring says how, and what each method sees.\n"
    )
    harness.save(chosen.output, "longvit-small", report, page)


if __name__ == "__main__":
    main()
