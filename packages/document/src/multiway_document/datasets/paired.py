"""Your own data: a folder of pictures, each with ground truth of the same name beside it.

``page.png`` with any of ``page.txt`` (text, a line a row), ``page.md`` (markdown), ``page.json``
(``multiway.ocr/1``, one page) and ``page.hocr`` (or ``page.hocr.html``). Boxes come from JSON, else hOCR;
text from ``.txt``, else from what gave the boxes, else it is the markdown. Subfolders are read too and name
the category.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from multiway_core.data_files import read_json, read_text
from multiway_core.errors import DataError, InputError

from multiway_document.datasets.files import IMAGE_SUFFIXES
from multiway_document.datasets.hocr_truth import read_hocr
from multiway_document.datasets.sample import OcrSample
from multiway_document.result import Document, Page

_TRUTH = (".txt", ".md", ".json", ".hocr", ".hocr.html")


def matches(folder: Path) -> bool:
    """Whether some picture in the folder or below has ground truth beside it."""
    return folder.is_dir() and any(_truth(image) for image in _images(folder))


def read(folder: Path) -> Iterator[OcrSample]:
    """All pictures; one without ground truth is a DataError, since leaving it out would change the score."""
    for image in _images(folder):
        truth = _truth(image)
        if not truth:
            names = ", ".join(image.stem + suffix for suffix in _TRUTH)
            raise DataError(f"{image}: no ground truth beside it (any of {names})")
        yield _sample(folder, image, truth)


def _sample(folder: Path, image: Path, truth: dict[str, Path]) -> OcrSample:
    page = _page(truth[".json"]) if ".json" in truth else None
    hocr = truth.get(".hocr", truth.get(".hocr.html"))
    markdown = read_text(truth[".md"]) if ".md" in truth else page.markdown if page else None
    lines = page.lines if page else tuple(read_hocr(hocr)) if hocr else None
    if ".txt" in truth:
        text = read_text(truth[".txt"]).strip("\n\f")
    elif lines is not None:
        text = "\n".join(line.text for line in lines)
    else:
        text = markdown or ""
    inside = image.parent.relative_to(folder)
    return OcrSample(
        name=(inside / image.stem).as_posix(),
        image_path=image,
        text=text,
        lines=lines,
        markdown=markdown,
        category=inside.as_posix() if inside.parts else None,
    )


def _page(path: Path) -> Page:
    try:
        document = Document.from_json(read_json(path), where=str(path))
    except InputError as error:
        raise DataError(str(error)) from error
    if len(document.pages) != 1:
        raise DataError(f"{path}: expected one page, the picture's, got {len(document.pages)}")
    return document.pages[0]


def _images(folder: Path) -> Iterator[Path]:
    return (
        path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )


def _truth(image: Path) -> dict[str, Path]:
    paths = {suffix: image.with_name(image.stem + suffix) for suffix in _TRUTH}
    return {suffix: path for suffix, path in paths.items() if path.is_file()}
