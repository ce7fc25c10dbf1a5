"""Whole synthetic pages with their lines, boxes and markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from multiway_document.rendering.documents import Writer
from multiway_document.rendering.fonts import FontFace, FontLibrary, Genre
from multiway_document.rendering.layout import Align, Box, Canvas, Column, Flow, Theme
from multiway_document.rendering.markdown_tree import (
    Block,
    ListBlock,
    Paragraph,
    Style,
    restrict,
    to_markdown,
    words,
)
from multiway_document.rendering.text import TextSource

Kind = Literal["text", "article", "two_columns", "report", "letter", "receipt"]
KINDS: tuple[Kind, ...] = get_args(Kind)
KIND_ODDS = (0.10, 0.28, 0.15, 0.22, 0.10, 0.15)

_A4, _LETTER = (8.27, 11.69), (8.5, 11.0)  # inches


@dataclass(frozen=True)
class RenderedPage:
    """A clean page.

    ``image`` uint8 (height, width), dark on white; ``lines`` are texts with boxes (x0, y0, x1, y1) in pixels,
    in reading order; ``markdown`` holds what the page shows, and nothing else; ``x_height`` of the body in
    pixels.
    """

    image: np.ndarray
    lines: list[tuple[str, Box]]
    markdown: str
    kind: Kind
    x_height: float
    family: str = ""
    blocks: tuple[Block, ...] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        return "\n".join(line for line, _ in self.lines)


def choose_faces(
    rng: np.random.Generator, fonts: FontLibrary, genre: Genre | None = None
) -> tuple[dict[Style, FontFace], tuple[Style, ...]]:
    """Faces for the styles, from one family (code: a monospaced one), and those styles that truly look
    different.
    """
    regular = fonts.draw(rng, genre=genre)
    family = fonts.families[regular.family]

    enough = 0.9 * max(len(face.covered) for face in family)

    def best(bold: bool, italic: bool) -> FontFace | None:
        fitting = [f for f in family if (f.bold, f.italic) == (bold, italic) and len(f.covered) >= enough]
        return max(fitting, key=lambda face: face.weight, default=None)

    regular = best(False, False) or regular
    faces: dict[Style, FontFace] = {"regular": regular}
    shown: list[Style] = []
    styles: tuple[tuple[Style, bool, bool], ...] = (
        ("bold", True, False), ("italic", False, True), ("bold_italic", True, True),
    )  # fmt: skip
    for style, bold, italic in styles:
        face = best(bold, italic)
        faces[style] = face or regular
        if face is not None and not regular.bold and not regular.italic:
            shown.append(style)
    mono = [face for face in fonts.faces if face.genre == "mono" and not face.bold and not face.italic]
    faces["code"] = mono[int(rng.integers(len(mono)))] if mono else regular
    if mono and regular.genre != "mono":
        shown.append("code")
    return faces, tuple(shown)


class PageSampler:
    """Draws random pages of ``texts`` in random families of ``fonts``."""

    def __init__(self, fonts: FontLibrary, texts: TextSource):
        self.fonts, self.texts = fonts, texts

    def __call__(self, rng: np.random.Generator, dpi: float = 150, kind: Kind | None = None) -> RenderedPage:
        """One page; ``kind`` None draws it.

        The same state of ``rng`` gives the same page at any ``dpi``, but for where lines break.
        """
        if kind is None:
            kind = KINDS[int(rng.choice(len(KINDS), p=KIND_ODDS))]
        genre: Genre | None = None
        if kind == "receipt":
            genre = "mono" if rng.random() < 0.6 else "sans"
        elif kind != "letter":  # script is for letters: nobody sets a report in it
            genre = ("serif", "serif", "sans", "sans", "mono")[int(rng.integers(5))]
        faces, shown = choose_faces(rng, self.fonts, genre)
        theme = self._theme(rng, faces, kind, dpi)
        writer = Writer(self.texts, shown)
        covered = frozenset.intersection(*(face.covered for face in (*faces.values(), theme.heading_face)))
        if kind == "receipt":
            width, height = 3.15 * dpi, 14 * dpi
            margin_x, margin_y = rng.uniform(0.1, 0.25) * dpi, rng.uniform(0.15, 0.4) * dpi
        else:
            width, height = (side * dpi for side in (_A4 if rng.random() < 0.6 else _LETTER))
            margin_x, margin_y = rng.uniform(0.6, 1.2) * dpi, rng.uniform(0.6, 1.1) * dpi
        canvas = Canvas(np.full((round(height), round(width)), 255, np.uint8))
        bottom = height - margin_y - 2 * theme.size
        columns = [Column(margin_x, width - 2 * margin_x, margin_y, bottom)]
        placed: list[Block] = []
        if kind == "two_columns":
            columns = self._split_columns(rng, canvas, theme, columns[0], writer, covered, placed)
        flow = Flow(canvas, theme, columns)
        for block in self._blocks(rng, writer, kind):
            done = flow.add(restrict(block, covered))
            if done is None:
                break
            placed.append(done)
        if kind == "receipt":
            end = max(box[3] for _, box in canvas.lines) + margin_y
            canvas.image = canvas.image[: round(end)].copy()
        elif rng.random() < 0.6:
            placed.append(self._footer(rng, canvas, theme, width, height - 0.6 * margin_y))
        body = faces["regular"]
        return RenderedPage(
            canvas.image,
            canvas.lines,
            to_markdown(placed),
            kind,
            theme.size * body.x_height,
            body.family,
            tuple(placed),
        )

    def _theme(self, rng: np.random.Generator, faces: dict[Style, FontFace], kind: Kind, dpi: float) -> Theme:
        points = rng.uniform(8.5, 11) if kind in ("receipt", "two_columns") else rng.uniform(9.5, 12.5)
        align: Align = "justify" if kind != "receipt" and rng.random() < 0.45 else "left"
        heading = faces["bold"]
        if rng.random() < 0.25:
            other, _ = choose_faces(rng, self.fonts, "sans")
            heading = other["bold"]
        top = rng.uniform(1.5, 2.2)
        return Theme(
            faces=faces,
            heading_face=heading,
            size=points * dpi / 72,
            leading=rng.uniform(1.15, 1.45),
            paragraph_spacing=rng.uniform(0.45, 1.0),
            indent=1.5 if rng.random() < 0.2 else 0.0,
            align=align,
            heading_scales=(top, 1 + (top - 1) * 0.6, 1 + (top - 1) * 0.25),
            shaded_code=bool(rng.random() < 0.5),
            quote_bar=bool(rng.random() < 0.5),
            rule_grey=int(rng.integers(0, 150)),
        )

    @staticmethod
    def _split_columns(
        rng: np.random.Generator, canvas: Canvas, theme: Theme, page: Column, writer: Writer,
        covered: frozenset[str], placed: list[Block],
    ) -> list[Column]:  # fmt: skip
        """A title across the page, sometimes, and two columns below it."""
        top = page.top
        if rng.random() < 0.7:
            flow = Flow(canvas, theme, [page])
            title = flow.add(restrict(writer.heading(rng, 1), covered))
            if title is not None:
                placed.append(title)
            top = flow.y + theme.size
        gutter = rng.uniform(1.8, 3.0) * theme.size
        width = (page.width - gutter) / 2
        # Short columns now and then: a second column must not be expected to start only at the foot of the
        # page.
        bottom = page.bottom if rng.random() < 0.7 else top + (page.bottom - top) * rng.uniform(0.3, 0.9)
        return [Column(page.left + i * (width + gutter), width, top, bottom) for i in range(2)]

    @staticmethod
    def _blocks(rng: np.random.Generator, writer: Writer, kind: Kind) -> Iterator[Block]:
        if kind == "letter":
            yield from writer.letter(rng)
        elif kind == "receipt":
            yield from writer.receipt(rng)
        elif kind == "text":
            while True:
                yield Paragraph(words(writer.prose(rng, 120, 900)))
        else:
            if kind != "two_columns" and rng.random() < 0.8:
                yield writer.heading(rng, 1)
            previous: Block | None = None
            limit = int(rng.integers(3, 40))  # some pages end before their foot
            for i in range(limit):
                if rng.random() < (0.3 if i else 0.6):
                    yield writer.heading(rng, 2 if i == 0 or rng.random() < 0.6 else 3)
                block = writer.body_block(rng, rich=kind == "report")
                if isinstance(block, ListBlock) and isinstance(previous, ListBlock):
                    block = writer.paragraph(rng)  # markdown would make one list of the two
                yield block
                previous = block

    @staticmethod
    def _footer(
        rng: np.random.Generator, canvas: Canvas, theme: Theme, width: float, baseline: float
    ) -> Paragraph:
        """The page number, in one of its usual forms, drawn in the lower margin."""
        number = int(rng.integers(1, 400))
        text = str(
            rng.choice([f"{number}", f"Page {number}", f"– {number} –", f"Page {number} of {number + 7}"])
        )
        run = words(text)
        left = width * float(rng.choice([0.1, 0.48, 0.85]))
        canvas.draw_words(run, theme.faces, theme.size * 0.9, left, baseline)
        return Paragraph(run)
