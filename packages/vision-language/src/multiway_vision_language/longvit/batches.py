"""Pictures of slides for training: each slide read once into a file of the run, then cropped and flipped at random.

Shape suffixes: N slides, S side of the square picture, B slides of a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from multiway_core import files
from PIL import Image
from torch import Tensor

from multiway_vision_language.longvit.bounded import normalised
from multiway_vision_language.longvit.dino import DinoBatch, teacher_momentum
from multiway_vision_language.longvit.pipeline import (
    BACKGROUND_SHARE,
    Raster,
    background_share,
    read_rows,
    refuse_background,
    region_of,
)

OpenSlide = Callable[[Path], Raster]


def cache_slides(paths: Sequence[Path], side: int, folder: Path, open_slide: OpenSlide) -> list[np.ndarray]:
    """Each slide as uint8 (side, side, 3), mapped from a file in ``folder``; files that are there are taken.

    Raises InputError (a slide that cannot be read, or is background alone), OutputError (no space).
    """
    found = []
    for number, path in enumerate(paths):
        file = folder / f"{number:06}-{side}.npy"
        if not file.exists():
            raster = open_slide(path)
            region = region_of(raster, None)
            refuse_background(raster, region)
            pixels = np.concatenate(
                [read_rows(raster, region, side, row, min(side, row + 1024)) for row in range(0, side, 1024)]
            )
            with files.atomic_write(file) as stream:
                np.save(stream, pixels)
        found.append(np.load(file, mmap_mode="r"))
    return found


@dataclass(frozen=True)
class Labelled:
    """pixels: float (B, 3, S, S). target: int64 (B,), class or time interval. event: bool (B,)."""

    pixels: Tensor
    target: Tensor
    event: Tensor


@dataclass(frozen=True)
class SlideBatches:
    """Random crops of random slides, flipped and turned: RandomResizedCrop (0.5 to 1) as in the released recipe."""

    pictures: Sequence[np.ndarray]
    target_N: np.ndarray
    event_N: np.ndarray
    batch_size: int
    seed: int
    min_scale: float = 0.5
    turns: bool = True

    def __call__(self, step: int, shard: int, num_shards: int) -> Labelled:
        """The batch of a shard; each epoch has every slide once."""
        first = (step * num_shards + shard) * self.batch_size
        chosen, pixels = [], []
        for place in range(first, first + self.batch_size):
            epoch, index = divmod(place, len(self.pictures))
            chosen.append(int(_order(self.seed, epoch, len(self.pictures))[index]))
            generator = np.random.default_rng([self.seed, place, 3])
            pixels.append(augmented(self.pictures[chosen[-1]], generator, self.min_scale, self.turns))
        return Labelled(
            normalised(np.stack(pixels)),
            torch.from_numpy(self.target_N[chosen]),
            torch.from_numpy(self.event_N[chosen]),
        )


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 1]).permutation(count)


def augmented(
    picture: np.ndarray, generator: np.random.Generator, min_scale: float, turns: bool
) -> np.ndarray:
    """A crop of ``min_scale`` to 1 of the area with a side ratio of 3/4 to 4/3, resized to the picture's size."""
    side = len(picture)
    if turns:
        picture = np.rot90(picture, int(generator.integers(4)))
        picture = picture[:, :: int(generator.choice([-1, 1]))]
    if min_scale >= 1:
        return np.ascontiguousarray(picture)
    area, ratio = generator.uniform(min_scale, 1), np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
    height = min(side, round(side * float(np.sqrt(area / ratio))))
    width = min(side, round(side * float(np.sqrt(area * ratio))))
    top, left = int(generator.integers(side - height + 1)), int(generator.integers(side - width + 1))
    crop = Image.fromarray(np.ascontiguousarray(picture[top : top + height, left : left + width]))
    return np.asarray(crop.resize((side, side), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class DinoBatches:
    """Crops of slides that are not background alone: two global ones and some local ones of half their side.

    From each slide a crop of ``crop`` to 1.5 ``crop`` pixels of full size is taken; views are made of that.
    """

    rasters: Sequence[Raster]
    crop: int
    batch_size: int
    steps: int
    momentum: float
    seed: int
    num_local: int = 4

    def __call__(self, step: int, shard: int, num_shards: int) -> DinoBatch:
        """The views of a shard; the teacher moves with the first shard of a step alone."""
        views: list[list[np.ndarray]] = [[] for _ in range(2 + self.num_local)]
        for row in range(self.batch_size):
            place = (step * num_shards + shard) * self.batch_size + row
            generator = np.random.default_rng([self.seed, place, 5])
            source = self._crop(generator)
            for number, made in enumerate(views):
                side, scale = (self.crop, 0.4) if number < 2 else (self.crop // 2, 0.05)
                view = augmented(source, generator, scale, True)
                made.append(np.asarray(Image.fromarray(view).resize((side, side), Image.Resampling.BICUBIC)))
        momentum = teacher_momentum(step, self.steps, self.momentum) if shard == 0 else 1.0
        return DinoBatch(tuple(normalised(np.stack(view)) for view in views), momentum)

    def _crop(self, generator: np.random.Generator) -> np.ndarray:
        for _ in range(50):
            raster = self.rasters[int(generator.integers(len(self.rasters)))]
            side = min(raster.width, raster.height, int(self.crop * generator.uniform(1, 1.5)))
            left = int(generator.integers(raster.width - side + 1))
            top = int(generator.integers(raster.height - side + 1))
            pixels = raster.read((left, top, left + side, top + side), (self.crop, self.crop))
            if background_share(pixels) <= BACKGROUND_SHARE:
                break
        return pixels
