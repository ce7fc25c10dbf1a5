"""The pages that text readers are compared on, each as a picture file with what is known to stand on it."""

from __future__ import annotations

import gzip
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from multiway_document.result import Box

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
RECEIPTS = REPOSITORY.parent / "shared/data/documents/sroie/test"
PDF_FILES = (
    Path("/usr/share/doc/debian-policy/policy.pdf.gz"),
    Path("/usr/share/developers-reference/developers-reference.pdf"),
    Path("/usr/share/doc/valgrind/valgrind_manual.pdf.gz"),
    Path("/usr/share/doc/libtasn1-doc/libtasn1.pdf"),
    Path("/usr/share/doc/bzip2/manual.pdf.gz"),
    Path("/usr/share/doc/nettle-dev/nettle.pdf.gz"),
)
PDF_DPI = 100
SCAN_DPI = 200
DEGRADED = ("dpi_60", "uneven_light", "low_contrast_noise", "salt_pepper", "skew_8")
SYNTHETIC = ("clean_150", *DEGRADED)
SETS = (*SYNTHETIC, "real_scans", "receipts", "born_digital_100", "markdown")

FACTOR = {"receipts": 4}  # small pages, so more of them

BoxConvention = Literal["line", "ink"]
"""``line``: first to last advance, font ascent to descent; ``ink``: close around the ink."""


@dataclass(frozen=True)
class Case:
    """``lines`` is None where only the text is known. ``upright`` maps (x, y, 1) of the picture to the page before it
    was turned; ``upright_lines`` are the true boxes there."""

    set: str
    name: str
    path: Path
    text: str
    lines: list[tuple[str, Box]] | None
    convention: BoxConvention = "line"
    ignore_case: bool = False
    markdown: str | None = None
    upright: np.ndarray | None = None
    upright_lines: list[tuple[str, Box]] | None = None


def cases(name: str, count: int, folder: Path, seed: int) -> Iterator[Case]:
    """At most ``count`` pages of one of :data:`SETS`; none where its source is not installed here."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in SYNTHETIC:
        return _synthetic(name, count, folder, seed)
    source = {
        "real_scans": _scans,
        "receipts": _receipts,
        "born_digital_100": _born_digital,
        "markdown": _markdown,
    }[name]
    return source(count, folder, seed)


def _synthetic(name: str, count: int, folder: Path, seed: int) -> Iterator[Case]:
    from multiway_document.rendering.suites import suite
    from PIL import Image

    for number, page in enumerate(suite(name, count, seed=seed)):
        path = folder / f"{name}-{seed}-{number}.png"
        Image.fromarray(page.image).save(path)
        upright = upright_lines = None
        if name == "skew_8":
            straight = _nth(suite("clean_150", number + 1, seed=seed), number)
            upright_lines = straight.lines
            upright = _turn_back(straight.image.shape, page.image.shape, straight.lines, page.lines)
        yield Case(
            name, f"{name}/{number}", path, page.text, page.lines, markdown=page.markdown,
            upright=upright, upright_lines=upright_lines,
        )  # fmt: skip


def _nth(pages, number: int):
    for index, page in enumerate(pages):
        if index == number:
            return page
    raise IndexError(number)


def _turn_back(
    straight: tuple[int, ...],
    turned: tuple[int, ...],
    lines: list[tuple[str, Box]],
    turned_lines: list[tuple[str, Box]],
) -> np.ndarray:
    """The (2, 3) map from the turned page to the straight one: about the middle, by 8 degrees, the way that takes the
    lines' centres to where they were."""
    before, after = (np.array([_centre(box) for _, box in part]) for part in (lines, turned_lines))
    candidates = []
    for angle in (math.radians(8), math.radians(-8)):
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        middle = np.array([turned[1] / 2, turned[0] / 2])
        offset = np.array([straight[1] / 2, straight[0] / 2]) - turn @ middle
        error = np.abs(after @ turn.T + offset - before).max()
        candidates.append((error, np.column_stack([turn, offset])))
    error, matrix = min(candidates, key=lambda candidate: candidate[0])
    assert error < 2, f"the turned page's lines lie {error:.1f} pixels off"
    return matrix


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def rendered_lines(
    read: Callable[[Path, str], dict[str, Any]], folder: Path, seed: int, count: int, *, task: str = "lines"
) -> dict[str, float]:
    """Character error rate on single lines in held-out fonts and texts, drawn as crops: the reader without the line
    finder. ``clean`` and ``degraded`` (every degradation that training uses, mixed)."""
    from multiway_document.metrics import corpus_cer
    from multiway_document.rendering.fonts import FontLibrary
    from multiway_document.rendering.lines import LineSampler
    from multiway_document.rendering.pool import draw_length_range
    from multiway_document.rendering.text import TextSource

    sampler = LineSampler(FontLibrary.discover().split("held_out"), TextSource.discover(split="held_out"))
    rates: dict[str, float] = {"lines": count}
    for name, degraded in (("clean", False), ("degraded", True)):
        rng = np.random.default_rng([seed, degraded])
        lines = []
        for _ in range(count):
            low, high = draw_length_range(rng, 1, 90)
            lines.append(sampler(rng, high, min_characters=low, degraded=degraded))
        path = folder / f"lines-{name}.npz"
        np.savez(path, *[line.image for line in lines])
        texts = read(path, task)["texts"]
        rates[name] = corpus_cer(zip(texts, [line.text for line in lines], strict=True))
    return rates


