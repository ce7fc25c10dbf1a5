"""Training LongViT: fine-tuning on labelled slides or on survival times, and DINO on slides without labels.

training.run(RECIPES["classify"], TrainOptions(output, data=("slides.csv",), init_from="longvit_small.pth"))
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multiway_core import files
from multiway_core.errors import ConfigError, DataError, InputError
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions
from torch import nn

from multiway_vision_language.longvit.batches import (
    DinoBatches,
    Labelled,
    OpenSlide,
    SlideBatches,
    cache_slides,
)
from multiway_vision_language.longvit.bounded import normalised
from multiway_vision_language.longvit.checkpoint import from_pretrained, save
from multiway_vision_language.longvit.config import LONGVIT_SMALL, LONGVIT_TISSUE, LongViTConfig, Task
from multiway_vision_language.longvit.dino import Dino, DinoBatch, DinoConfig
from multiway_vision_language.longvit.metrics import macro_auc
from multiway_vision_language.longvit.model import LongViT, grid_table
from multiway_vision_language.longvit.pipeline import ImageRaster, raster_of, refuse_background, region_of
from multiway_vision_language.longvit.slide_table import (
    SlideRow,
    check_classes,
    folds,
    read_slides,
    refuse_shared_patients,
)
from multiway_vision_language.longvit.survival import (
    check_times,
    concordance_index,
    interval_of,
    risk,
    survival_loss,
    time_bins,
)
from multiway_vision_language.longvit.tissue import LABELS, Label, Tissue

HELD_OUT_ROWS = "held_out_slides.json"
_TRAIN = TrainConfig(
    steps=1, learning_rate=5e-5, schedule="cosine", betas=(0.9, 0.999), weight_decay=0.05, clip_norm=1.0
)

_PRETRAIN = dataclasses.replace(_TRAIN, steps=20_000, learning_rate=5e-4, warmup_steps=1000)


@dataclass(frozen=True)
class FineTuning:
    """The numbers of a fine-tuning.

    Attributes:
        task: classify, with a column ``label``; survival, with ``time`` and ``event``.
        model: sizes of a new model, where training begins with no other (``init_from``).
        size: side of the square that slides are resized to.
        batch_size, epochs: of slides.
        label_smoothing, drop_path: as published, 0.1 both.
        num_folds, fold: which part of the patients is held out, where the CSV has no column ``split``.
        num_bins: intervals of time.
        generated: in place of a CSV, so many generated slides of `tissue.Tissue`, with this label; never turned.
        min_scale: smallest share of a slide's area in a crop; 1 takes slides whole.
        grid_positions: where not 0, a new model begins with sinusoids of row and column, scaled by this, as positions.
        open_slide: reads a file.
        first: a stage before, whose network goes on here.
    """

    task: Task = "classify"
    model: LongViTConfig = LONGVIT_SMALL
    size: int = 1024
    batch_size: int = 8
    epochs: float = 10.0
    label_smoothing: float = 0.1
    drop_path: float = 0.1
    num_folds: int = 5
    fold: int = 0
    num_bins: int = 4
    generated: int = 0
    generated_label: Label = "order"
    min_scale: float = 0.5
    grid_positions: float = 0.0
    open_slide: OpenSlide = raster_of
    train: TrainConfig = _TRAIN
    first: FineTuning | None = None

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """The jobs: of the stage before, where there is one, and of this.

        Raises InputError, DataError (file and line), ModelNotFoundError, CheckpointError, OutputError.
        """
        start = None
        if self.first is not None:
            before = dataclasses.replace(self.first, size=self.size, batch_size=self.batch_size)
            job = before.job(options, name="first")
            yield job
            start = job.model.state_dict()
        yield self.job(options, start)

    def job(
        self, options: TrainOptions, start: Mapping[str, torch.Tensor] | None = None, *, name: str = ""
    ) -> TrainJob:
        """The job of this stage alone; ``start``: the weights it goes on from. Raises as :meth:`build`."""
        if self.generated:
            train, test, pictures, held_out = self._generated(options)
        else:
            train, test = self._split(options)
            folder = options.output / "slides"
            folder.mkdir(parents=True, exist_ok=True)
            every = cache_slides([row.path for row in (*train, *test)], self.size, folder, self.open_slide)
            pictures, held_out = every[: len(train)], every[len(train) :]
        config = dataclasses.replace(
            self.model, task=self.task, input_size=self.size, image_size=self.size, drop_path=self.drop_path,
            labels=self._labels(train, test) if self.task == "classify" else (),
            time_bins=self._bins(train) if self.task == "survival" else (),
        )  # fmt: skip
        torch.manual_seed(options.seed)
        model = from_pretrained(options.init_from, config) if options.init_from else self._new(config)
        if start is not None:
            model.load_state_dict(start)
        settings = options.apply(self._numbers(options, len(train)))
        target_N, event_N = _targets(train, config)
        batches = SlideBatches(
            pictures,
            target_N,
            event_N,
            self.batch_size,
            settings.seed,
            self.min_scale,
            turns=not self.generated,
        )
        files.write_text(
            options.output / HELD_OUT_ROWS,
            json.dumps([{"slide": str(row.path), "patient": row.patient} for row in test], indent=1) + "\n",
        )
        # Generated labels are easy to order: many weights have an AUC of 1, of which the last are the surest.
        best = "loss" if self.generated else "auc" if self.task == "classify" else "c_index"
        return TrainJob(
            model,
            partial(task_loss, label_smoothing=self.label_smoothing),
            batches,
            settings,
            save,
            HeldOut(partial(score, pictures=held_out, rows=test), best=best, larger_is_better=best != "loss"),
            name,
            facts={"train_slides": len(train), "held_out_slides": len(test), "fold": self.fold},
        )

    def _split(self, options: TrainOptions) -> tuple[list[SlideRow], list[SlideRow]]:
        if len(options.data) != 1:
            raise InputError("training needs --data SLIDES.csv, one file (see --help for its columns)")
        rows = read_slides(Path(options.data[0]), self.task)
        if any(row.split for row in rows):
            train = [row for row in rows if row.split != "test"]
            test = [row for row in rows if row.split == "test"]
            if not train or not test:
                raise DataError(f"{options.data[0]}: the column split has no train or no test slides")
            refuse_shared_patients(train, test, options.data[0])
            check_classes(train, "the training slides")
            check_classes(test, "the test slides")
            return train, test
        if not 0 <= self.fold < self.num_folds:
            raise ConfigError(f"fold {self.fold} of {self.num_folds}: expected 0 to {self.num_folds - 1}")
        held_out = set(folds(rows, self.num_folds, 0)[self.fold])
        return (
            [row for index, row in enumerate(rows) if index not in held_out],
            [row for index, row in enumerate(rows) if index in held_out],
        )

    def _generated(
        self, options: TrainOptions
    ) -> tuple[list[SlideRow], list[SlideRow], list[np.ndarray], list[np.ndarray]]:
        folder = options.output / "slides"
        folder.mkdir(parents=True, exist_ok=True)
        found: list[Any] = []
        for split, count in enumerate((self.generated, min(512, max(32, self.generated // 8)))):
            file = folder / f"generated-{self.generated_label}-{split}-{self.size}.npz"
            if not file.exists():
                tissue = Tissue(2 * options.seed + split)
                made = [tissue.slide(number, self.size, self.generated_label) for number in range(count)]
                with files.atomic_write(file) as stream:
                    np.savez(
                        stream,
                        pixels=np.stack([slide.pixels for slide in made]),
                        label=[slide.label for slide in made],
                        time=[slide.time for slide in made],
                        event=[slide.event for slide in made],
                    )
            data = np.load(file)
            names = LABELS[self.generated_label]
            rows = [
                SlideRow(Path(f"{split}-{number}"), f"{split}-{number}", "", float(time), bool(event))
                if self.task == "survival"
                else SlideRow(Path(f"{split}-{number}"), f"{split}-{number}", names[int(label)])
                for number, (label, time, event) in enumerate(
                    zip(data["label"], data["time"], data["event"], strict=True)
                )
            ]
            found += [rows, list(data["pixels"])]
        return found[0], found[2], found[1], found[3]

    def _new(self, config: LongViTConfig) -> LongViT:
        model = LongViT(config)
        if self.grid_positions:
            side = config.image_size // config.patch_size
            with torch.no_grad():
                model.positions.copy_(grid_table(side, config.hidden_size, self.grid_positions))
        return model

    def _labels(self, train: Sequence[SlideRow], test: Sequence[SlideRow]) -> tuple[str, ...]:
        labels = sorted({row.label for row in train})
        unknown = sorted({row.label for row in test} - set(labels))
        if unknown:
            raise DataError(f"the label {unknown[0]!r} is in the held-out slides alone")
        return tuple(labels)

    def _bins(self, train: Sequence[SlideRow]) -> tuple[float, ...]:
        check_times([row.time for row in train])
        return time_bins([row.time for row in train], [row.event for row in train], self.num_bins)

    def _numbers(self, options: TrainOptions, count: int) -> TrainConfig:
        if options.steps is not None or self.train.steps > 1:
            return self.train
        steps = max(1, round(self.epochs * count / (self.batch_size * options.num_shards())))
        return dataclasses.replace(self.train, steps=steps, warmup_steps=max(1, steps // 10))


def task_loss(model: nn.Module, batch: Labelled, label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy with smoothed labels, or the likelihood of survival."""
    logits_BK = model(batch.pixels).float()
    network: Any = getattr(model, "module", model)
    if network.config.task == "survival":
        total = survival_loss(logits_BK, batch.target, batch.event).sum()
    else:
        total = nn.functional.cross_entropy(
            logits_BK, batch.target, label_smoothing=label_smoothing, reduction="sum"
        )
    return Loss(total, len(batch.target), samples=len(batch.target))


