"""A picture of a page -> an upright, evenly lit page of a size that the line finder and the reader like."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from multiway_document.result import Box
from multiway_document.segmentation.arrays import GreyImage, InkMask
from multiway_document.segmentation.background import (
    PAPER,
    flatten,
    noise_map,
    remove_impulses,
    smooth_noise,
    to_grey,
    whiten,
)
from multiway_document.segmentation.components import (
    estimate_x_height,
    find_components,
    find_ink,
)
from multiway_document.segmentation.rules import find_rules, long_rules
from multiway_document.segmentation.skew import find_skew

WORKING_X_HEIGHT = (6.5, 22.0)
"""Pages whose x-height (pixels) lies outside are resized to lie inside; the reader wants about 10."""

_TARGET_X_HEIGHT = 12.0
_MAX_PIXELS = 8_000_000  # small type is not enlarged beyond this
_MIN_SKEW = 0.1  # degrees; less moves a line by less than two pixels over a page


@dataclass(frozen=True)
class PreparedPage:
    """A flattened page, dark text on white, with the way back to the picture that it came from.

    ``grey``, ``ink`` (rules removed) and ``rules`` (their ink) are (H, W) uint8. ``rotation`` is the angle in degrees,
    counter-clockwise positive, by which the source page was seen to lean (the page here is turned back by
    it). ``x_height`` is the commonest one, in pixels of ``grey``. ``inverse`` is the (2, 3) affine map from
    here to the source.
    """

    grey: GreyImage
    ink: InkMask
    rules: InkMask
    rotation: float
    x_height: float
    inverse: npt.NDArray[np.float64]
    source_size: tuple[int, int]

    def to_source_quad(self, box: Box) -> npt.NDArray[np.float64]:
        """The four corners (4, 2) of a box of this page in source pixels, from its top left clockwise."""
        x0, y0, x1, y1 = box
        corners = np.array([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1]], np.float64)
        return corners @ self.inverse.T

    def to_source(self, box: Box) -> Box:
        """The smallest upright box in source pixels (within the page) around a box of this page."""
        corners = self.to_source_quad(box)
        width, height = self.source_size
        x0, y0 = np.clip(corners.min(axis=0), 0, (width, height))
        x1, y1 = np.clip(corners.max(axis=0), 0, (width, height))
        return float(x0), float(y0), float(x1), float(y1)

    def upside_down(self) -> PreparedPage:
        """This page turned by half a circle, with nothing found anew."""
        height, width = self.grey.shape
        inverse = np.column_stack([-self.inverse[:, :2], self.inverse @ np.array([width, height, 1.0])])
        grey, ink, rules = (
            np.ascontiguousarray(part[::-1, ::-1]) for part in (self.grey, self.ink, self.rules)
        )
        return replace(self, grey=grey, ink=ink, rules=rules, inverse=inverse)


def prepare(image: np.ndarray, turns: int = 0) -> PreparedPage:
    """Flatten, denoise where noisy, deskew (up to 15 degrees) and scale a page.

    ``image`` is (H, W) or (H, W, 3) RGB uint8 of any size, dark text on light or the reverse. It is turned
    counter-clockwise by ``turns`` quarters first. An empty page comes back with ``x_height`` 10. Raises ValueError
    for another shape or type.

    OpenCV uses all cores unless the program calls ``cv2.setNumThreads(1)``; nothing here changes that
    setting.
    """
    if turns % 4:
        prepared = prepare(np.ascontiguousarray(np.rot90(image, turns)))
        height, width = image.shape[:2]
        quarters = quarter_turned(turns, width, height)
        turned_back = quarters[:, :2] @ prepared.inverse
        turned_back[:, 2] += quarters[:, 2]
        return replace(prepared, inverse=turned_back, source_size=(width, height))
    grey, _ = remove_impulses(to_grey(image))
    page = flatten(grey)
    height, width = page.shape
    page_noise = noise_map(page)
    if not 1 < np.median(grey) < 254:
        page_noise *= 2.0  # the camera has clipped half of the noise on white paper, but not its dark tail
    smooth, noise = smooth_noise(page, page_noise)
    ink = find_ink(smooth, noise)
    x_height = estimate_x_height(find_components(ink))
    white = whiten(page, float(np.median(page_noise)))
    if x_height is None:
        return PreparedPage(white, ink, np.zeros_like(ink), 0.0, 10.0, np.eye(2, 3), (width, height))

    scale = 1.0
    if not WORKING_X_HEIGHT[0] <= x_height <= WORKING_X_HEIGHT[1]:
        largest = max(1.0, (_MAX_PIXELS / page.size) ** 0.5)
        scale = min(max(_TARGET_X_HEIGHT / x_height, 0.1), 3.0, largest)
    if scale < 1.0:  # averaging first, or thin strokes would fall between the samples
        white, smooth = (
            cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            for part in (white, smooth)
        )
        ink, scale = find_ink(smooth, noise), white.shape[1] / width
        x_height *= scale
    skew = find_skew(cv2.subtract(ink, long_rules(ink, x_height)), x_height)
    skew = skew if abs(skew) >= _MIN_SKEW else 0.0

    inverse = np.diag([1.0 / scale, 1.0 / scale, 1.0])[:2]
    if skew or scale > 1.0:
        enlarge = max(scale, 1.0)
        forward, size = _turn(white.shape[1], white.shape[0], skew, enlarge)
        flags = cv2.INTER_CUBIC if enlarge > 1.0 else cv2.INTER_LINEAR
        white = cv2.warpAffine(white, forward, size, flags=flags, borderValue=255)
        smooth = cv2.warpAffine(smooth, forward, size, flags=flags, borderValue=PAPER)
        coarse = np.column_stack([forward[:, :2], forward[:, 2] / 8])
        noise = cv2.warpAffine(
            noise, coarse, (size[0] // 8 + 1, size[1] // 8 + 1), borderMode=cv2.BORDER_REPLICATE
        )
        ink = find_ink(smooth, noise)
        back = cv2.invertAffineTransform(forward)
        inverse = back if scale > 1.0 else back / scale
        x_height *= enlarge
    rules = find_rules(ink, x_height)
    return PreparedPage(white, cv2.subtract(ink, rules), rules, skew, x_height, inverse, (width, height))


def quarter_turned(turns: int, width: int, height: int) -> npt.NDArray[np.float64]:
    """The (2, 3) map from a page turned counter-clockwise by ``turns`` quarters (``np.rot90``) back to the page before,
    ``width`` x ``height`` pixels."""
    maps = (
        [[1, 0, 0], [0, 1, 0]],
        [[0, -1, width], [1, 0, 0]],
        [[-1, 0, width], [0, -1, height]],
        [[0, 1, 0], [-1, 0, height]],
    )
    return np.array(maps[turns % 4], np.float64)


def _turn(width: int, height: int, angle: float, scale: float) -> tuple[np.ndarray, tuple[int, int]]:
    """(2, 3) map that turns a page clockwise by ``angle`` degrees and scales it, and the size that holds
    it all."""
    radians = math.radians(angle)
    cos, sin = scale * math.cos(radians), scale * math.sin(radians)
    new_width = math.ceil(width * abs(cos) + height * abs(sin))
    new_height = math.ceil(width * abs(sin) + height * abs(cos))
    # Image coordinates grow downwards: this matrix turns clockwise on the screen for a positive angle.
    matrix = np.array([[cos, -sin], [sin, cos]])
    offset = np.array([new_width, new_height]) / 2 - matrix @ np.array([width, height]) / 2
    return np.column_stack([matrix, offset]), (new_width, new_height)
