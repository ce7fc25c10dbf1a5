"""Pictures as a folder of PNG files with their times, which `ImageFolder` reads again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from multiway_core.errors import InputError
from multiway_core.files import replace_folder
from numpy.typing import NDArray


def write_folder(
    folder: Path, pictures: Iterable[tuple[NDArray[np.uint8], int]], *, overwrite: bool = False
) -> int:
    """Write (height, width, 3) pictures with their microseconds as 000000.png ... and images.txt; returns their number.

    The folder must be new or empty, unless `overwrite` says that its content may go; it is there whole or not at all.
    Raises InputError: no pictures; OutputError.
    """
    lines = []
    with replace_folder(folder, overwrite=overwrite) as temporary:
        for number, (image_HW3, t) in enumerate(pictures):
            name = f"{number:06d}.png"
            (temporary / name).write_bytes(png(image_HW3))
            lines.append(f"{t / 1e6:.6f} {name}\n")
        if not lines:
            raise InputError("no pictures to make a folder of")
        (temporary / "images.txt").write_text("".join(lines), encoding="utf-8")
    return len(lines)


def png(image_HW3: NDArray[np.uint8]) -> bytes:
    """A picture as the bytes of a PNG file."""
    is_done, data = cv2.imencode(".png", image_HW3[..., ::-1])
    if not is_done:
        raise InputError(f"a picture of shape {image_HW3.shape} cannot be a PNG")
    return data.tobytes()
