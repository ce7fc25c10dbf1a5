"""OCR results: documents of pages of lines, and their JSON form ``multiway.ocr/1``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from multiway_core.errors import InputError
from multiway_core.json_fields import finite, members, share, typed, whole

SCHEMA = "multiway.ocr/1"

FROM_TEXT_LAYER = "text_layer"
"""Page flag: the text is the file's own and was not read."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the source page; x1 and y1 lie just past the last ink."""


@dataclass(frozen=True)
class Word:
    """One word of a line, with its own box and confidence (0 to 1)."""

    text: str
    box: Box
    confidence: float


@dataclass(frozen=True)
class Line:
    """One line of text: what it says, where it stands, how sure the reader is (0 to 1), and any warnings.

    ``words`` are the line's words in reading order where the reader knows their places, else empty.
    """

    text: str
    box: Box
    confidence: float
    flags: tuple[str, ...] = ()
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Page:
    """One page, its lines in reading order; ``width`` and ``height`` are pixels of the source page.

    ``truncated``: the reader hit its length limit; ``looped``: it began to repeat itself and was stopped. ``flags`` are
    warnings about the page, such as ``unread_ink``.
    """

    index: int
    width: int
    height: int
    lines: tuple[Line, ...]
    markdown: str | None = None
    truncated: bool = False
    looped: bool = False
    flags: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The lines' text, one line each."""
        return "\n".join(line.text for line in self.lines)


@dataclass(frozen=True)
class Document:
    """All pages read from one source, with the name of the model that read them."""

    source: str
    model: str
    pages: tuple[Page, ...]

    @property
    def text(self) -> str:
        """The pages' text, an empty line between pages."""
        return "\n\n".join(page.text for page in self.pages)

    def to_json(self) -> dict[str, Any]:
        """The document as plain JSON data (dicts, lists, strings, numbers) of schema ``multiway.ocr/1``."""
        return {
            "schema": SCHEMA,
            # Python keeps the bytes of a file name that are no UTF-8 as lone surrogates; JSON cannot.
            "source": re.sub("[\ud800-\udfff]", "\ufffd", self.source),
            "model": self.model,
            "pages": [page_to_json(page) for page in self.pages],
        }

    @classmethod
    def from_json(cls, data: object, *, where: str = "document") -> Document:
        """Read what :meth:`to_json` wrote.

        Strict: a missing or unknown key, a wrong type, a box that is not four finite ordered numbers or a
        confidence outside 0..1 raises InputError that names the place (``document.pages[0].lines[2].box``).
        """
        fields = members(data, ("schema", "source", "model", "pages"), where)
        if fields["schema"] != SCHEMA:
            raise InputError(f"{where}.schema: expected {SCHEMA!r}, got {fields['schema']!r}")
        return cls(
            source=typed(fields["source"], str, f"{where}.source"),
            model=typed(fields["model"], str, f"{where}.model"),
            pages=tuple(
                page_from_json(page, where=f"{where}.pages[{i}]")
                for i, page in enumerate(typed(fields["pages"], list, f"{where}.pages"))
            ),
        )


def page_to_json(page: Page) -> dict[str, Any]:
    """One page as it stands in the document's ``pages`` (also one row of the JSON-lines format)."""
    return {
        "index": page.index,
        "width": page.width,
        "height": page.height,
        "lines": [
            {
                "text": line.text,
                "box": [_tidy(value) for value in line.box],
                "confidence": _tidy(line.confidence, digits=4),
                "flags": list(line.flags),
                "words": [
                    {
                        "text": word.text,
                        "box": [_tidy(value) for value in word.box],
                        "confidence": _tidy(word.confidence, digits=4),
                    }
                    for word in line.words
                ],
            }
            for line in page.lines
        ],
        "markdown": page.markdown,
        "truncated": page.truncated,
        "looped": page.looped,
        "flags": list(page.flags),
    }


def page_from_json(data: object, *, where: str = "page") -> Page:
    """Read what :func:`page_to_json` wrote, or wrote before pages had flags and lines words; raises InputError as
    :meth:`Document.from_json` does."""
    names = ("index", "width", "height", "lines", "markdown", "truncated", "looped")
    fields = members(_with(data, "flags"), (*names, "flags"), where)
    markdown = fields["markdown"]
    return Page(
        index=whole(fields["index"], f"{where}.index"),
        width=whole(fields["width"], f"{where}.width"),
        height=whole(fields["height"], f"{where}.height"),
        lines=tuple(
            _line(line, f"{where}.lines[{i}]")
            for i, line in enumerate(typed(fields["lines"], list, f"{where}.lines"))
        ),
        markdown=None if markdown is None else typed(markdown, str, f"{where}.markdown"),
        truncated=typed(fields["truncated"], bool, f"{where}.truncated"),
        looped=typed(fields["looped"], bool, f"{where}.looped"),
        flags=_strings(fields["flags"], f"{where}.flags"),
    )


def _line(data: object, where: str) -> Line:
    fields = members(_with(data, "words"), ("text", "box", "confidence", "flags", "words"), where)
    return Line(
        text=typed(fields["text"], str, f"{where}.text"),
        box=_box(fields["box"], f"{where}.box"),
        confidence=share(fields["confidence"], f"{where}.confidence"),
        flags=_strings(fields["flags"], f"{where}.flags"),
        words=tuple(
            _word(word, f"{where}.words[{i}]")
            for i, word in enumerate(typed(fields["words"], list, f"{where}.words"))
        ),
    )


def _word(data: object, where: str) -> Word:
    fields = members(data, ("text", "box", "confidence"), where)
    return Word(
        text=typed(fields["text"], str, f"{where}.text"),
        box=_box(fields["box"], f"{where}.box"),
        confidence=share(fields["confidence"], f"{where}.confidence"),
    )


def _with(data: object, name: str) -> object:
    """The object with an empty list where it lacks one that was added to the schema later."""
    return {name: [], **data} if isinstance(data, dict) else data


def _box(data: object, where: str) -> Box:
    box = [finite(value, where) for value in typed(data, list, where)]
    if len(box) != 4 or box[0] > box[2] or box[1] > box[3]:
        raise InputError(f"{where}: expected [x0, y0, x1, y1] with x0 <= x1 and y0 <= y1, got {box}")
    return box[0], box[1], box[2], box[3]


def _strings(data: object, where: str) -> tuple[str, ...]:
    return tuple(typed(item, str, f"{where}[{i}]") for i, item in enumerate(typed(data, list, where)))


def _tidy(value: float, digits: int = 2) -> int | float:
    """A number as short JSON: at most ``digits`` decimals, and no decimals for a whole number."""
    rounded = round(float(value), digits)
    return int(rounded) if rounded.is_integer() else rounded
