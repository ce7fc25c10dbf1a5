"""The angle by which the lines of text lean, from projection profiles."""

from __future__ import annotations

import math

import numpy as np

from multiway_document.segmentation.arrays import InkMask

MAX_SKEW = 15.0
"""Degrees to either side that are searched; a page on its side is a matter of orientation, not of skew."""

_COARSE_STEP = 0.5
_FINE_STEP = 0.05
_MAX_POINTS = 20_000
_MIN_GAIN = 1.06  # how much sharper the profile must get before a page is turned


def find_skew(ink: InkMask, x_height: float) -> float:
    """Angle of the text lines in degrees, positive where they climb to the right (counter-clockwise), |a| <=
    15.

    Only the lower edges of the ink are projected: they lie on the base lines, so that the profile of the
    right angle is a row of sharp peaks (Postl's criterion: the summed squared differences of neighbouring
    bins). 0.0 where no angle is clearly better than none.
    """
    edges = ink[:-1] & ~ink[1:] & 1
    y, x = np.nonzero(edges)
    if len(y) < 50:
        return 0.0
    if len(y) > _MAX_POINTS:
        chosen = np.random.default_rng(0).choice(len(y), _MAX_POINTS, replace=False)
        y, x = y[chosen], x[chosen]
    x = (x - x.mean()).astype(np.float32)
    y = y.astype(np.float32)
    if np.percentile(x, 98) - np.percentile(x, 2) < 8 * x_height:
        return 0.0  # a word or two: their letters' shapes would decide

    def sharpness(angle: float, bin_height: float) -> float:
        rows = y + x * np.float32(math.tan(math.radians(angle)))
        bins = ((rows - rows.min()) / np.float32(bin_height)).astype(np.int32)
        profile = np.bincount(bins).astype(np.float64)
        return float(np.sum(np.diff(profile) ** 2))

    coarse_bin = max(1.0, 0.3 * x_height)
    angles = np.arange(-MAX_SKEW, MAX_SKEW + 1e-6, _COARSE_STEP)
    scores = [sharpness(angle, coarse_bin) for angle in angles]
    best = float(angles[int(np.argmax(scores))])
    fine_bin = max(1.0, 0.1 * x_height)
    fine_angles = np.arange(best - _COARSE_STEP, best + _COARSE_STEP + 1e-6, _FINE_STEP)
    fine_scores = [sharpness(angle, fine_bin) for angle in fine_angles]
    peak = int(np.argmax(fine_scores))
    if fine_scores[peak] < _MIN_GAIN * sharpness(0.0, fine_bin):
        return 0.0
    return float(np.clip(fine_angles[peak], -MAX_SKEW, MAX_SKEW))
