"""The ``similarity`` command: all with all, or the nearest texts of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions
from multiway_core.errors import InputError

from multiway_encoder.inputs import note_long, pipeline_of, read_texts, refuse_empty

if TYPE_CHECKING:
    from multiway_text.encoder.result import Similarities

_SHOWN = 100  # characters of a text


@dataclass(frozen=True)
class Neighbours:
    """The nearest texts of one: (where it stands, text, cosine), best first."""

    text: str
    nearest: tuple[tuple[str, str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Schema ``multiway.encoder.nearest/1``."""
        rows = [{"source": s, "text": t, "cosine": round(c, 6)} for s, t, c in self.nearest]
        return {"schema": "multiway.encoder.nearest/1", "text": self.text, "nearest": rows}


def compare(texts: Sequence[str], model: ModelOptions, *, windows: bool) -> Similarities:
    """Each text with all. Raises InputError: fewer than two texts, or an empty one."""
    if len(texts) < 2:
        raise InputError("similarity compares at least two texts, or one with a file (--in)")
    refuse_empty(texts)
    return pipeline_of(model).similarity(texts, windows=windows)


def nearest(
    queries: Sequence[str], corpus: Sequence[str], top: int, model: ModelOptions, *, field: str, windows: bool
) -> list[Neighbours]:
    """The ``top`` nearest texts of files to each query. Raises InputError: no query, no text, an empty one."""
    if not queries:
        raise InputError("give at least one text whose nearest are to be found")
    refuse_empty(queries)
    texts = read_texts(corpus, field=field, drop_empty=True)
    found = pipeline_of(model).similarity(queries, texts.texts, windows=windows)
    behind = [row - len(queries) for row in found.truncated if row >= len(queries)]
    note_long(texts, behind, "--windows takes all of it")
    return [
        Neighbours(
            query,
            tuple(
                (texts.names[place], texts.texts[place], cosine) for place, cosine in found.nearest(row, top)
            ),
        )
        for row, query in enumerate(queries)
    ]


def nearest_text(found: Sequence[Neighbours]) -> str:
    """For people: a query, and under it a line a text."""
    lines = []
    for item in found:
        lines.append(_short(item.text))
        lines += [f"  {cosine:6.3f}  {_short(text)}  [{name}]" for name, text, cosine in item.nearest]
    return "\n".join(lines) + "\n"


def matrix_text(found: Similarities) -> str:
    """For people: a line a text with its cosines to all, numbered."""
    lines = ["      " + "".join(f"{number:>7}" for number in range(1, len(found.texts) + 1))]
    for number, (text, row) in enumerate(zip(found.texts, found.cosines, strict=True), 1):
        lines.append(f"{number:>4}  " + "".join(f"{value:7.3f}" for value in row) + f"  {_short(text)}")
    return "\n".join(lines) + "\n"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
