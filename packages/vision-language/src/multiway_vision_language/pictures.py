"""Any picture -> upright RGB, with the size of the source that all boxes refer to.

Files are known by their content. Of an animation the first frame counts; pictures lie upright by their EXIF tag,
transparent parts are white, deep greys scaled to 8 bits. More than ``MAX_PIXELS`` are reduced by a whole factor
(boxes still refer to the source's pixels); what would need too much memory to decode is refused.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from multiway_core.errors import InputError
from multiway_core.pictures import open_header, to_upright_rgb, upright_size
from PIL import Image

MAX_PIXELS = 40_000_000
"""Pictures of more pixels are reduced: 20 000 x 2 000 stays, 20 000 x 20 000 becomes 5 000 x 5 000 if it can be
decoded within `multiway_core.pictures.MAX_DECODED_BYTES`."""

SUFFIXES = frozenset(
    {
        ".png",
        ".jpg",
        ".jpeg",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
        ".heif",
        ".ppm",
        ".pgm",
    }
)
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "PPM")
_SUPPORTED = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or PPM"

PictureSource: TypeAlias = "Picture | Image.Image | np.ndarray | bytes | str | Path"


@dataclass(frozen=True)
class Picture:
    """``image`` is RGB and upright; ``width`` and ``height`` are the source's pixels, which may be more."""

    image: Image.Image
    width: int
    height: int
    source: str

    @cached_property
    def key(self) -> str:
        """A digest of the pixels: equal pictures have equal keys, whatever file they came from."""
        digest = hashlib.blake2b(f"{self.image.size}".encode(), digest_size=16)
        digest.update(self.image.tobytes())
        return digest.hexdigest()


def open_picture(source: PictureSource) -> Picture:
    """Open a file (by path), its content (bytes), a PIL image, or an array.

    Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8, uint16, bool, or floats between 0 and 1.

    Raises InputError, one line: missing, empty, damaged, of another kind, or too large to decode.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        _require_file(path)
        return _decoded(path, str(path))
    if isinstance(source, bytes):
        if not source:
            raise InputError("the picture is empty (0 bytes)")
        return _decoded(io.BytesIO(source), "picture")
    if isinstance(source, Image.Image):
        return _from_image(source, str(getattr(source, "filename", "") or "picture"))
    if isinstance(source, np.ndarray):
        return _from_image(_image_of(source), "array")
    raise InputError(f"a picture is a path, bytes, a PIL image or a numpy array, not {type(source).__name__}")


def _require_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, expected a picture ({_SUPPORTED})")
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if not path.is_file():
            raise InputError(f"{path}: is not a regular file")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: is empty (0 bytes)")
        path.open("rb").close()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _decoded(file: Path | IO[bytes], name: str) -> Picture:
    try:
        header = open_header(file, name, _FORMATS)
    except InputError as error:
        if "cannot identify image file" in str(error):
            raise InputError(f"{name}: is no picture that can be read; expected {_SUPPORTED}") from None
        raise
    with header as image:
        return _from_image(image, name)


def _from_image(image: Image.Image, name: str) -> Picture:
    if 0 in image.size:
        raise InputError(f"{name}: the picture has no pixels ({image.width} x {image.height})")
    width, height = upright_size(image)
    return Picture(to_upright_rgb(image, name, max_pixels=MAX_PIXELS), width, height, name)


def _image_of(array: np.ndarray) -> Image.Image:
    shape = array.shape
    if array.ndim == 3 and shape[2] == 1:
        array = array[..., 0]
    if 0 in shape or not (array.ndim == 2 or (array.ndim == 3 and shape[2] in (3, 4))):
        raise InputError(f"an array picture has the shape (H, W), (H, W, 3) or (H, W, 4), not {shape}")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = (array // 257).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise InputError("a picture of floats has values from 0 to 1")
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise InputError(f"an array picture is uint8, uint16, bool or floating, not {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))
