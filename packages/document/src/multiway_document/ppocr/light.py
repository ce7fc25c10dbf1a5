"""Even light on a photograph, whose text is lost to the detector where a shadow is deep."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from multiway_document.segmentation.background import background, to_grey

MAX_GAIN = 6.0  # more would only show the sensor's noise
UNEVEN = 2.0  # gain of the darker parts, from which a picture is changed at all
SHARE = 0.02  # of the pixels that must be so dark


def even_light(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A picture (H, W, 3) with its ground as bright everywhere as in its lightest parts; one in even light as it is."""
    ground = background(to_grey(image)).astype(np.float32)
    gain = np.clip(np.percentile(ground, 95) / np.maximum(ground, 1.0), 1.0, MAX_GAIN).astype(np.float32)
    if np.mean(gain > UNEVEN) < SHARE:
        return image
    channels = [cv2.multiply(image[:, :, channel], gain, dtype=cv2.CV_8U) for channel in range(3)]
    return np.asarray(cv2.merge(channels), np.uint8)
