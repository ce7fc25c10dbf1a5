"""A page's rows -> its markdown blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from multiway_document.markdown_layout.code import body_advance, find_code, to_code
from multiway_document.markdown_layout.escape import escape
from multiway_document.markdown_layout.headings import LARGER, find_headings
from multiway_document.markdown_layout.ink import Rule, find_rules, set_styles
from multiway_document.markdown_layout.lists import extend, find_mark, to_lists
from multiway_document.markdown_layout.rows import EM_TO_X, Row, find_marks, make_rows
from multiway_document.markdown_layout.tables import find_tables, to_table
from multiway_document.rendering.markdown_tree import (
    Block,
    Heading,
    HorizontalRule,
    Paragraph,
    Quote,
    Word,
    to_markdown,
)
from multiway_document.segmentation import LineRegion, PreparedPage

_NARROW_EM = 28.0  # a receipt's width; a column of text is cut out before, and is wider


def lines_to_markdown(
    regions: Sequence[LineRegion], texts: Sequence[str], prepared: PreparedPage | None = None
) -> str:
    """Markdown (CommonMark with tables) of lines in reading order; ``texts[i]`` is what ``regions[i]`` says.

    With the page they were found on, bold and italic words and horizontal rules are seen as well. "" without
    text. Raises ValueError for another number of texts than of regions.
    """
    blocks = page_blocks(regions, texts, prepared)
    return to_markdown(map(escape, blocks)) if blocks else ""


def page_blocks(
    regions: Sequence[LineRegion], texts: Sequence[str], prepared: PreparedPage | None = None
) -> list[Block]:
    """The blocks of a page in reading order, their words as they were read."""
    rows = make_rows(regions, texts)
    if not rows:
        return []
    find_marks(rows)
    return _Layout(rows, prepared).blocks()


class _Layout:
    """What is known of a page's rows, and the walk through them."""

    def __init__(self, rows: list[Row], prepared: PreparedPage | None):
        self.rows = rows
        lengths = [len(row.text) for row in rows]
        self.x_height = float(np.median(np.repeat([row.x_height for row in rows], lengths)))
        self.em = EM_TO_X * self.x_height
        body = [row for row in rows if 0.92 < row.x_height / self.x_height < 1.08]
        self.pitch = self._usual_pitch()
        self.narrow = max(row.x1 for row in rows) - min(row.x0 for row in rows) < _NARROW_EM * self.em
        if prepared is not None and not self.narrow:
            set_styles(rows, prepared, body, monospaced=body_advance(body) is not None)
        gaps = [self._gap_above(i) for i in range(len(rows))]
        marks = [find_mark(row, gap) for row, gap in zip(rows, gaps, strict=True)]
        self.levels = find_headings(rows, self.x_height, gaps, narrow=self.narrow)
        free = [level == 0 for level in self.levels]
        self.tables = {
            start: end
            for start, end in find_tables(rows, [m is not None for m in marks], narrow=self.narrow)
            if all(free[start + 1 : end])
        }
        for start, end in self.tables.items():
            free[start:end] = [False] * (end - start)
        self.code = dict(find_code(rows, free, gaps, body)) if not self.narrow else {}
        for start, end in self.code.items():
            free[start:end] = [False] * (end - start)
        self.marks = [mark if is_free else None for mark, is_free in zip(marks, free, strict=True)]
        self.free = free
        self.rules = self._rules_between(find_rules(prepared)) if prepared is not None else set()

    def blocks(self) -> list[Block]:
        rows, result = self.rows, list[Block]()
        i = 0
        while i < len(rows):
            if i in self.rules:
                result.append(HorizontalRule())
            start = i
            if i in self.tables:
                i = self.tables[i]
                result.append(to_table(rows[start:i]))
            elif i in self.code:
                i = self.code[i]
                result.append(to_code(rows[start:i]))
            elif self.levels[i]:
                i = self._end(i, self._continues_heading)
                result.append(Heading(self.levels[start], self._words(start, i)))
            elif self.marks[i] is not None:
                i = self._end_of_list(i)
                result += to_lists(rows[start:i], self.marks[start:i])
            elif quote_end := self._end_of_quote(i):
                i = quote_end
                result.append(Quote(self._words(start, i)))
            else:
                i = self._end(i, self._continues_paragraph)
                result.append(Paragraph(self._words(start, i)))
        if len(rows) in self.rules:
            result.append(HorizontalRule())
        return result

    def _words(self, start: int, end: int) -> list[Word]:
        run: list[Word] = []
        for row in self.rows[start:end]:
            extend(run, row.words)
        return run

    def _usual_pitch(self) -> float:
        """The commonest distance between base lines of the body."""
        steps = [
            below.baseline - above.baseline
            for above, below in zip(self.rows, self.rows[1:], strict=False)
            if above.zone == below.zone and abs(below.x_height / self.x_height - 1) < 0.15
        ]
        steps = [step for step in steps if 0.9 * self.em < step < 2.2 * self.em]
        if not steps:
            return 1.35 * self.em
        ordered = np.sort(steps)
        crowd = np.searchsorted(ordered, ordered * 1.05, side="right") - np.arange(len(ordered))
        first = int(np.argmax(crowd))
        return float(np.mean(ordered[first : first + crowd[first]]))

    def _step(self, i: int) -> float:
        """Distance of row ``i`` from the one above, in usual distances; infinite at the top of a column."""
        if i == 0 or self.rows[i].zone != self.rows[i - 1].zone:
            return float("inf")
        size = self.rows[i].x_height / self.x_height
        size = size if size > LARGER and self.rows[i].widest_gap < 1.7 else 1.0
        return (self.rows[i].baseline - self.rows[i - 1].baseline) / (self.pitch * size)

    def _gap_above(self, i: int) -> bool:
        return self._step(i) > 1.17

    def _end(self, i: int, goes_on: Callable[[int, int], bool]) -> int:
        end = i + 1
        while end < len(self.rows) and end not in self.rules and goes_on(i, end):
            end += 1
        return end

    def _continues_heading(self, start: int, i: int) -> bool:
        above = self.rows[i - 1]
        full = above.x1 + self.rows[i].words[0].x1 - self.rows[i].words[0].x0 > above.right - self.em
        return self.levels[i] == self.levels[start] and not self._gap_above(i) and full

    def _end_of_list(self, start: int) -> int:
        """Past the last row of the items, and of their further lines, that begin at ``start``."""
        end = start + 1
        text_x = self.marks[start].text_x  # type: ignore[union-attr]
        while end < len(self.rows) and end not in self.rules:
            mark = self.marks[end]
            row = self.rows[end]
            if mark is None:
                same_item = (
                    self._plain(end) and not self._gap_above(end) and abs(row.x0 - text_x) < 0.5 * self.em
                )
                if not same_item:
                    break
            elif self._step(end) > 1.9 and row.zone == self.rows[end - 1].zone:
                break
            else:
                text_x = mark.text_x
            end += 1
        return end

    def _plain(self, i: int) -> bool:
        return self.free[i] and self.marks[i] is None

    def _end_of_quote(self, start: int) -> int:
        """Past the last row of the quote that begins at ``start``; 0 where none does."""
        if self.narrow or not self._gap_above(start):
            return 0

        def inset(i: int) -> bool:
            row = self.rows[i]
            from_left = row.x0 - row.left
            return (
                self._plain(i)
                and 1.2 * self.em < from_left < 4.5 * self.em
                and row.x1 < row.right - 0.9 * self.em
            )

        end = start
        while end < len(self.rows) and inset(end):
            row = self.rows[end]
            if end > start and (abs(row.x0 - self.rows[start].x0) > 0.35 * self.em or self._gap_above(end)):
                break
            end += 1
        if end < len(self.rows) and not self._gap_above(end) and self._plain(end):
            return 0  # an indented first line
        if end - start == 1 and self.rows[start].x0 - self.rows[start].left < 1.7 * self.em:
            return 0
        return end if end > start else 0

    def _continues_paragraph(self, start: int, i: int) -> bool:
        row, above = self.rows[i], self.rows[i - 1]
        if not self._plain(i) or i in self.tables or i in self.code:
            return False
        if row.zone != above.zone:
            return self._runs_over(above, row)
        if self._gap_above(i) or not 0.82 < row.x_height / above.x_height < 1.22:
            return False
        in_middle = abs((row.x0 + row.x1) - (above.x0 + above.x1)) < self.em
        at_right = abs(row.x1 - above.x1) < 0.4 * self.em
        shift = row.x0 - above.x0
        if shift > 0.9 * self.em and not in_middle and not at_right and above.x0 < above.left + 0.5 * self.em:
            return False  # an indent begins a paragraph
        # Without gap or indent: a short line that ends a sentence ends a paragraph.
        ended = above.text.endswith((".", "!", "?", ":")) and row.text[0].isupper()
        return not (ended and above.x1 < above.right - 0.4 * (above.right - above.left) and not in_middle)

    def _runs_over(self, above: Row, row: Row) -> bool:
        """Whether a paragraph goes on from the foot of one column to the head of the next."""
        full = above.x1 > above.right - 0.25 * (above.right - above.left)
        ended = above.text.endswith((".", "!", "?", ":"))
        return full and not (ended and row.text[0].isupper()) and row.x0 - row.left < 0.5 * self.em

    def _rules_between(self, rules: Sequence[Rule]) -> set[int]:
        """Numbers of the rows above which a rule stands in the white, tables' own rules left out."""
        inside = set[int]()
        for start, end in self.tables.items():
            inside |= set(range(start, end + 1))
        found = set[int]()
        for rule in rules:
            for zone in {row.zone for row in self.rows}:
                members = [i for i, row in enumerate(self.rows) if row.zone == zone]
                left, right = self.rows[members[0]].left, self.rows[members[0]].right
                across = min(rule.x1, right) - max(rule.x0, left)
                if across < 0.6 * (right - left) or rule.x1 - rule.x0 > 2.2 * (right - left):
                    continue
                below = next((i for i in members if self.rows[i].baseline > rule.y), members[-1] + 1)
                row_below = self.rows[below] if below in members else None
                row_above = self.rows[below - 1] if below - 1 in members else None
                if row_below and row_below.baseline - rule.y < 1.1 * row_below.x_height:
                    continue
                if row_above and rule.y - row_above.baseline < 0.35 * row_above.x_height:
                    continue  # underlined
                if below in inside and self._in_table(below, rule):
                    continue
                if row_above is None and row_below is None:
                    continue
                found.add(below)
        return found

    def _in_table(self, below: int, rule: Rule) -> bool:
        """Whether a rule is a table's first, last, or one between its rows."""
        if any(start < below < end for start, end in self.tables.items()):
            return True
        row = self.rows[min(below, len(self.rows) - 1)]
        if below in self.tables and row.baseline - rule.y < 1.1 * self.em:
            return True
        above = self.rows[below - 1]
        return below in self.tables.values() and rule.y - above.baseline < 1.1 * self.em
