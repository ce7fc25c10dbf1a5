"""Picture files of strangers -> upright RGB, with bounded memory (extra ``pictures``: Pillow; ``heic``: pillow-heif).

The header is read first, JPEG files are decoded at an eighth to full size as needed, and a picture is handed out
with at most as many pixels as the caller asks for. What can only be decoded whole and would take more than
``MAX_DECODED_BYTES`` is refused.
"""

from __future__ import annotations

import importlib.util
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from PIL import Image

from multiway_core.errors import InputError

MAX_DECODED_BYTES = 768_000_000
"""A picture that needs more memory than this to decode is refused: 27 700 pixels square in grey, half in
colour."""

_BYTES_PER_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # all others: 4
_BAND_PIXELS = 4_000_000
_ORIENTATION_TAG = 0x0112
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF value -> Image.Transpose
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_opening = threading.Lock()
T = TypeVar("T")


def open_header(source: Path | IO[bytes], name: str, formats: tuple[str, ...]) -> Image.Image:
    """The picture, not yet decoded; ``name`` stands in messages, ``formats`` are Pillow's names.

    HEIC, the format of many phones, is read too where `pillow-heif` is installed.

    Raises InputError: it is damaged, or of another kind.
    """
    heic = _is_heic(source, name)
    if heic and not _register_heic():
        raise InputError(f"{name}: to read HEIC pictures, pip install pillow-heif, or save it as JPEG")
    with without_pixel_limit():
        return guarded(name, lambda: Image.open(source, formats=("HEIF",) if heic else formats))


def _is_heic(source: Path | IO[bytes], name: str) -> bool:
    """By the brand at the head of the file (ISO/IEC 23008-12)."""
    if isinstance(source, Path):
        with guarded(name, lambda: source.open("rb")) as file:
            head = file.read(12)
    else:
        place = source.tell()
        head = source.read(12)
        source.seek(place)
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS


def _register_heic() -> bool:
    """Whether Pillow now reads HEIC."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return True


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of what ``to_upright_rgb`` shows, before any reduction; nothing is decoded for it."""
    width, height = image.size
    return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)


def to_upright_rgb(image: Image.Image, name: str, *, max_pixels: int) -> Image.Image:
    """The current frame as an RGB picture, upright by its EXIF tag.

    More than ``max_pixels`` are reduced by a whole factor. Deep greys are scaled to 8 bits, transparent parts white.
    Raises InputError: it is damaged, or would take too much memory.
    """
    return guarded(name, lambda: _to_upright_rgb(image, name, max_pixels))


def guarded(name: str, action: Callable[[], T]) -> T:
    """Run a decoder. On a damaged file the decoders raise nearly every exception there is, not only
    OSError."""
    try:
        with warnings.catch_warnings():  # Pillow warns of damage that it can work around
            warnings.simplefilter("ignore")
            return action()
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{name}: there is not enough memory to decode this picture") from None
    except Exception as error:
        reason = str(error).replace(name, "").strip() or type(error).__name__
        raise InputError(f"{name}: the picture is damaged or of an unknown variant ({reason})") from None


@contextmanager
def without_pixel_limit() -> Iterator[None]:
    """Pillow's own limit is a global that warns or fails by size alone; ours knows what decoding costs."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _to_upright_rgb(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    width, height = image.size
    factor = 1
    while -(-width // factor) * -(-height // factor) > max_pixels:
        factor += 1
    decoded = width * height
    if image.format in ("JPEG", "MPO") and factor > 1 and not image.info.get("progressive"):
        image.draft(image.mode, (-(-width // factor), -(-height // factor)))
        decoded = image.width * image.height
        factor = max(1, factor * image.width // width)
        while -(-image.width // factor) * -(-image.height // factor) > max_pixels:
            factor += 1
    needed = decoded * _BYTES_PER_PIXEL.get(image.mode, 4)
    if image.info.get("progressive"):  # the decoder keeps two bytes of every coefficient until the last scan
        needed += decoded * 2 * len(image.getbands())
    if needed > MAX_DECODED_BYTES:
        raise InputError(
            f"{name}: {width} x {height} pixels need {needed / 1e9:.1f} GB to decode, more than the limit of "
            f"{MAX_DECODED_BYTES / 1e9:.1f} GB; save it smaller, in grey, or as a baseline JPEG"
        )
    with without_pixel_limit() if factor > 1 else nullcontext():  # the TIFF decoder checks the limit again
        image.load()
    turn = _TURNS.get(_orientation(image))
    page = _reduced(image, factor) if factor > 1 else to_rgb(image)
    return page if turn is None else page.transpose(Image.Transpose(turn))


def _orientation(image: Image.Image) -> int:
    """The EXIF value, 1 (upright) where there is none or it is broken."""
    try:
        # Not the method of Pillow's class for PNG files, which decodes the whole picture to look behind it.
        return int(Image.Image.getexif(image).get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF data raise nearly everything, and the picture may still be whole
        return 1


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """The picture ``factor`` times smaller, converted in bands so that no second full-size copy is made."""
    width, height = image.size
    page = Image.new("RGB", (-(-width // factor), -(-height // factor)), "white")
    rows = max(1, _BAND_PIXELS // (width * factor)) * factor
    for top in range(0, height, rows):
        band = to_rgb(image.crop((0, top, width, min(height, top + rows))))
        page.paste(band.reduce(factor), (0, top // factor))
    return page


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode: deep greys scaled, not clipped; transparent parts on white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return _deep_grey(np.asarray(image, np.float64)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(layered, mask=layered.getchannel("A"))
        return page
    if image.mode == "RGB":
        return image.copy()
    return image.convert("RGB")


def _deep_grey(values: np.ndarray) -> Image.Image:
    """32-bit integers or floats as 8-bit grey: 0..1 and 0..65535 by their full range, anything else by its
    own."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    elif low >= 0.0 and high <= 255.0:
        low, high = 0.0, 255.0
    elif low >= 0.0 and high <= 65535.0:
        low, high = 0.0, 65535.0
    return Image.fromarray(((values - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8))
