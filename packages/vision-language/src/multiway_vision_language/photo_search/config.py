"""Sizes and constants of a photo encoder, as ``config.json`` holds them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PhotoConfig:
    """A photo encoder.

    Attributes:
        width, depth: of EfficientNet-lite (lite2: 1.1 and 1.2).
        classes: names of the classifier's 1,000 classes and of the detector's 80 behind them.
        vector: numbers of a vector of the text encoder.
        text_encoder: whose space it is.
        pixels, detector_pixels: in how many pixels a picture is seen by each.
        cell_gain: weight of the best cell's probability of a class beside that of the whole picture.
        detector_floor, detector_gain: detections below the floor count nothing.
        unrelated, related: mean cosine of a caption and another picture, and its own; of held-out pictures.
    """

    classes: tuple[str, ...]
    width: float = 1.1
    depth: float = 1.2
    vector: int = 384
    text_encoder: str = "minilm-l6"
    pixels: int = 288 * 288
    detector_pixels: int = 384 * 384
    cell_gain: float = 0.3
    detector_floor: float = 0.15
    detector_gain: float = 3.0
    unrelated: float = 0.15
    related: float = 0.47
