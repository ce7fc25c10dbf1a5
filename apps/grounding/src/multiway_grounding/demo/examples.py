"""What the demo offers to look at: a scene drawn when it starts, and scenes of the bundled model's evaluation."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from multiway_core import hub
from multiway_core.app import examples_folder
from multiway_core.files import atomic_write
from PIL import Image, ImageDraw

from multiway_grounding.app import APP

_DRAWN_AT = 2  # times as large, then reduced: smooth edges
_SIZE = (640, 420)
_HELD_OUT = {
    "0-0023.jpg": ("things", "a pie\nthe ball\na box\na bicycle\nan elephant"),
    "0-0012.jpg": ("mouse", "a mouse\na box\nthe window"),
}


@dataclass(frozen=True)
class Example:
    """A picture with what might be looked for in it, one phrase a line."""

    path: Path
    caption: str
    phrases: str


def examples() -> list[Example]:
    """A few pictures, copied to where Gradio may serve them from."""
    folder = examples_folder(APP)
    garden = folder / "garden.png"
    if not garden.is_file():
        image = Image.new("RGB", (_SIZE[0] * _DRAWN_AT, _SIZE[1] * _DRAWN_AT), "white")
        _garden(ImageDraw.Draw(image))
        with atomic_write(garden) as file:
            image.resize(_SIZE, Image.Resampling.LANCZOS).save(file, "PNG")
    found = [Example(garden, "garden", "a house\nthe red ball\nthe sun\nan elephant")]
    model = hub.bundled().get("grounding-small")
    for name, (caption, phrases) in _HELD_OUT.items():
        source = model / "held_out" / name if model else None
        if source is not None and source.is_file():
            shutil.copyfile(source, folder / name)
            found.append(Example(folder / name, caption, phrases))
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
