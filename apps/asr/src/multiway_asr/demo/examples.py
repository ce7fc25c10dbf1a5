"""The examples that the demo offers."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from multiway_asr.transcriber import SUFFIXES


def example_files() -> list[Path]:
    """The recordings of the repository's ``examples`` folder, copied to where Gradio may serve them from.

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
    folder = Path(tempfile.gettempdir()) / "multiway-asr-examples"
    folder.mkdir(exist_ok=True)
    return [Path(shutil.copyfile(path, folder / path.name)) for path in found]
