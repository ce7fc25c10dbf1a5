"""What the demo offers to look at: photographs that come with the app."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from multiway_core.app import examples_folder

from multiway_grounding.app import APP
from multiway_grounding.evaluation import PHOTOGRAPHS

_OFFERED = {
    "horse-race.jpg": ("horse race", "the horse\na jockey\na cow"),
    "soccer.jpg": ("football", "a person\na ball\na motorbike"),
    "taxis.jpg": ("taxis", "a yellow car\na blue car\na vehicle\na dog"),
    "coffee.jpg": ("coffee", "a cup\na spoon\na knife"),
    "teddy-bear.jpg": ("teddy bear", "a teddy bear\na child\na cat"),
    "motorcycle.jpg": ("motorcycle", "a red motorbike\na green motorbike\na car"),
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
    found = []
    for name, (caption, phrases) in _OFFERED.items():
        shutil.copyfile(PHOTOGRAPHS / name, folder / name)
        found.append(Example(folder / name, caption, phrases))
    return found
