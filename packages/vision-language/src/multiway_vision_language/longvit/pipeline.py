"""A slide -> classes, risk, a vector, or the regions that decided: what commands, demo, evaluation and server call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from multiway_core.errors import InputError
from PIL import Image
from torch import Tensor

from multiway_vision_language.longvit.bounded import embed_bands, encode_bounded
from multiway_vision_language.longvit.checkpoint import from_pretrained
from multiway_vision_language.longvit.model import LongViT
from multiway_vision_language.longvit.survival import risk

NOTICE = "For research only; no medical device."
BACKGROUND_SHARE = 0.99
_NEAR_WHITE = 225
_GREY = 18
Progress = Callable[[int, int], object]


class Raster(Protocol):
    """A picture that may be too large for memory, by pixels of its full size."""

    name: str
    width: int
    height: int

    def read(self, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
        """The part (left, top, right, bottom) resized to (width, height): uint8 (height, width, 3)."""
        ...


class ImageRaster:
    """A picture in memory."""

    def __init__(self, image: Image.Image, name: str = "picture") -> None:
        self.image, self.name = image.convert("RGB"), name
        self.width, self.height = image.size

    def read(self, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
        """As :class:`Raster` has it, bicubic."""
        return np.asarray(self.image.resize(size, Image.Resampling.BICUBIC, box=box))


Roi = tuple[int, int, int, int]
"""Left, top, width and height in pixels of the full size."""


@dataclass(frozen=True)
class SlideResult:
    """What a model says of a slide.

    task: classify or survival. label, probabilities: of the classes. risk, survival: minus the expected number of
    intervals survived, and the probability to live through each interval (ends in ``time_bins``). size: side of the
    square that the slide was resized to. roi: what was read, in pixels of the slide.
    """

    source: str
    model: str
    task: str
    size: int
    roi: Roi
    label: str = ""
    probabilities: dict[str, float] | None = None
    risk: float | None = None
    survival: tuple[float, ...] = ()
    time_bins: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON, schema ``multiway.pathology/1``."""
        row: dict[str, Any] = {
            "schema": "multiway.pathology/1", "source": self.source, "model": self.model, "task": self.task,
            "size": self.size, "roi": list(self.roi), "notice": NOTICE,
        }  # fmt: skip
        if self.task == "survival":
            return row | {
                "risk": self.risk,
                "survival": list(self.survival),
                "time_bins": list(self.time_bins),
            }
        return row | {"label": self.label, "probabilities": self.probabilities}


