"""What a batch run is to do: the pictures of a folder with one request for all, or the rows of a JSONL file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiway_core.app import find_inputs
from multiway_core.errors import DataError, InputError, MultiwayError, os_reason

from multiway_grounding.request import Request


@dataclass(frozen=True)
class Job:
    """A picture and what to ask about it; picklable."""

    source: str
    request: Request

    @property
    def key(self) -> str:
        """What tells it apart from others of a run."""
        return key_of(self.source, self.request.to_json())


def key_of(source: str, request: dict[str, Any]) -> str:
    """A line's identity, as :attr:`Job.key`. File names that are no UTF-8 are written with replacements."""
    shown = os.fsencode(source).decode("utf-8", "replace")
    return json.dumps([shown, request], sort_keys=True)


def find_jobs(arguments: Sequence[str], request: Request) -> tuple[list[Job], list[tuple[str, str]]]:
    """Jobs in order, each once, and for each argument or row that led to none the reason.

    A row of a JSONL file is ``{"image": PATH}`` with the keys of :class:`Request` that differ from ``request``; the
    path is relative to the file. Raises DataError for a JSONL file that cannot be read at all.
    """
    from multiway_vision_language.pictures import SUFFIXES

    jobs: list[Job] = []
    problems: list[tuple[str, str]] = []
    for argument in arguments:
        if argument.lower().endswith(".jsonl"):
            rows, bad = _rows(Path(argument), request)
            jobs += rows
            problems += bad
        else:
            inputs, bad = find_inputs([argument], SUFFIXES)
            jobs += [Job(str(item.path), request) for item in inputs]
            problems += bad
    return list({job.key: job for job in jobs}.values()), problems


def _rows(path: Path, request: Request) -> tuple[list[Job], list[tuple[str, str]]]:
    try:
        lines = path.read_bytes().decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: is no UTF-8 text") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({os_reason(error)})") from None
    jobs: list[Job] = []
    problems: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            jobs.append(_row(line, path, number, request))
        except MultiwayError as error:
            problems.append((f"{path}:{number}", str(error)))
    return jobs, problems


def _row(line: str, path: Path, number: int, request: Request) -> Job:
    where = f"{path}:{number}"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: is no JSON") from None
    if not isinstance(row, dict) or not isinstance(row.get("image"), str) or not row["image"]:
        raise DataError(f'{where}: expected an object with a path under "image"')
    image = row.pop("image")
    own = Request.from_json({**request.to_json(), **row}, where=where)
    return Job(str(path.parent / image), own)
