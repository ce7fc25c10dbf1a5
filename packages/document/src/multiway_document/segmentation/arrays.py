"""The array types of page segmentation."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

GreyImage: TypeAlias = npt.NDArray[np.uint8]
"""(H, W) uint8, 0 black to 255 white."""

InkMask: TypeAlias = npt.NDArray[np.uint8]
"""(H, W) uint8, 1 where there is ink, else 0."""
