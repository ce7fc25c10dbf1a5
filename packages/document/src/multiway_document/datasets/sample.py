"""One page with its ground truth, the same for every data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from multiway_document.result import Box, Line


@dataclass(frozen=True)
class OcrSample:
    """A page's picture and what is known to stand on it."""

    name: str
    image_path: Path
    text: str
    """All text in reading order, a line a row."""
    lines: tuple[Line, ...] | None = None
    """The lines, boxes in pixels of the picture and confidence 1; None if the data set has no boxes."""
    markdown: str | None = None
    category: str | None = None
    """The group that the data set puts the page in: a document type or a folder."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Named facts of the page, such as a receipt's total."""

    @property
    def boxes(self) -> list[Box]:
        """The lines' boxes; empty without lines."""
        return [line.box for line in self.lines or ()]


def sample_of_lines(
    name: str,
    image_path: Path,
    lines: list[Line],
    *,
    markdown: str | None = None,
    category: str | None = None,
    fields: Mapping[str, str] | None = None,
) -> OcrSample:
    """A sample whose text is that of its lines."""
    return OcrSample(
        name=name,
        image_path=image_path,
        text="\n".join(line.text for line in lines),
        lines=tuple(lines),
        markdown=markdown,
        category=category,
        fields=fields or {},
    )
