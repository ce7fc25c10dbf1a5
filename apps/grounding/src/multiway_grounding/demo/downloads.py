"""What the demo makes of results: files to download."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.files import write_bytes
from multiway_vision_language.export import write

from multiway_grounding.render import annotated_bytes

if TYPE_CHECKING:
    from multiway_vision_language.pictures import Picture
    from multiway_vision_language.result import Grounding

DOWNLOADS = {"json": "JSON", "png": "annotated picture", "coco": "COCO"}
"""Kind -> what its button says."""
_ENDINGS = {"json": ".json", "png": ".annotated.png", "coco": ".coco.json"}


def write_downloads(folder: Path, picture: Picture, result: Grounding) -> list[str]:
    """Write a file of each of ``DOWNLOADS`` under the picture's name; their paths in that order."""
    paths = [folder / (Path(result.source).stem + _ENDINGS[kind]) for kind in DOWNLOADS]
    write_bytes(paths[0], (json.dumps(result.to_json(), ensure_ascii=False, indent=2) + "\n").encode())
    write_bytes(paths[1], annotated_bytes(picture, result))
    write([result], "coco", paths[2])
    return [str(path) for path in paths]


def json_lines(results: Sequence[Grounding]) -> bytes:
    """One line a result."""
    return "".join(json.dumps(result.to_json(), ensure_ascii=False) + "\n" for result in results).encode()


class Archive:
    """A zip file that grows picture by picture: annotated pictures, at last the results as JSON lines and COCO."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._zip = zipfile.ZipFile(self._buffer, "w")
        self._names: set[str] = set()

    def add(self, picture: Picture, result: Grounding) -> None:
        """The annotated picture; a second one of the same name gets a number."""
        stem = Path(result.source).stem
        name, number = f"{stem}.png", 1
        while name in self._names:
            number += 1
            name = f"{stem}-{number}.png"
        self._names.add(name)
        self._zip.writestr(name, annotated_bytes(picture, result))

    def close(self, results: Sequence[Grounding]) -> bytes:
        """The whole file."""
        self._zip.writestr("results.jsonl", json_lines(results))
        with tempfile.TemporaryDirectory(prefix="multiway-grounding-") as folder:
            coco = Path(folder, "coco.json")
            write(results, "coco", coco)
            self._zip.writestr("coco.json", coco.read_bytes())
        self._zip.close()
        return self._buffer.getvalue()