def _markdown(count: int, folder: Path, seed: int) -> Iterator[Case]:
    from multiway_document.rendering.suites import suite
    from PIL import Image

    articles = suite("clean_150", -(-count // 2), seed=seed + 1, kind="article")
    reports = suite("clean_150", count // 2, seed=seed + 2, kind="report")
    for number in range(count):
        page = next(reports if number % 2 else articles)
        path = folder / f"markdown-{seed}-{number}.png"
        Image.fromarray(page.image).save(path)
        yield Case(
            "markdown", f"{page.kind}/{number // 2}", path, page.text, page.lines, markdown=page.markdown
        )


def _scans(count: int, folder: Path, seed: int) -> Iterator[Case]:
    """Pictures and one-page PDF files of ``examples/`` with a transcript of the same name beside them."""
    from multiway_document.datasets.files import IMAGE_SUFFIXES
    from multiway_document.pages import open_pages

    suffixes = (*IMAGE_SUFFIXES, ".pdf")
    scans = [path for path in sorted(EXAMPLES.rglob("*")) if path.suffix.lower() in suffixes]
    with_truth = [path for path in scans if path.with_suffix(".txt").is_file()]
    for path in with_truth[:count]:
        text = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        picture = path
        if path.suffix.lower() == ".pdf":
            page = next(iter(open_pages(path, pages="1", dpi=SCAN_DPI)))
            if page.text_lines:
                continue
            picture = folder / f"{path.stem}.png"
            page.image.save(picture)
        yield Case("real_scans", path.stem, picture, text, None)


def _receipts(count: int, folder: Path, seed: int) -> Iterator[Case]:
    from multiway_document.datasets import load

    if not RECEIPTS.is_dir():
        return
    for sample in list(load(RECEIPTS))[:count]:
        lines = [(line.text, line.box) for line in sample.lines or ()]
        # The set's labels are in capitals, whatever the receipt shows.
        yield Case(
            "receipts", sample.name, sample.image_path, sample.text, lines, convention="ink", ignore_case=True
        )


def _born_digital(count: int, folder: Path, seed: int) -> Iterator[Case]:
    """Pages of manuals, evenly spread over each; the truth is the file's text layer."""
    from multiway_document.pages import count_pages, open_pages

    found = []
    for path in PDF_FILES:
        if path.is_file():
            found.append(path)
    for number in range(count if found else 0):
        path = found[number % len(found)]
        if path.suffix == ".gz":
            plain = folder / path.stem
            if not plain.is_file():
                with gzip.open(path) as packed, plain.open("wb") as target:
                    shutil.copyfileobj(packed, target)
            path = plain
        pages = count_pages(path)
        turn = number // len(found)
        first = max(1, round(pages * (0.3 + 0.13 * turn)))
        for index in range(first, min(pages, first + 5) + 1):
            page = next(iter(open_pages(path, pages=str(index), dpi=PDF_DPI)))
            lines = page.text_lines or []
            # Rows of leader dots in a table of contents would be most of the page's characters.
            if len(lines) >= 12 and not any(". . . ." in line.text for line in lines):
                break
        else:
            continue
        target = folder / f"{path.stem}-{index}.png"
        page.image.save(target)
        lines = [(line.text, line.box) for line in page.text_lines]
        text = "\n".join(line for line, _ in lines)
        yield Case("born_digital_100", f"{path.stem} page {index}", target, text, lines)
