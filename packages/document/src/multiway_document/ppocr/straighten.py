"""Where the lines of a turned, slanted or curled page would stand on a flat one, so that they can be put in order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from multiway_document.result import Box

_MIN_LINES = 4  # fewer lines give a slope, no curl
_RIDGE = 1e-3


def straighten(quads: npt.NDArray[np.float32]) -> list[Box]:
    """Upright boxes (N) of lines (N, 4, 2), moved up and down so that what stands on one line has one height.

    The slope of the lines is fitted as a polynomial of x and y (a plane for few lines); each line is then followed
    along it to the middle of the page. Lines of a flat upright page stay where they are.
    """
    if not len(quads):
        return []
    left, right = (quads[:, 0] + quads[:, 3]) / 2, (quads[:, 1] + quads[:, 2]) / 2
    sides = quads[:, [3, 2]] - quads[:, [0, 1]]
    heights = np.linalg.norm(sides, axis=2).mean(axis=1)
    centre, run = (left + right) / 2, right - left
    middle = (quads.reshape(-1, 2).min(axis=0) + quads.reshape(-1, 2).max(axis=0)) / 2
    size = max(1.0, float(np.ptp(quads.reshape(-1, 2), axis=0).max()) / 2)
    x, y = ((centre - middle) / size).T
    slope = run[:, 1] / np.maximum(run[:, 0], 1.0)
    weight = np.sqrt(np.clip(run[:, 0], 0, None)) * (np.abs(slope) < 0.6)
    # dy/dx = a + b x + c y + d x y + e x^2; its integral over x from the page's middle.
    powers = np.stack([np.ones_like(x), x, y, x * y, x * x], axis=1)
    if len(quads) < _MIN_LINES:
        powers = powers[:, :1]
    scaled = powers * weight[:, None]
    penalty = _RIDGE * len(quads) * size * np.diag(np.arange(powers.shape[1]) > 0)
    fitted = np.linalg.lstsq(
        scaled.T @ scaled + penalty + 1e-9 * np.eye(len(penalty)), scaled.T @ (slope * weight)
    )[0]
    integral = np.stack([x, x**2 / 2, x * y, x**2 * y / 2, x**3 / 3], axis=1)[:, : len(fitted)]
    fall = size * integral @ fitted
    level = centre[:, 1] - fall
    boxes = []
    for line in range(len(quads)):
        # Across: where the line's middle axis begins and ends, turned with it.
        length = float(np.hypot(*run[line]))
        x0 = float(centre[line, 0] - length / 2)
        boxes.append(
            (x0, float(level[line] - heights[line] / 2), x0 + length, float(level[line] + heights[line] / 2))
        )
    return boxes