class LongVitPipeline:
    """One model, ready for slides."""

    def __init__(self, model: LongViT, name: str) -> None:
        self.model, self.name = model.eval(), name

    @classmethod
    def from_pretrained(
        cls, name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> LongVitPipeline:
        """A bundled model, a folder, or a released file. Raises ModelNotFoundError, CheckpointError, ConfigError."""
        return cls(from_pretrained(name).to(device=device, dtype=dtype or torch.float32), name)

    def require_head(self, task: str = "") -> None:
        """Raise InputError unless the model has a head, and that of the task, if one is named."""
        own = self.model.config.task
        if own == "embed":
            raise InputError(f"{self.name} has no head; train one first (it can embed slides as it is)")
        if task not in ("", own):
            raise InputError(f"{self.name} was trained to {own}; expected a model for {task}")

    def states(
        self,
        raster: Raster,
        *,
        size: int | None = None,
        roi: Roi | None = None,
        on_layer: Progress | None = None,
    ) -> Tensor:
        """The states of all patches behind the last block, float32 (rows * columns, E).

        Raises InputError: a size or region that cannot be, a slide that is background alone.
        """
        side = size or self.model.config.input_size
        self.model.config.check_side(side)
        region = region_of(raster, roi)
        refuse_background(raster, region)
        x_NE = embed_bands(self.model, lambda first, last: read_rows(raster, region, side, first, last), side)
        return encode_bounded(self.model, x_NE, on_layer)

    @torch.inference_mode()
    def __call__(
        self,
        raster: Raster,
        *,
        size: int | None = None,
        roi: Roi | None = None,
        on_layer: Progress | None = None,
    ) -> SlideResult:
        """Classes or survival, as the model's task is. Raises InputError, also for a model without a head."""
        return self.result(self.states(raster, size=size, roi=roi, on_layer=on_layer), raster, size, roi)

    @torch.inference_mode()
    def result(self, x_NE: Tensor, raster: Raster, size: int | None, roi: Roi | None) -> SlideResult:
        """The result of states that were computed already."""
        config = self.model.config
        self.require_head()
        logits_1K = self._logits(x_NE)
        common: dict[str, Any] = {
            "source": raster.name, "model": self.name, "task": config.task, "size": size or config.input_size,
            "roi": region_of(raster, roi),
        }  # fmt: skip
        if config.task == "survival":
            lived = (1 - logits_1K[0].sigmoid()).cumprod(dim=0)
            return SlideResult(
                **common,
                risk=float(risk(logits_1K)),
                survival=tuple(lived.tolist()),
                time_bins=config.time_bins,
            )
        shares = logits_1K.softmax(dim=1)[0].tolist()
        best = max(range(len(shares)), key=shares.__getitem__)
        probabilities = dict(zip(config.labels, shares, strict=True))
        return SlideResult(**common, label=config.labels[best], probabilities=probabilities)

    @torch.inference_mode()
    def embed(self, raster: Raster, *, size: int | None = None, roi: Roi | None = None) -> np.ndarray:
        """The slide's vector, float32 (E,)."""
        x_NE = self.states(raster, size=size, roi=roi)
        dtype = self.model.norm.weight.dtype
        return self.model.pool(x_NE[None].to(dtype))[0].float().cpu().numpy()

    def heatmap(self, x_NE: Tensor, target: int | None = None) -> np.ndarray:
        """What each patch's state adds to a class's logit (or to the risk), float32 (rows, columns).

        The gradient at the mean, times the state's difference from the mean: class activation mapping (Zhou et al.
        2016) through the head's norm. A state has seen other patches, so a bright place is where the decision was
        gathered, which need not be all that it depends on; `occlusion` measures that. ``target``: by default the first
        choice.
        """
        with torch.enable_grad():
            mean_1E = x_NE.clone().mean(dim=0, keepdim=True).requires_grad_()
            weight = self.model.norm.weight
            logits_1K = self.model.head(self.model.norm(mean_1E.to(weight.dtype))).float()
            if self.model.config.task == "survival":
                value = risk(logits_1K)[0]
            else:
                logits_1K = logits_1K - logits_1K.mean(dim=1, keepdim=True)
                value = logits_1K[0, int(logits_1K.argmax()) if target is None else target]
            (gradient_1E,) = torch.autograd.grad(value, mean_1E)
        with torch.inference_mode():
            share_N = (x_NE - x_NE.mean(dim=0)) @ gradient_1E[0]
        side = round(len(share_N) ** 0.5)
        return share_N.reshape(side, side).cpu().numpy()

    @torch.inference_mode()
    def occlusion(
        self, raster: Raster, *, size: int | None = None, roi: Roi | None = None, cells: int = 8,
        on_cell: Progress | None = None,
    ) -> np.ndarray:  # fmt: skip
        """How much the first choice's logit (or the risk) falls where a cell is painted white: (cells, cells)."""
        side = size or self.model.config.input_size
        region = region_of(raster, roi)
        refuse_background(raster, region)
        whole = read_rows(raster, region, side, 0, side)

        def score(pixels: np.ndarray, target: int | None) -> tuple[float, int]:
            x_NE = embed_bands(self.model, lambda first, last: pixels[first:last], side)
            logits_1K = self._logits(encode_bounded(self.model, x_NE))
            if self.model.config.task == "survival":
                return float(risk(logits_1K)), 0
            target = int(logits_1K.argmax()) if target is None else target
            return float(logits_1K[0, target] - logits_1K[0].mean()), target

        before, target = score(whole, None)
        fall = np.zeros((cells, cells), np.float32)
        edges = np.linspace(0, side, cells + 1).round().astype(int)
        for row in range(cells):
            for column in range(cells):
                painted = whole.copy()
                painted[edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = 243
                fall[row, column] = before - score(painted, target)[0]
                if on_cell is not None:
                    on_cell(row * cells + column + 1, cells * cells)
        return fall

    def _logits(self, x_NE: Tensor) -> Tensor:
        dtype = self.model.norm.weight.dtype
        return self.model.head(self.model.pool(x_NE[None].to(dtype))).float()


def region_of(raster: Raster, roi: Roi | None) -> Roi:
    """The region, or the whole slide. Raises InputError for one that does not lie in the slide."""
    if roi is None:
        return 0, 0, raster.width, raster.height
    left, top, width, height = roi
    if (
        min(left, top) < 0
        or min(width, height) < 1
        or left + width > raster.width
        or top + height > raster.height
    ):
        raise InputError(
            f"{raster.name}: the region {left},{top},{width},{height} does not lie in {raster.width} x {raster.height} "
            "pixels; expected left,top,width,height"
        )
    return roi


def read_rows(raster: Raster, region: Roi, side: int, first: int, last: int) -> np.ndarray:
    """Rows ``first`` to ``last`` of the region resized to a square of ``side``: uint8 (rows, side, 3).

    Some rows around are read too, so that bands meet without seams.
    """
    left, top, width, height = region
    above, below = max(0, first - 4), min(side, last + 4)
    scale = height / side
    box = (float(left), top + above * scale, float(left + width), top + below * scale)
    band = raster.read(box, (side, below - above))
    return band[first - above : first - above + last - first]


def refuse_background(raster: Raster, region: Roi) -> None:
    """Raise InputError where nearly all of the region is near white or without colour, as glass is."""
    left, top, width, height = region
    thumbnail = raster.read((left, top, left + width, top + height), (256, 256))
    if background_share(thumbnail) > BACKGROUND_SHARE:
        raise InputError(f"{raster.name}: more than 99 % is background; nothing to look at")


def background_share(pixels: np.ndarray) -> float:
    """Share of pixels that are near white and nearly grey, or black as what scanners leave out: uint8 (H, W, 3)."""
    low, high = pixels.min(axis=2).astype(int), pixels.max(axis=2).astype(int)
    return float((((low >= _NEAR_WHITE) & (high - low <= _GREY)) | (high <= _GREY)).mean())


def raster_of(path: Path) -> Raster:
    """A picture that fits into memory, as a raster (`multiway-pathology` reads slides as well). Raises InputError."""
    from multiway_vision_language.pictures import open_picture

    return ImageRaster(open_picture(path).image, str(path))
