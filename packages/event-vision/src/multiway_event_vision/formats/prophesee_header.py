"""The header of Prophesee's files: text lines that start with `%`, then binary data."""

from __future__ import annotations

import re
from pathlib import Path

from multiway_core.errors import DataError

from multiway_event_vision.events import LARGEST_SENSOR
from multiway_event_vision.formats.source import open_binary

LONGEST_LINE = 4096
MAX_LINES = 1000
# Cameras that do not write their size: the plug-in's name or the generation tells it.
_SIZE_OF_SENSOR = {"gen31": (640, 480), "gen3": (640, 480), "genx320": (320, 320), "gen4": (1280, 720)}
_SIZE_OF_SENSOR |= {"imx636": (1280, 720), "imx646": (1280, 720)}


def read_percent_header(path: Path) -> tuple[dict[str, str], int]:
    """(keys in lower case -> values, number of header bytes). A line `% end` closes the header.

    Raises DataError: unreadable, or more than `MAX_LINES` lines.
    """
    header: dict[str, str] = {}
    with open_binary(path) as file:
        for _ in range(MAX_LINES):
            start = file.tell()
            line = file.readline(LONGEST_LINE)
            # Data may begin with a percent sign, but hardly with a whole line of printable text.
            if not line.startswith(b"%") or not line.endswith(b"\n") or not line[:-1].strip(b"\r").isascii():
                return header, start
            key, _, value = line[1:].decode("ascii").strip().partition(" ")
            if key.lower() == "end":
                return header, file.tell()
            header.setdefault(key.lower(), value.strip())
    raise DataError(f"{path}: a header of more than {MAX_LINES} lines; expected data after a few")


def header_size(header: dict[str, str]) -> tuple[int, int] | None:
    """(width, height) where the header tells them, in any of the ways that were written over the years."""
    fields = dict(part.split("=", 1) for part in header.get("format", "").lower().split(";") if "=" in part)
    geometry = re.match(r"(\d+)x(\d+)", header.get("geometry", ""))
    texts = [
        (header.get("width", ""), header.get("height", "")),
        (fields.get("width", ""), fields.get("height", "")),
        geometry.groups() if geometry else ("", ""),
    ]
    for width, height in texts:
        if width.isdecimal() and height.isdecimal() and len(width) < 6 and len(height) < 6:
            size = int(width), int(height)
            if all(0 < side <= LARGEST_SENSOR for side in size):
                return size
    names = f"{header.get('plugin_name', '')} {header.get('sensor_name', '')}".lower()
    names += f" gen{header.get('generation', '').replace('.', '')}"
    for name, size in _SIZE_OF_SENSOR.items():
        if name in names:
            return size
    return None
