"""The texts of an evaluation: one a line, or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from multiway_core.data_files import get, read_text
from multiway_core.errors import DataError, InputError

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")


@dataclass(frozen=True)
class TextItem:
    """One text.

    Attributes:
        name: in reports, and of its sound: ``0001`` where nothing is given.
        text: to be spoken.
        voice: of the model, or of the recording; None takes the model's voices round-robin.
        file: of its recording in the folder of ``--reference``.
    """

    name: str
    text: str
    voice: str | None = None
    file: str | None = None


def read_texts(path: Path) -> list[TextItem]:
    """Raises InputError (no texts, no such file), DataError with the line of a bad row."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    lines = read_text(path).split("\n")
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if path.suffix.lower() in (".jsonl", ".json"):
        items = [_item(line, f"{path}:{number}", index) for index, (number, line) in enumerate(rows, 1)]
    else:
        items = [TextItem(f"{index:04}", line.strip()) for index, (_, line) in enumerate(rows, 1)]
    if not items:
        raise InputError(f"{path}: no texts in it")
    return items


def _item(line: str, where: str, index: int) -> TextItem:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON") from error
    text = get(row, "text", str, where)
    if not text.strip():
        raise DataError(f"{where}.text: empty")
    optional = {
        key: get(row, key, str, where) for key in ("name", "voice", "file") if row.get(key) is not None
    }
    file = optional.get("file")
    name = optional.get("name") or (Path(file).stem if file else f"{index:04}")
    return TextItem(name, text.strip(), optional.get("voice"), file)


def shuffled_texts(items: Sequence[TextItem], seed: int) -> list[str | None]:
    """For each item the text of another one, as a control; None where all texts are the same."""
    count = len(items)
    shift = 1 + seed % max(1, count - 1)
    found: list[str | None] = []
    for index, item in enumerate(items):
        candidates = (items[(index + shift + step) % count].text for step in range(count))
        found.append(next((text for text in candidates if text != item.text), None))
    return found


def recording_of(item: TextItem, folder: Path) -> Path:
    """The item's file in a folder. Raises InputError if there is none."""
    if item.file is not None:
        candidates = [folder / item.file]
    else:
        candidates = [folder / f"{item.name}{suffix}" for suffix in SUFFIXES]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise InputError(f"no recording of {item.name} in {folder}: looked for {candidates[0].name}")
    return found
