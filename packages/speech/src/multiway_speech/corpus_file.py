"""A training corpus on disk: one array of all samples (or latents), and the table of the utterances in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from multiway_core.errors import InputError

Item = TypeVar("Item")


def save(path: Path, items: Sequence[Any], array: np.ndarray) -> None:
    """Write an ``.npz`` file. ``items``: dataclass instances whose fields JSON can hold."""
    rows = [[getattr(item, field.name) for field in fields(item)] for item in items]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, array=array, index=np.frombuffer(json.dumps(rows).encode(), dtype=np.uint8))


def load(path: Path, kind: type[Item]) -> tuple[tuple[Item, ...], np.ndarray]:
    """Items and array that :func:`save` wrote; lists become tuples. Raises InputError: no such file, or no corpus."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            rows = json.loads(arrays["index"].tobytes().decode())
            items = (kind(*(tuple(v) if isinstance(v, list) else v for v in row)) for row in rows)
            return tuple(items), arrays["array"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a corpus: {type(error).__name__}") from error


def pairs(items: Sequence[str], what: str) -> list[tuple[str, str]]:
    """``NAME=VALUE`` of each item. Raises InputError that says ``what`` is expected."""
    found = [
        (name, value)
        for name, sign, value in (item.partition("=") for item in items)
        if sign and name and value
    ]
    if len(found) < len(items):
        raise InputError(f"{', '.join(items)}: expected {what}")
    return found
