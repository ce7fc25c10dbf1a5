"""What the demo offers to look at: scenes drawn when it starts, so that nothing need be kept or fetched."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from multiway_core.files import atomic_write
from PIL import Image, ImageDraw

_DRAWN_AT = 2  # times as large, then reduced: smooth edges
_SIZE = (640, 420)


def example_files() -> list[tuple[Path, str]]:
    """(file, caption) of a few pictures, made where they are not there yet."""
    folder = Path(tempfile.gettempdir()) / "multiway-grounding-examples"
    folder.mkdir(exist_ok=True)
    makers: dict[str, Callable[[ImageDraw.ImageDraw], None]] = {
        "garden": _garden,
        "table": _table,
        "sea": _sea,
    }
    found = []
    for name, make in makers.items():
        path = folder / f"{name}.png"
        if not path.is_file():
            image = Image.new("RGB", (_SIZE[0] * _DRAWN_AT, _SIZE[1] * _DRAWN_AT), "white")
            make(ImageDraw.Draw(image))
            with atomic_write(path) as file:
                image.resize(_SIZE, Image.Resampling.LANCZOS).save(file, "PNG")
        found.append((path, name))
    return found


def _scaled(*numbers: float) -> list[float]:
    return [number * _DRAWN_AT for number in numbers]


def _garden(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle(_scaled(0, 0, 640, 270), fill="#bfe3f7")
    pen.rectangle(_scaled(0, 270, 640, 420), fill="#8cc26a")
    pen.ellipse(_scaled(520, 30, 600, 110), fill="#fbd24b")
    pen.rectangle(_scaled(90, 170, 250, 310), fill="#f3e3c3")
    pen.polygon(_scaled(70, 172, 170, 90, 270, 172), fill="#b5483a")
    pen.rectangle(_scaled(152, 240, 190, 310), fill="#7a4a2b")
    pen.rectangle(_scaled(400, 200, 424, 320), fill="#7a4a2b")
    pen.ellipse(_scaled(345, 90, 480, 230), fill="#3f8f4f")
    pen.ellipse(_scaled(290, 330, 345, 385), fill="#d93a3a")
    pen.ellipse(_scaled(540, 300, 610, 370), fill="#3465c8")


def _table(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle(_scaled(0, 0, 640, 420), fill="#e9e3da")
    pen.rectangle(_scaled(0, 250, 640, 420), fill="#a9764c")
    pen.ellipse(_scaled(60, 200, 210, 350), fill="#f6f6f4", outline="#c9c9c4", width=6)
    pen.ellipse(_scaled(100, 235, 170, 305), fill="#d1392f")
    pen.rectangle(_scaled(280, 130, 350, 320), fill="#2f7d4f")
    pen.rectangle(_scaled(300, 70, 330, 140), fill="#2f7d4f")
    pen.rounded_rectangle(_scaled(430, 210, 560, 320), 24, fill="#3a66b0")
    pen.arc(_scaled(530, 225, 600, 300), -90, 90, fill="#3a66b0", width=24)


def _sea(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle(_scaled(0, 0, 640, 220), fill="#f6d3b0")
    pen.rectangle(_scaled(0, 220, 640, 420), fill="#2f6fa3")
    pen.ellipse(_scaled(280, 140, 380, 240), fill="#ef7b45")
    pen.rectangle(_scaled(0, 220, 640, 300), fill="#3a7fb5")
    pen.polygon(_scaled(90, 250, 250, 250, 220, 300, 120, 300), fill="#7d2f2f")
    pen.polygon(_scaled(165, 110, 165, 240, 250, 240), fill="#fbfbf8")
    pen.polygon(_scaled(155, 140, 155, 240, 100, 240), fill="#f0e9dc")
    pen.polygon(_scaled(440, 300, 560, 300, 540, 335, 460, 335), fill="#f3f3f0")
    pen.rectangle(_scaled(480, 262, 525, 300), fill="#d9413b")
