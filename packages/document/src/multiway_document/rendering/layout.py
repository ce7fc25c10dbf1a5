"""Sets blocks on a page: wrapping, columns, lists, tables; every line drawn is recorded with text and box.

Lengths are pixels of the page. A line's box runs from the first pen position to the last advance, and from
the font's ascent to its descent, as PDF extractors report it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from multiway_document.rendering.fonts import FontFace
from multiway_document.rendering.glyphs import atlas, place
from multiway_document.rendering.markdown_tree import (
    Block,
    CodeBlock,
    Heading,
    HorizontalRule,
    ListBlock,
    Paragraph,
    Quote,
    Style,
    Table,
    TextLines,
    Word,
)

Box = tuple[float, float, float, float]
Align = Literal["left", "center", "right", "justify"]


@dataclass(frozen=True)
class Theme:
    """Faces and measures of a page; ``size`` is the body's em in pixels, spacings are in em of the body."""

    faces: Mapping[Style, FontFace]
    heading_face: FontFace
    size: float
    leading: float = 1.3
    paragraph_spacing: float = 0.6
    indent: float = 0.0
    align: Align = "left"
    heading_scales: tuple[float, float, float] = (1.8, 1.4, 1.15)
    shaded_code: bool = False
    quote_bar: bool = False
    rule_grey: int = 80


@dataclass
class Column:
    left: float
    width: float
    top: float
    bottom: float


@dataclass
class Canvas:
    """A page being drawn: ``image`` uint8 (height, width) and the lines drawn so far, in reading order."""

    image: np.ndarray
    lines: list[tuple[str, Box]] = field(default_factory=list)

    def draw_words(
        self, run: Sequence[Word], faces: Mapping[Style, FontFace], size: float, left: float, baseline: float,
        *, extra: float = 0.0, first: str = "", first_left: float | None = None,
    ) -> float:  # fmt: skip
        """Draw one line and record it; ``extra`` pixels are added to each blank; the pen's last position.

        ``first`` is a list mark drawn at ``first_left`` in front of the line and recorded as a part of it.
        """
        start, pen = left, left
        ascent = descent = 0.0
        if first:
            start = left if first_left is None else first_left
            end = self._draw(first, faces["regular"], size, start, baseline)
            pen = max(left, end + 0.25 * size)
        groups: list[tuple[Style, list[str]]] = []
        for word, style in run:
            if groups and groups[-1][0] == style:
                groups[-1][1].append(word)
            else:
                groups.append((style, [word]))
        for i, (style, group) in enumerate(groups):
            if i:
                pen += atlas(faces["regular"]).measure(" ") * size + extra
            face = faces[style]
            pen = self._draw(" ".join(group), face, size, pen, baseline, extra=extra)
            up, down = vertical_metrics(face)
            ascent, descent = max(ascent, up * size), max(descent, down * size)
        text = " ".join(([first] if first else []) + [word for word, _ in run])
        self.lines.append((text, (start, baseline - ascent, pen, baseline + descent)))
        return pen

    def _draw(
        self, text: str, face: FontFace, size: float, x: float, baseline: float, *, extra: float = 0.0
    ) -> float:
        glyphs = atlas(face)
        line = glyphs.set_line(text, word_spacing=extra / size)
        scale = size / glyphs.size
        place(self.image, line, scale, x, baseline)
        return x + line.width * scale

    def rule(self, x0: float, y0: float, x1: float, y1: float, *, thickness: int = 1, grey: int = 0) -> None:
        """A horizontal or vertical line from (x0, y0) to (x1, y1)."""
        self.fill(x0, y0, max(x1, x0 + thickness), max(y1, y0 + thickness), grey)

    def fill(self, x0: float, y0: float, x1: float, y1: float, grey: int) -> None:
        view = self.image[max(0, round(y0)) : max(0, round(y1)), max(0, round(x0)) : max(0, round(x1))]
        np.minimum(view, grey, out=view)


def vertical_metrics(face: FontFace) -> tuple[float, float]:
    """Ascent and descent of the face in em."""
    glyphs = atlas(face)
    return (glyphs.ascent - glyphs.pad) / glyphs.size, (glyphs.descent - glyphs.pad) / glyphs.size


def measure(run: Sequence[Word], faces: Mapping[Style, FontFace], size: float) -> float:
    """Width of words with single blanks, pixels."""
    blank = atlas(faces["regular"]).measure(" ")
    return size * (sum(atlas(faces[s]).measure(w) for w, s in run) + blank * max(0, len(run) - 1))


def wrap(
    run: Sequence[Word], faces: Mapping[Style, FontFace], size: float, width: float, *, indent: float = 0.0
) -> list[list[Word]]:
    """Break words into lines of at most ``width`` (a word wider than that is cut)."""
    blank = atlas(faces["regular"]).measure(" ") * size
    rows: list[list[Word]] = [[]]
    used = indent
    for word, style in run:
        length = atlas(faces[style]).measure(word) * size
        while length > width and len(word) > 1:
            word = word[: max(1, int(len(word) * width / length) - 1)]
            length = atlas(faces[style]).measure(word) * size
        if rows[-1] and used + blank + length > width:
            rows.append([])
            used = 0.0
        used += length + (blank if rows[-1] else 0.0)
        rows[-1].append((word, style))
    return [row for row in rows if row]


