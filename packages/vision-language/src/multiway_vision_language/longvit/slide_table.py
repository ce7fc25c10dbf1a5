"""The CSV of slides that a training or an evaluation reads, and its folds by patient.

Columns: ``slide`` (path, from the CSV's folder), ``label`` or ``time`` and ``event`` (1 or 0), and optionally
``patient`` (by default each slide is its own) and ``split`` (train or test).
"""

from __future__ import annotations

import csv
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from multiway_core.errors import DataError, InputError, os_reason

from multiway_vision_language.longvit.config import Task

_YES, _NO = {"1", "true", "yes"}, {"0", "false", "no"}


@dataclass(frozen=True)
class SlideRow:
    """One slide. ``label`` is empty for survival, ``time`` 0 for classes; ``split`` may be empty."""

    path: Path
    patient: str
    label: str = ""
    time: float = 0.0
    event: bool = False
    split: str = ""


def read_slides(path: Path, task: Task) -> list[SlideRow]:
    """The rows of a CSV. Raises InputError (no such file), DataError (file and line)."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            needed = {"slide", "time", "event"} if task == "survival" else {"slide", "label"}
            if needed - columns:
                raise DataError(
                    f"{path}: no column {', '.join(sorted(needed - columns))}; there are {sorted(columns)}"
                )
            rows = [_row(values, path, reader.line_num, task) for values in reader]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({os_reason(error)})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV in UTF-8 ({error})") from error
    if not rows:
        raise DataError(f"{path}: has no rows")
    refuse_shared_patients(
        [row for row in rows if row.split == "train"], [row for row in rows if row.split == "test"], str(path)
    )
    return rows


def refuse_shared_patients(train: Sequence[SlideRow], test: Sequence[SlideRow], where: str) -> None:
    """Raise DataError for a patient, or a slide, in both: the test would measure what was learnt by heart."""
    for name, found in (
        ("patient", {row.patient for row in train} & {row.patient for row in test}),
        ("slide", {str(row.path) for row in train} & {str(row.path) for row in test}),
    ):
        if found:
            raise DataError(
                f"{where}: {name} {min(found)} is in train and in test"
                + (f", and {len(found) - 1} more" if len(found) > 1 else "")
            )


def folds(rows: Sequence[SlideRow], count: int, seed: int) -> list[list[int]]:
    """Indices of the held-out slides of each fold: all slides of a patient in one, classes (or events) spread evenly.

    Raises InputError: fewer patients than folds, or a fold with one class only.
    """
    patients: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        patients[row.patient].append(index)
    if not 2 <= count <= len(patients):
        raise InputError(
            f"{count} folds of {len(patients)} patients: expected 2 folds to as many as there are patients"
        )
    groups: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for patient, indices in sorted(patients.items()):
        groups[(rows[indices[0]].label, rows[indices[0]].event)].append(patient)
    generator = random.Random(seed)
    order: list[str] = []
    for _, names in sorted(groups.items()):
        generator.shuffle(names)
        order += names
    parts: list[list[int]] = [[] for _ in range(count)]
    for place, patient in enumerate(order):
        parts[place % count] += patients[patient]
    for number, part in enumerate(parts):
        check_classes([rows[index] for index in part], f"fold {number}")
        check_classes(
            [row for index, row in enumerate(rows) if index not in set(part)], f"the rest of fold {number}"
        )
    return [sorted(part) for part in parts]


def check_classes(rows: Sequence[SlideRow], where: str) -> None:
    """Raise InputError where all labels are one, or nobody had the event: then nothing can be learnt or measured."""
    labels = Counter(row.label for row in rows)
    if labels[""] == len(rows):
        if not any(row.event for row in rows):
            raise InputError(
                f"{where}: none of its {len(rows)} slides has the event; give more slides or fewer folds"
            )
    elif len(labels) < 2:
        raise InputError(
            f"{where}: all its {len(rows)} slides have the label {next(iter(labels))!r}; "
            "give more slides or fewer folds"
        )


def _row(values: dict[str, str], path: Path, line: int, task: Task) -> SlideRow:
    def get(name: str) -> str:
        return (values.get(name) or "").strip()

    where = f"{path}, line {line}"
    if not get("slide"):
        raise DataError(f"{where}: no slide")
    slide = Path(path).parent / get("slide")
    split = get("split")
    if split not in ("", "train", "test"):
        raise DataError(f"{where}: split {split!r}; expected train or test")
    patient = get("patient") or str(slide)
    if task != "survival":
        if not get("label"):
            raise DataError(f"{where}: no label")
        return SlideRow(slide, patient, label=get("label"), split=split)
    try:
        time = float(get("time"))
    except ValueError:
        time = float("nan")
    if not 0 <= time < float("inf"):
        raise DataError(f"{where}: time {get('time')!r}; expected a number of at least 0, such as months")
    if get("event").lower() not in _YES | _NO:
        raise DataError(f"{where}: event {get('event')!r}; expected 1 (it happened) or 0 (observation ended)")
    return SlideRow(slide, patient, time=time, event=get("event").lower() in _YES, split=split)
