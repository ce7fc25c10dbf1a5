"""What demos keep on the disk: folders of this user alone, and the examples in them."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from multiway_core.app.registry import App
from multiway_core.files import private_cache_folder


def private_folder(name: str) -> Path:
    """A folder that only this user can enter: below the user's cache, or a new one where that cannot be."""
    try:
        return private_cache_folder(name)
    except (OSError, RuntimeError):
        return _new_folder(name)


@functools.cache
def _new_folder(name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"multiway-{name}-"))


def examples_folder(app: App) -> Path:
    """Where a demo keeps its examples; what lies there may be served to visitors."""
    folder = private_folder("examples") / app.name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def repository_examples(app: App, suffixes: Collection[str]) -> list[Path]:
    """Copies of the files of the repository's ``examples`` folder with these endings.

    Empty when the app is installed without the repository.
    """
    spec = importlib.util.find_spec(app.package)
    parents = Path(str(spec.origin)).resolve().parents if spec is not None else ()
    return [
        Path(shutil.copyfile(path, examples_folder(app) / path.name))
        for parent in parents[4:5]  # of apps/<name>/src/<package>/__init__.py
        for path in sorted((parent / "examples").glob("*"))
        if path.suffix.lower() in suffixes
    ]