class Flow:
    """Fills columns with blocks from the top. ``add`` says what of a block was placed, None when the page is
    full.
    """

    def __init__(self, canvas: Canvas, theme: Theme, columns: Sequence[Column]):
        self.canvas, self.theme = canvas, theme
        self.columns = list(columns)
        self.index = 0
        self.y = columns[0].top
        self._pending = 0.0

    @property
    def column(self) -> Column:
        return self.columns[self.index]

    def add(self, block: Block) -> Block | None:
        """Place a block, or as much of a paragraph as there is room for; the part placed."""
        placed: Block | None
        match block:
            case Heading():
                placed = self._heading(block)
            case Paragraph():
                placed = self._paragraph(block)
            case TextLines():
                placed = self._text_lines(block)
            case ListBlock():
                placed = self._list(block)
            case Quote():
                placed = self._quote(block)
            case CodeBlock():
                placed = self._code(block)
            case Table():
                placed = self._table(block)
            case HorizontalRule():
                placed = self._rule(block)
        if placed is not None:
            self._pending = self.theme.paragraph_spacing * self.theme.size
        return placed

    def _room(self, height: float) -> bool:
        """Make room for ``height``, in the next column if need be; apply the space that the last block asked
        for.
        """
        if self.y > self.column.top:
            self.y += self._pending
        self._pending = 0.0
        while self.y + height > self.column.bottom:
            if self.index + 1 == len(self.columns):
                return False
            self.index += 1
            self.y = self.column.top
        return True

    def _next_baseline(self, size: float, leading: float | None = None) -> float:
        height = size * (leading or self.theme.leading)
        baseline = self.y + 0.5 * height + 0.35 * size
        self.y += height
        return baseline

    def _line(
        self, row: Sequence[Word], size: float, left: float, width: float, align: Align,
        faces: Mapping[Style, FontFace], *, last: bool = True, first: str = "", first_left: float | None = None,
    ) -> None:  # fmt: skip
        baseline = self._next_baseline(size)
        extra = 0.0
        spare = width - measure(row, faces, size)
        if align == "justify" and not last and len(row) > 1 and spare < 0.3 * width:
            extra = max(0.0, spare / (len(row) - 1))
        elif align in ("center", "right"):
            left += max(0.0, spare * (0.5 if align == "center" else 1.0))
        self.canvas.draw_words(
            row, faces, size, left, baseline, extra=extra, first=first, first_left=first_left
        )

    def _heading(self, block: Heading) -> Heading | None:
        theme = self.theme
        size = theme.size * theme.heading_scales[block.level - 1]
        faces = dict.fromkeys(theme.faces, theme.heading_face)
        rows = wrap(block.words, faces, size, self.column.width)
        self._pending *= 1.6
        if not self._room(len(rows) * size * theme.leading + 2.5 * theme.size):
            return None
        for row in rows:
            self._line(row, size, self.column.left, self.column.width, "left", faces)
        return Heading(block.level, [word for row in rows for word in row])

    def _paragraph(self, block: Paragraph) -> Paragraph | None:
        theme = self.theme
        indent = theme.indent * theme.size
        placed: list[Word] = []
        rows = wrap(block.words, theme.faces, theme.size, self.column.width, indent=indent)
        for i, row in enumerate(rows):
            if not self._room(theme.size * theme.leading):
                break
            shift = indent if i == 0 else 0.0
            left, width = self.column.left + shift, self.column.width - shift
            self._line(row, theme.size, left, width, theme.align, theme.faces, last=i == len(rows) - 1)
            placed += row
        return Paragraph(placed) if placed else None

    def _text_lines(self, block: TextLines) -> TextLines | None:
        theme = self.theme
        placed: list[tuple[str, ...]] = []
        for row in block.rows:
            if not self._room(theme.size * theme.leading):
                break
            cells = tuple(
                self._fit(cell, block.style, self.column.width * (1 if len(row) == 1 else 0.62))
                for cell in row
            )
            baseline = self._next_baseline(theme.size)
            left, width = self.column.left, self.column.width
            for i, cell in enumerate(cells):
                run = [(word, block.style) for word in cell.split()]
                spare = width - measure(run, theme.faces, theme.size)
                if block.align == "center":
                    shift = spare / 2
                elif block.align == "right" or (block.align == "spread" and i > 0):
                    shift = spare
                else:
                    shift = 0.0
                self.canvas.draw_words(run, theme.faces, theme.size, left + shift, baseline)
            placed.append(cells)
        return TextLines(placed, block.align, block.style) if placed else None

    def _fit(self, text: str, style: Style, width: float) -> str:
        """``text`` cut to ``width``."""
        rows = wrap([(word, style) for word in text.split()], self.theme.faces, self.theme.size, width)
        return " ".join(word for word, _ in rows[0])

    def _list(self, block: ListBlock, depth: int = 0) -> ListBlock | None:
        theme = self.theme
        result = ListBlock(block.ordered, block.marker)
        hang = (1.4 if not block.ordered else 1.8) * theme.size
        step = (0.6 + 1.6 * depth) * theme.size
        for i, item in enumerate(block.items):
            left, width = self.column.left + step + hang, self.column.width - step - hang
            rows = wrap(item.words, theme.faces, theme.size, width)
            if not self._room(len(rows) * theme.size * theme.leading):
                break
            left = self.column.left + step + hang
            for j, row in enumerate(rows):
                mark = block.printed(i) if j == 0 else ""
                self._line(
                    row, theme.size, left, width, "left", theme.faces, first=mark, first_left=left - hang
                )
            placed = type(item)([word for row in rows for word in row])
            result.items.append(placed)
            if item.children is not None:
                placed.children = self._list(item.children, depth + 1)
                if placed.children is None or len(placed.children.items) < len(item.children.items):
                    break
        return result if result.items else None

    def _quote(self, block: Quote) -> Quote | None:
        theme = self.theme
        inset = 2.0 * theme.size
        rows = wrap(block.words, theme.faces, theme.size, self.column.width - 2 * inset)
        if not self._room(len(rows) * theme.size * theme.leading):
            return None
        top = self.y
        for row in rows:
            self._line(
                row, theme.size, self.column.left + inset, self.column.width - 2 * inset, "left", theme.faces
            )
        if theme.quote_bar:
            x = self.column.left + 0.8 * inset / 2
            self.canvas.fill(x, top, x + max(1, 0.2 * theme.size), self.y, 170)
        return Quote([word for row in rows for word in row])

    def _code(self, block: CodeBlock) -> CodeBlock | None:
        theme = self.theme
        size, face = theme.size * 0.88, theme.faces["code"]
        step = size * 1.25
        if not self._room(len(block.rows) * step + theme.size):
            return None
        glyphs = atlas(face)
        if theme.shaded_code:
            self.canvas.fill(self.column.left, self.y, self.column.left + self.column.width,
                             self.y + len(block.rows) * step + 0.8 * size, 232)  # fmt: skip
        self.y += 0.4 * size
        rows = []
        for row in block.rows:
            indent = len(row) - len(row.lstrip())
            left = self.column.left + 0.6 * size + indent * glyphs.measure(" ") * size
            room = self.column.width - (left - self.column.left)
            text = row.strip()
            while glyphs.measure(text) * size > room:
                text = text[:-1].rstrip()
            run: list[Word] = [(word, "code") for word in text.split()]
            faces = dict.fromkeys(theme.faces, face)
            self.canvas.draw_words(run, faces, size, left, self._next_baseline(size, 1.25))
            rows.append(" " * indent + " ".join(word for word, _ in run))
        self.y += 0.4 * size
        return CodeBlock(rows)

    def _rule(self, block: HorizontalRule) -> HorizontalRule | None:
        if not self._room(self.theme.size):
            return None
        self.y += 0.5 * self.theme.size
        thickness = max(1, round(0.06 * self.theme.size))
        x0 = self.column.left
        self.canvas.rule(
            x0, self.y, x0 + self.column.width, self.y, thickness=thickness, grey=self.theme.rule_grey
        )
        self.y += 0.5 * self.theme.size
        return block

    def _table(self, block: Table) -> Table | None:
        theme = self.theme
        faces, size = theme.faces, theme.size * 0.95
        header: Style = "bold"
        pad = 0.45 * size
        runs = [[[(word, header if r == 0 else "regular") for word in cell.split()] for cell in row]
                for r, row in enumerate(block.rows)]  # fmt: skip
        count = len(block.rows[0])
        widths = [max(measure(row[c], faces, size) for row in runs) + 2 * pad for c in range(count)]
        while sum(widths) > self.column.width and count > 2:  # leave columns out rather than set a mess
            count -= 1
            widths.pop()
        step = size * theme.leading * 1.15
        if sum(widths) > self.column.width or not self._room(len(runs) * step):
            return None
        spare = self.column.width - sum(widths)
        if block.borders != "none" or count < 4:
            spare *= 0.3
        widths = [width + spare / count for width in widths]
        edges = self.column.left + np.concatenate([[0.0], np.cumsum(widths)])
        top = self.y
        for run in runs:
            baseline = self.y + 0.5 * step + 0.35 * size
            for c in range(count):
                length = measure(run[c], faces, size)
                left = edges[c + 1] - pad - length if c in block.right_aligned else edges[c] + pad
                self.canvas.draw_words(run[c], faces, size, float(left), baseline)
            self.y += step
        if block.borders != "none":
            for r in range(len(runs) + 1):
                y = top + r * step
                self.canvas.rule(edges[0], y, edges[-1], y, grey=theme.rule_grey)
        if block.borders == "all":
            for x in edges:
                self.canvas.rule(x, top, x, self.y, grey=theme.rule_grey)
        return Table([row[:count] for row in block.rows], block.right_aligned, block.borders)
