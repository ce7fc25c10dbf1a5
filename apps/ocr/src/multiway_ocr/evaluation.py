"""Measuring a reader: data sets in their published layouts, and pages drawn here in held-out fonts."""

from __future__ import annotations

import functools
import io
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.errors import InputError
from multiway_core.evaluation import Ratio, Report, Sample, evaluate

from multiway_ocr.reader import Reader, ReadOptions, Task

if TYPE_CHECKING:
    from multiway_document.result import Box, Page
    from PIL import Image

SYNTHETIC = "synthetic"
_PAGES_A_CONDITION = 4
_QUICK_PAGES_A_CONDITION = 1
_TESSERACT_SECONDS = 60


@dataclass(frozen=True)
class Truth:
    """What is known of a page: ``boxes`` and ``markdown`` are None where the data set does not tell; ``beside`` is what
    baselines read, by their names."""

    text: str
    boxes: list[Box] | None
    markdown: str | None
    category: str
    beside: dict[str, str | None] = field(default_factory=dict)


def evaluate_dataset(
    dataset: str,
    options: ReadOptions,
    *,
    limit: int | None = None,
    seed: int = 0,
    on_sample: Callable[[dict[str, Any]], None] | None = None,
) -> Report:
    """Read every page of a data set and score it.

    Args:
        dataset: a folder that ``multiway_document.datasets.load`` knows, or ``synthetic``: text pages under
            six conditions in fonts and texts never trained on (``synthetic:NAME`` for one condition).
        options: model, engine and task; text layers are not used.
        limit: at most so many pages (of each condition for ``synthetic``).
        seed: of the drawn pages and of the bootstrap.
        on_sample: called with each finished row.

    Raises:
        InputError: no such data set, or no page of it could be read.
        DataError: something in the data set is wrong; names the file.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: must be at least 1")
    if dataset == SYNTHETIC or dataset.startswith(SYNTHETIC + ":"):
        samples = _synthetic(dataset, limit or _PAGES_A_CONDITION, seed)
    else:
        samples = _from_files(dataset, limit)
    pipeline = Reader(options).pipeline()
    engine = options.engine or pipeline.engines[0]

    def predict(open_image: Callable[[], Image.Image]) -> Page:
        return pipeline(open_image(), task=options.task, engine=engine)

    return evaluate(
        samples,
        predict,
        _metrics(options.task),
        name=f"{options.model}, {engine} engine, {options.task}, on {dataset}",
        seed=seed,
        group=lambda sample: sample.target.category,
        on_sample=on_sample,
    )


def quick_evaluation() -> Report:
    """The bundled model's default engine on one drawn page of each condition, and beside it its one-pass reader alone
    and, where it is installed, Tesseract; half a minute of one core."""
    options = ReadOptions(device="cpu")
    pipeline = Reader(options).pipeline()
    baselines: dict[str, Callable[[Image.Image], str | None]] = {
        "fast engine": lambda image: pipeline(image, engine="fast").text
    }
    if shutil.which("tesseract"):
        baselines["tesseract"] = _tesseract

    def with_baselines() -> Iterator[Sample]:
        # Before a page is read, so that the latency is our engine's alone.
        for sample in _synthetic(SYNTHETIC, _QUICK_PAGES_A_CONDITION, 0):
            read = {name: reader(sample.input()) for name, reader in baselines.items()}
            yield replace(sample, target=replace(sample.target, beside=read))

    metrics = _metrics("ocr") | {f"cer {name}": _baseline(name) for name in baselines}
    return evaluate(
        with_baselines(),
        lambda open_image: pipeline(open_image()),
        metrics,
        name=f"{options.model}, {pipeline.engines[0]} engine, on {SYNTHETIC}",
        group=lambda sample: sample.target.category,
    )


def _baseline(name: str) -> Callable[[Page, Truth], Ratio | None]:
    from multiway_document.metrics import character_edits

    def measure(page: Page, truth: Truth) -> Ratio | None:
        read = truth.beside[name]
        return None if read is None else Ratio(*character_edits(read, truth.text))

    return measure


def _tesseract(image: Image.Image) -> str | None:
    """What the ``tesseract`` of this machine reads, with its default options; None where it fails."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    try:
        done = subprocess.run(
            ["tesseract", "-", "-", "-l", "eng"],
            input=buffer.getvalue(),
            capture_output=True,
            check=True,
            timeout=_TESSERACT_SECONDS,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},  # its threads wait more than they work
        )
    except (OSError, subprocess.SubprocessError):  # no English data, say
        return None
    rows = done.stdout.decode("utf-8", errors="replace").split("\n")
    return "\n".join(row.strip() for row in rows if row.strip())


def _metrics(task: Task) -> dict[str, Callable[[Page, Truth], float | Ratio | None]]:
    from multiway_document.metrics import (
        box_iou_matched,
        box_iou_union,
        character_edits,
        ned,
        nted,
        word_edits,
        word_f1,
    )

    if task == "markdown":
        return {
            "ned": lambda page, truth: _of_markdown(ned, page, truth),
            "nted": lambda page, truth: _of_markdown(nted, page, truth),
        }
    return {
        "cer": lambda page, truth: Ratio(*character_edits(page.text, truth.text)),
        "wer": lambda page, truth: Ratio(*word_edits(page.text, truth.text)),
        "word_f1": lambda page, truth: word_f1(page.text, truth.text),
        "ned": lambda page, truth: ned(page.text, truth.text),
        "iou_union": lambda page, truth: _of_boxes(box_iou_union, page, truth),
        "iou_matched": lambda page, truth: _of_boxes(box_iou_matched, page, truth),
    }


def _of_boxes(metric: Callable[[list[Box], list[Box]], float], page: Page, truth: Truth) -> float | None:
    return None if truth.boxes is None else metric([line.box for line in page.lines], truth.boxes)


def _of_markdown(metric: Callable[[str, str], float], page: Page, truth: Truth) -> float | None:
    return None if truth.markdown is None else metric(page.markdown or "", truth.markdown)


def _synthetic(dataset: str, pages: int, seed: int) -> Iterator[Sample]:
    from multiway_document.rendering.suites import CONDITIONS

    _, _, wanted = dataset.partition(":")
    if wanted and wanted not in CONDITIONS:
        raise InputError(f"--dataset {dataset}: the conditions are {', '.join(CONDITIONS)}")
    return _drawn([wanted] if wanted else list(CONDITIONS), pages, seed)


def _drawn(conditions: list[str], pages: int, seed: int) -> Iterator[Sample]:
    from multiway_document.rendering.suites import suite
    from PIL import Image

    for condition in conditions:
        for number, page in enumerate(suite(condition, pages, seed=seed)):
            truth = Truth(page.text, [box for _, box in page.lines], page.markdown, condition)
            yield Sample(f"{condition}/{number}", functools.partial(Image.fromarray, page.image), truth)


def _from_files(dataset: str, limit: int | None) -> Iterator[Sample]:
    from multiway_document import datasets

    if not Path(dataset).exists():
        raise InputError(f"--dataset {dataset}: no such folder; give one, or {SYNTHETIC}")
    return _loaded(datasets.load(dataset), limit)


def _loaded(loaded: Iterator[Any], limit: int | None) -> Iterator[Sample]:
    for item in itertools.islice(loaded, limit):
        boxes = None if item.lines is None else [line.box for line in item.lines]
        truth = Truth(item.text, boxes, item.markdown, item.category or "all pages")
        yield Sample(item.name, functools.partial(_open, item.image_path), truth)


def _open(path: Path) -> Image.Image:
    from multiway_document.pages import open_pages

    return next(iter(open_pages(path, pages="1"))).image
