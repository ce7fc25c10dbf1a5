"""Pictures in an index: the photo encoder, and contact sheets of what was found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.errors import InputError, MultiwayError
from multiway_core.files import atomic_write

if TYPE_CHECKING:
    from multiway_text.search.pipeline import SearchPipeline
    from multiway_vision_language.photo_search.pipeline import Photo
    from PIL import Image

MODEL = "bundled:photo-search-small"
SHEET_COLUMNS, CELL, NAME_HEIGHT = 4, 240, 20
BLOCK_COLUMNS = 32
"""Characters of a picture in the terminal."""


class Photos:
    """A photo encoder by name; what its files say is known before its network is loaded."""

    def __init__(self, name: str, device: str = "auto") -> None:
        self.name, self.device = name, device

    @cached_property
    def pipeline(self) -> Any:
        """Raises InputError: the package is not installed; ModelNotFoundError."""
        from multiway_core.app.command import pick_device
        from multiway_vision_language.photo_search.pipeline import PhotoPipeline

        return PhotoPipeline.from_pretrained(self.name, device=pick_device(self.device))

    @property
    def version(self) -> str:
        """A digest of the model's files."""
        return str(self.pipeline.version)

    @property
    def text_encoder(self) -> str:
        """The model whose texts its vectors can be compared with."""
        return str(self.pipeline.text_encoder)

    @property
    def unrelated(self) -> float:
        """Mean cosine of a text and a picture that it is not about."""
        return float(self.pipeline.unrelated)

    @property
    def related(self) -> float:
        """Of one that it is about."""
        return float(self.pipeline.related)

    @property
    def suffixes(self) -> Collection[str]:
        """Of the files that are pictures."""
        from multiway_vision_language.photo_search.pipeline import PhotoPipeline

        return PhotoPipeline.suffixes

    def read(self, path: str | Path) -> Photo:
        """Raises InputError."""
        return self.pipeline.read(path)


def attach(pipeline: SearchPipeline, name: str = MODEL, device: str = "auto") -> str | None:
    """Let a pipeline look at pictures; why not, where it cannot."""
    if find_spec("multiway_vision_language") is None:
        return "pictures are passed over: pip install 'multiway-search[photos]' lets them be searched"
    photos = Photos(name, device)
    if photos.text_encoder != pipeline.name.removeprefix("bundled:"):
        return (
            f"pictures are passed over: {name} goes with bundled:{photos.text_encoder}, not {pipeline.name}"
        )
    pipeline.pictures = photos
    return None


def thumbnail(path: str, side: int = CELL) -> Image.Image | None:
    """A small upright copy; None where the file is gone or broken by now."""
    from multiway_core.pictures import open_header, to_upright_rgb

    try:
        formats = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "PPM")
        with open_header(Path(path), path, formats) as image:
            image.draft("RGB", (2 * side, 2 * side))
            small = to_upright_rgb(image, path, max_pixels=40_000_000)
    except (MultiwayError, OSError):
        return None
    small.thumbnail((side, side))
    return small


def write_sheet(paths: Sequence[str], names: Sequence[str], output: Path) -> int:
    """A contact sheet, numbered as the results are; how many pictures are on it.

    Raises InputError: no pictures, or no format that can be written; OutputError.
    """
    from PIL import Image, ImageDraw

    shown = [(name, small) for path, name in zip(paths, names, strict=True) if (small := thumbnail(path))]
    if not shown:
        raise InputError("no pictures were found for a contact sheet")
    if output.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
        raise InputError(f"{output}: a contact sheet is a .jpg, .png or .webp file")
    columns = min(SHEET_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    page = Image.new("RGB", (columns * CELL, rows * (CELL + NAME_HEIGHT)), "white")
    draw = ImageDraw.Draw(page)
    for place, (name, small) in enumerate(shown):
        left, top = place % columns * CELL, place // columns * (CELL + NAME_HEIGHT)
        page.paste(small, (left + (CELL - small.width) // 2, top + (CELL - small.height) // 2))
        draw.text((left + 4, top + CELL + 4), name[:38], fill="black")
    with atomic_write(output) as file:
        page.save(file, Image.registered_extensions()[output.suffix.lower()])
    return len(shown)


def half_blocks(path: str, columns: int = BLOCK_COLUMNS) -> str:
    """A picture as lines of half blocks in 24-bit colours, two pixels a character; empty where it is not readable."""
    small = thumbnail(path, columns)
    if small is None:
        return ""
    if small.height % 2:
        small = small.crop((0, 0, small.width, small.height + 1))
    pixels = small.load()
    assert pixels is not None
    lines = []
    for y in range(0, small.height, 2):
        cells = []
        for x in range(small.width):
            over, under = pixels[x, y], pixels[x, y + 1]
            cells.append("\x1b[38;2;{};{};{};48;2;{};{};{}m▀".format(*over, *under))  # type: ignore[misc]
        lines.append("".join(cells) + "\x1b[0m\n")
    return "".join(lines)