@torch.inference_mode()
def outputs(model: Any, pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Logits (N, K), float32, of pictures that were read already."""
    weight = model.positions
    return torch.cat([model(normalised(np.asarray(one)).to(weight)).float().cpu() for one in pictures])


def score(model: Any, pictures: Sequence[np.ndarray], rows: Sequence[SlideRow]) -> dict[str, float]:
    """AUC and loss, or concordance index and loss, of held-out slides."""
    logits_NK, config = outputs(model, pictures), model.config
    target_N, event_N = (torch.from_numpy(values) for values in _targets(rows, config))
    if config.task == "survival":
        return {
            "c_index": concordance_index(
                [row.time for row in rows], [row.event for row in rows], risk(logits_NK).tolist()
            ),
            "loss": float(survival_loss(logits_NK, target_N, event_N).mean()),
        }
    return {
        "auc": macro_auc(logits_NK.softmax(dim=1).numpy(), target_N.tolist()),
        "accuracy": float((logits_NK.argmax(dim=1) == target_N).float().mean()),
        "loss": float(nn.functional.cross_entropy(logits_NK, target_N)),
    }


def _targets(rows: Sequence[SlideRow], config: LongViTConfig) -> tuple[np.ndarray, np.ndarray]:
    if config.task == "survival":
        times = torch.tensor([row.time for row in rows], dtype=torch.float64)
        return interval_of(times, config.time_bins).numpy(), np.array([row.event for row in rows])
    place = {label: index for index, label in enumerate(config.labels)}
    return np.array([place[row.label] for row in rows]), np.zeros(len(rows), bool)


@dataclass(frozen=True)
class Pretraining:
    """DINO on slides without labels: ``options.data`` are files of slides. ``generated``: so many generated ones."""

    model: LongViTConfig = LONGVIT_SMALL
    dino: DinoConfig = field(default_factory=DinoConfig)
    crop: int = 1024
    num_local: int = 4
    batch_size: int = 8
    generated: int = 0
    open_slide: OpenSlide = raster_of
    train: TrainConfig = _PRETRAIN

    def build(self, options: TrainOptions) -> TrainJob:
        """The job; the exported model is the teacher's, without a head. Raises InputError: no slide, or glass alone."""
        rasters: list[Any]
        if self.generated and not options.data:
            tissue = Tissue(2 * options.seed)
            rasters = [
                ImageRaster(_image(tissue.slide(number, 2 * self.crop).pixels))
                for number in range(self.generated)
            ]
        else:
            if not options.data:
                raise InputError("pre-training needs --data: files of slides")
            rasters = [self.open_slide(Path(path)) for path in options.data]
            for raster in rasters:
                refuse_background(raster, region_of(raster, None))
        settings = options.apply(self.train)
        config = dataclasses.replace(
            self.model, task="embed", labels=(), time_bins=(), image_size=self.crop, input_size=self.crop
        )
        torch.manual_seed(options.seed)
        backbone = from_pretrained(options.init_from, config) if options.init_from else LongViT(config)
        return TrainJob(
            Dino(backbone, self.dino),
            dino_objective,
            DinoBatches(
                rasters,
                self.crop,
                self.batch_size,
                settings.steps,
                self.dino.momentum,
                settings.seed,
                self.num_local,
            ),
            settings,
            lambda trained, folder: save(trained.teacher.backbone, folder),
            facts={"slides": len(rasters)},
        )


def dino_objective(model: nn.Module, batch: DinoBatch) -> Loss:
    """DINO's loss; the mean of the batch, as the centre too is of a batch."""
    return Loss(model(batch), 1.0, samples=len(batch.views[0]))


def _image(pixels: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


_SMOKE_MODEL = dataclasses.replace(LONGVIT_TISSUE, patch_size=16, inner_size=64)
_SMALL_TRAIN = dataclasses.replace(_TRAIN, learning_rate=1e-3, warmup_steps=100, precision="bf16")

_TISSUE = FineTuning(
    model=LONGVIT_TISSUE, size=192, batch_size=16, generated=1024, label_smoothing=0.0, drop_path=0.0, min_scale=1.0,
    grid_positions=1.0,
    train=dataclasses.replace(
        _SMALL_TRAIN, steps=400, learning_rate=2e-3, warmup_steps=10, betas=(0.9, 0.98), precision="fp32"
    ),
)  # fmt: skip
_TISSUE_LOCAL = dataclasses.replace(
    _TISSUE, generated_label="local", train=dataclasses.replace(_TISSUE.train, steps=120)
)

_SMOKE = FineTuning(
    model=_SMOKE_MODEL,
    size=192,
    batch_size=4,
    generated=16,
    drop_path=0.0,
    train=dataclasses.replace(_SMALL_TRAIN, steps=6, warmup_steps=1),
)

RECIPES: dict[str, Any] = {
    "classify": FineTuning(),
    "survival": FineTuning(task="survival"),
    "tissue-local": _TISSUE_LOCAL,
    # Texture first, then places from those weights: from nothing the second has no gradient.
    "tissue": dataclasses.replace(_TISSUE, first=_TISSUE_LOCAL),
    "smoke": dataclasses.replace(_SMOKE, first=dataclasses.replace(_SMOKE, generated_label="local")),
    "dino": Pretraining(),
    "dino-smoke": Pretraining(
        model=_SMOKE_MODEL, dino=DinoConfig(outputs=256, inner_size=64, bottleneck=32), crop=128, num_local=2,
        batch_size=2, generated=2, train=dataclasses.replace(_SMALL_TRAIN, steps=6, warmup_steps=1),
    ),
}  # fmt: skip
