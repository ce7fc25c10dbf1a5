"""OmniDocBench (Ouyang et al. 2024): pages of many kinds. ``OmniDocBench.json`` beside ``images/``.

A page is a list of blocks with a category, a quadrilateral, a place in the reading order and text, LaTeX or
HTML. Spans give the lines of a text block, or those of the blocks that it was merged from (``merge_list``, as in
lists); a block without either counts as one line. Spans marked ``ignore`` are left out. Blocks without a place in the
order (running heads, page numbers) stand in ``text`` and ``lines`` but not in ``markdown``; figures,
masks and ignored blocks in neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multiway_core.data_files import get, get_items, read_json, shown
from multiway_core.errors import DataError

from multiway_document.datasets.files import points_to_box
from multiway_document.datasets.layout import words_to_lines
from multiway_document.datasets.sample import OcrSample, sample_of_lines
from multiway_document.result import Line

ANNOTATIONS = "OmniDocBench.json"
_NO_TEXT = (
    "figure",
    "abandon",
    "need_mask",
    "text_mask",
    "table_mask",
    "organic_chemical_formula_mask",
    "algorithm_mask",
)


def matches(folder: Path) -> bool:
    """Whether the folder holds OmniDocBench (or the path is its JSON file)."""
    return folder.name == ANNOTATIONS or (folder / ANNOTATIONS).is_file()


def read(folder: Path) -> Iterator[OcrSample]:
    """The pages; ``category`` is the document type (``data_source``)."""
    path = folder if folder.name == ANNOTATIONS else folder / ANNOTATIONS
    pages = read_json(path)
    if not isinstance(pages, list):
        raise DataError(f"{path}: expected a list of pages, got {shown(pages)}")
    for i, page in enumerate(pages):
        yield _sample(page, f"{path}[{i}]", path.parent / "images")


def _sample(page: Any, where: str, images: Path) -> OcrSample:
    info = get(page, "page_info", dict, where)
    name = get(info, "image_path", str, f"{where}.page_info")
    image = images / Path(name).name
    if not image.is_file():
        raise DataError(f"{where}.page_info.image_path: no picture {image}")
    blocks = [_Block(block, place) for block, place in get_items(page, "layout_dets", where)]
    blocks = _in_order([block for block in blocks if block.counts])
    attributes = info.get("page_attribute")
    category = attributes.get("data_source") if isinstance(attributes, dict) else None
    return sample_of_lines(
        image.stem,
        image,
        [line for block in blocks for line in block.lines()],
        markdown=_markdown(blocks, _continued(page, where)),
        category=category,
    )


class _Block:
    def __init__(self, data: Any, where: str) -> None:
        self.data, self.where = data, where
        self.category = get(data, "category_type", str, where)
        self.box = points_to_box(get(data, "poly", list, where), f"{where}.poly")
        self.name = data.get("anno_id")
        order = data.get("order")
        if order is not None and (isinstance(order, bool) or not isinstance(order, int | float)):
            raise DataError(f"{where}.order: expected a number or null, got {shown(order)}")
        self.order: float | None = order
        self.counts = not data.get("ignore") and self.category not in _NO_TEXT

    def _text(self, key: str) -> str:
        value = self.data.get(key)
        if value is not None and not isinstance(value, str):
            raise DataError(f"{self.where}.{key}: expected a string, got {shown(value)}")
        return (value or "").strip()

    def text(self) -> str:
        """The block's own words: text, else LaTeX, else nothing (a table's are in its HTML)."""
        return self._text("text") or self._text("latex")

    def lines(self) -> list[Line]:
        if not self.data.get("line_with_spans") and self.data.get("merge_list"):
            parts = [_Block(part, place) for part, place in get_items(self.data, "merge_list", self.where)]
            return [line for part in parts if part.counts for line in part.lines()]
        spans = []
        for span, place in get_items(self.data, "line_with_spans", self.where) if self._has_spans() else ():
            if isinstance(span, dict) and span.get("ignore"):
                continue
            text = span.get("text") or span.get("latex") if isinstance(span, dict) else None
            if isinstance(text, str) and text.strip():
                spans.append((text.strip(), points_to_box(get(span, "poly", list, place), f"{place}.poly")))
        if spans:
            return words_to_lines(spans)
        text = "" if self.category == "table" else " ".join(self.text().split())
        return [Line(text, self.box, 1.0)] if text else []

    def markdown(self) -> str:
        if self.category == "table":
            return self._text("html") or self._text("latex")
        text = self.text()
        if not text:
            return ""
        if self.category == "title":
            return f"# {text}"
        if self.category == "equation_isolated":
            return f"$$\n{text.removeprefix('$$').removesuffix('$$').strip()}\n$$"
        if self.category.startswith("code_txt"):
            return f"```\n{text}\n```"
        return text

    def _has_spans(self) -> bool:
        return bool(self.data.get("line_with_spans"))


def _in_order(blocks: list[_Block]) -> list[_Block]:
    """The reading order; blocks without a place in it come first in the upper half, last in the lower."""
    middle = max((block.box[3] for block in blocks), default=0) / 2

    def key(block: _Block) -> tuple[int, float]:
        if block.order is not None:
            return 1, block.order
        return (0 if block.box[1] < middle else 2), block.box[1]

    return sorted(blocks, key=key)


def _continued(page: Any, where: str) -> set[tuple[Any, Any]]:
    """Pairs of blocks of which the second goes on with the first one's paragraph."""
    extra = page.get("extra")
    if not isinstance(extra, dict) or not extra.get("relation"):
        return set()
    pairs = set()
    for relation, place in get_items(extra, "relation", f"{where}.extra"):
        if not isinstance(relation, dict):
            raise DataError(f"{place}: expected an object, got {shown(relation)}")
        if "truncated" in (relation.get("relation_type"), relation.get("relation")):
            pairs.add((str(relation.get("source_anno_id")), str(relation.get("target_anno_id"))))
    return pairs


def _markdown(blocks: list[_Block], continued: set[tuple[Any, Any]]) -> str:
    parts: list[str] = []
    before: _Block | None = None
    for block in blocks:
        text = block.markdown() if block.order is not None else ""
        if not text:
            continue
        if before is not None and (str(before.name), str(block.name)) in continued:
            parts[-1] += f" {text}"
        else:
            parts.append(text)
        before = block
    return "\n\n".join(parts)
