"""A table for spreadsheets and data frames: CSV as RFC 4180 has it, one row a box."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from multiway_vision_language.export.annotations import boxes_in, file_name
from multiway_vision_language.result import Grounding

COLUMNS = (
    "source", "model", "width", "height", "phrase", "start", "end", "present",
    "x0", "y0", "x1", "y1", "confidence", "upper_left_cell", "lower_right_cell",
)  # fmt: skip


def to_csv(results: Sequence[Grounding]) -> str:
    """All results; an entity without a box has one row whose last seven columns are empty."""
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for result in results:
        picture = (file_name(result.source), result.model, result.width, result.height)
        for entity in result.entities:
            head = (*picture, entity.phrase, *entity.span, entity.present)
            found = [(box, xyxy) for owner, box, xyxy in boxes_in(result) if owner is entity]
            rows.writerows((*head, *xyxy, box.confidence, *box.cells) for box, xyxy in found)
            if not found:
                rows.writerow((*head, *[""] * 7))
    return text.getvalue()
