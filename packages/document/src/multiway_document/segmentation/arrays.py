"""The array types of page segmentation."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

GreyImage: TypeAlias = np.ndarray
"""(H, W) uint8, 0 black to 255 white."""

InkMask: TypeAlias = np.ndarray
"""(H, W) uint8, 1 where there is ink, else 0."""
