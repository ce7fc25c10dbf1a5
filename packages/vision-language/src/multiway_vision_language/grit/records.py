"""Records of GrIT in the form of ``zzliang/GRIT``, and what a trainer reads from them.

A record's ``noun_chunks`` and ``ref_exps`` are rows ``[start, end, x1, y1, x2, y2, score]``: characters of the caption,
and a box as shares of the picture's width and height.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from multiway_core.data_files import get, get_items, number, shown
from multiway_core.errors import DataError

from multiway_vision_language.datasets.files import id_of
from multiway_vision_language.grit.chunks import Span, outermost
from multiway_vision_language.grounded_text import Phrase, build
from multiway_vision_language.locations import LocationGrid, NormalBox

MIN_SCORE = 0.65
Kind = Literal["noun_chunks", "ref_exps"]


@dataclass(frozen=True)
class ScoredBox:
    """A place of a span of the caption; ``score`` is the proposer's, 0 to 1."""

    span: Span
    box: NormalBox
    score: float


@dataclass(frozen=True)
class GritRecord:
    """One captioned picture with the places of its noun chunks and referring expressions."""

    id: str
    url: str
    caption: str
    width: int
    height: int
    noun_chunks: tuple[ScoredBox, ...]
    ref_exps: tuple[ScoredBox, ...]
    clip_similarity_vitb32: float | None = None
    clip_similarity_vitl14: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The record with the keys of ``zzliang/GRIT``."""
        return {
            "clip_similarity_vitb32": self.clip_similarity_vitb32,
            "clip_similarity_vitl14": self.clip_similarity_vitl14,
            "id": self.id,
            "url": self.url,
            "caption": self.caption,
            "width": self.width,
            "height": self.height,
            "noun_chunks": [[*row.span, *row.box, row.score] for row in self.noun_chunks],
            "ref_exps": [[*row.span, *row.box, row.score] for row in self.ref_exps],
        }

    @classmethod
    def from_json(cls, data: Any, *, where: str = "record") -> GritRecord:
        """Read a record; further keys are passed over.

        Raises DataError that names the place: a key is missing or of a wrong type, a span does not lie in the
        caption, a box is not ordered.
        """
        caption = get(data, "caption", str, where)
        width, height = (
            int(number(get(data, key, object, where), f"{where}.{key}")) for key in ("width", "height")
        )
        return cls(
            id=id_of(data, "id", where) if data.get("id") is not None else "",
            url=get(data, "url", str, where) if data.get("url") is not None else "",
            caption=caption,
            width=width,
            height=height,
            noun_chunks=_rows(data, "noun_chunks", len(caption), where),
            ref_exps=_rows(data, "ref_exps", len(caption), where),
            clip_similarity_vitb32=_similarity(data, "clip_similarity_vitb32", where),
            clip_similarity_vitl14=_similarity(data, "clip_similarity_vitl14", where),
        )


@dataclass(frozen=True)
class GroundedSpan:
    """A span of a caption with all its boxes."""

    span: Span
    boxes: tuple[NormalBox, ...]


def grounded_spans(
    record: GritRecord, kind: Kind = "ref_exps", *, min_score: float = MIN_SCORE
) -> list[GroundedSpan]:
    """The spans a trainer uses, by position: rows with enough score, clustered by span, outermost ones only.

    The boxes of a span keep the record's order.
    """
    rows = [row for row in getattr(record, kind) if row.score >= min_score]
    return [
        GroundedSpan(span, tuple(row.box for row in rows if row.span == span))
        for span in outermost(row.span for row in rows)
    ]


def grounded_text(caption: str, spans: Sequence[GroundedSpan], grid: LocationGrid) -> str:
    """The caption with tags around its spans, as Kosmos-2 is trained on; spans that cross an earlier one stay plain.

    Raises InputError: the caption holds ``<``, which begins a tag.
    """
    parts: list[str | Phrase] = []
    place = 0
    for item in spans:
        start, end = item.span
        if start < place:
            continue
        parts += [
            caption[place:start],
            Phrase(caption[start:end], tuple(grid.encode(box) for box in item.boxes)),
        ]
        place = end
    return build([*parts, caption[place:]])


def _rows(data: Any, key: str, length: int, where: str) -> tuple[ScoredBox, ...]:
    rows = []
    for row, place in get_items(data, key, where):
        if not isinstance(row, list) or len(row) != 7:
            raise DataError(f"{place}: expected [start, end, x1, y1, x2, y2, score], got {shown(row)}")
        start, end, x1, y1, x2, y2, score = (number(value, place) for value in row)
        # Published records have whole numbers as floats.
        if start != int(start) or end != int(end) or not 0 <= start < end <= length:
            raise DataError(
                f"{place}: expected 0 <= start < end <= {length} characters, got {start:g} and {end:g}"
            )
        if x1 > x2 or y1 > y2:
            raise DataError(f"{place}: expected x1 <= x2 and y1 <= y2, got {shown(row[2:6])}")
        rows.append(ScoredBox(Span(int(start), int(end)), (x1, y1, x2, y2), score))
    return tuple(rows)


def _similarity(data: Any, key: str, where: str) -> float | None:
    value = data.get(key)
    return None if value is None else number(value, f"{where}.{key}")
