"""The examples that the demo offers."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_ocr.reader import SUFFIXES

if TYPE_CHECKING:
    from PIL import Image


def example_files() -> list[Path]:
    """The pictures and PDF files of the repository's ``examples`` folder, copied to where Gradio may serve them from.

    Empty when the app is installed without the repository.
    """
    found = [
        path
        for parent in Path(__file__).resolve().parents[5:6]
        for path in sorted((parent / "examples").glob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not found:
        return []
    folder = Path(tempfile.gettempdir()) / "multiway-ocr-examples"
    folder.mkdir(exist_ok=True)
    copies = []
    for path in found:
        copy = folder / path.name
        shutil.copyfile(path, copy)
        copies.append(copy)
    return copies


def thumbnail(path: Path) -> Image.Image:
    from multiway_document.pages import open_pages

    image = next(iter(open_pages(path, pages="1", dpi=50))).image
    image.thumbnail((300, 300))
    return image
