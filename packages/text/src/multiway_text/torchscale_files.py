"""Folders with TorchScale's flags in ``config.json`` and its tensor names in the checkpoint beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiway_core import config, files
from multiway_core.errors import CheckpointError


def read_flags(
    folder: Path, model_type: str, keys: Mapping[str, str], only: Mapping[str, Any]
) -> dict[str, Any]:
    """Our fields from ``config.json``.

    keys: flag -> our field; flags that are absent keep our default. only: flags that mean another network unless they
    have this value (or are absent). Raises CheckpointError, ConfigError for what is not JSON.
    """
    where = folder / "config.json"
    published = config.read_json(where)
    if published.get("model_type") != model_type:
        raise CheckpointError(
            f"{where}: model_type is {published.get('model_type')!r}, expected {model_type!r}"
        )
    for flag, value in only.items():
        if published.get(flag, value) != value:
            raise CheckpointError(f"{where}: {flag} is {published[flag]!r}, and only {value!r} is supported")
    return {name: published[flag] for flag, name in keys.items() if flag in published}


def write_flags(
    folder: Path, model_type: str, values: Mapping[str, Any], keys: Mapping[str, str], only: Mapping[str, Any]
) -> None:
    """The inverse. Raises OutputError."""
    flags = {flag: values[name] for flag, name in keys.items()}
    content = {"model_type": model_type, **flags, **only}
    files.write_text(folder / "config.json", json.dumps(content, indent=2) + "\n")
