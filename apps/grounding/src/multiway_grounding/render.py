"""A result for people: the text with its entities in their colours, and a table of places."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.errors import InputError
from multiway_core.files import write_bytes
from multiway_vision_language.overlay import annotated, colour
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from multiway_vision_language.pictures import Picture
    from multiway_vision_language.result import Grounding

_PLAIN_WIDTH = 110  # of output that goes to a file or a pipe
_PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def as_text(result: Grounding) -> str:
    """The text and the table; with colours where standard output is a terminal."""
    buffer = io.StringIO()
    terminal = sys.stdout.isatty()
    console = Console(
        file=buffer,
        force_terminal=terminal,
        width=None if terminal else _PLAIN_WIDTH,
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.print(_coloured(result))
    if result.entities:
        console.print(_table(result))
    for remark in remarks(result):
        console.print(f"note: {_printable(remark)}")
    return buffer.getvalue()


def remarks(result: Grounding) -> list[str]:
    """What a user should know beside the result."""
    cut = ["the text is cut off at the length limit"] if result.truncated else []
    return [*cut, *result.problems]


def require_picture_file(path: Path) -> str:
    """Pillow's name of the format of a file to be written, by its ending. Raises InputError."""
    kind = _PICTURE_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"--save {path}: expected a name that ends in {', '.join(_PICTURE_FORMATS)}")
    return kind


def save_annotated(picture: Picture, result: Grounding, path: Path) -> None:
    """Write the picture with its boxes, whole or not at all. Raises InputError, OutputError."""
    write_bytes(path, annotated_bytes(picture, result, require_picture_file(path)))


def annotated_bytes(picture: Picture, result: Grounding, format: str = "PNG") -> bytes:
    """The picture with its boxes as a file of Pillow's format."""
    buffer = io.BytesIO()
    annotated(picture, result).save(buffer, format, quality=92)
    return buffer.getvalue()


def _coloured(result: Grounding) -> Text:
    text = Text(_printable(result.text, keep="\n"))
    for index, entity in enumerate(result.entities):
        text.stylize(f"bold {colour(index)}", *entity.span)
    return text


def _table(result: Grounding) -> Table:
    table = Table("phrase", "left, top, right, bottom", "confidence", "present", "cells")
    for column in (2, 3):
        table.columns[column].justify = "right"
    for index, entity in enumerate(result.entities):
        name = Text(_printable(entity.phrase), style=f"bold {colour(index)}")
        if not entity.boxes:
            table.add_row(name, "not present", "", f"{entity.present:.2f}", "")
        for number, box in enumerate(entity.boxes):
            table.add_row(
                name if number == 0 else "",
                ", ".join(f"{value:.0f}" for value in box.xyxy),
                f"{box.confidence:.2f}",
                f"{entity.present:.2f}" if number == 0 else "",
                f"{box.cells[0]}, {box.cells[1]}",
            )
    return table


def _printable(text: str, keep: str = "") -> str:
    """The text with nothing in it that steers a terminal; as long as before, so that spans hold."""
    return "".join(
        character if character.isprintable() or character in keep else "\ufffd" for character in text
    )
