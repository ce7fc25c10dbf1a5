"""Data sets to be measured on, each in the layout it is published in, read into :class:`OcrSample`.

    for sample in load(Path("funsd/testing_data")):
        ...

Samples come lazily and in a fixed order. Reading is strict: a bad row is a DataError that names file and
place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from multiway_core.errors import DataError, InputError

from multiway_document.datasets import cord, funsd, omnidocbench, paired, sroie
from multiway_document.datasets.sample import OcrSample

KINDS = {
    "funsd": funsd,
    "cord": cord,
    "omnidocbench": omnidocbench,
    "sroie": sroie,
    "paired": paired,
}


def load(path: str | Path, kind: str | None = None) -> Iterator[OcrSample]:
    """The samples of the data set at ``path``; its kind, one of ``KINDS``, is seen from the layout if not
    given.

    A folder whose parts (training, test) are folders of their own must be given part by part.

    Raises:
        InputError: no such path, or no such kind.
        DataError: the layout is none of those known, or (while iterating) something in a file is wrong.
    """
    path = Path(path)
    if kind is not None and kind not in KINDS:
        raise InputError(f"unknown data set kind {kind!r}; one of: {', '.join(KINDS)}")
    if not path.exists():
        raise InputError(f"no data set at {path}")
    return KINDS[kind or detect(path)].read(path)


def detect(path: Path) -> str:
    """The kind of data set at ``path``. Raises DataError: none known, or a folder of parts."""
    published = [kind for kind in KINDS if kind != "paired"]
    for kind in published:
        if KINDS[kind].matches(path):
            return kind
    parts = []
    if path.is_dir():
        parts = [
            part.name
            for part in sorted(path.iterdir())
            if part.is_dir() and any(KINDS[kind].matches(part) for kind in published)
        ]
    if parts:
        example = path / next((part for part in parts if "test" in part), parts[0])
        raise DataError(f"{path} has the parts {', '.join(parts)}; give one of them, such as {example}")
    if paired.matches(path):
        return "paired"
    raise DataError(
        f"{path} is no known data set; known layouts: FUNSD (annotations/, images/), CORD (json/, image/), "
        f"{omnidocbench.ANNOTATIONS} with images/, SROIE (pictures with .txt or .box.csv rows), "
        "or pictures with a .txt, .md, .json or .hocr file of the same name"
    )


__all__ = ["KINDS", "OcrSample", "detect", "load"]
