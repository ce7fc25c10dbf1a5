"""An explanation as a picture (SVG): the history, the chain through the click graph, the score's parts.

Left the reader's clicks with their weights, in the middle the chain from the explained click with the other ways that
readers took there, right the recommended news and what its score is made of. The file needs no font, script or style of
its own; its colours are attributes, which a page may override by the classes ``ink``, ``faint``, ``card``, ``line``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from xml.sax.saxutils import escape, quoteattr

from multiway_recsys.serving.explanation import Article, Explanation, Hop

_CLICKS_SHOWN = 7
_HOPS_BEHIND = 2  # of the chain behind the place that the recommended news continues
_INK, _FAINT, _LINE, _CARD, _ACCENT = "#0f172a", "#64748b", "#cbd5e1", "#ffffff", "#2563eb"
_CATEGORY_COLOURS = (
    "#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#65a30d", "#4f46e5", "#b45309",
    "#0d9488", "#9333ea",
)  # fmt: skip
_PART_COLOURS = {"content": "#64748b", "neighbours": "#0891b2", "chains": "#2563eb", "popularity": "#d97706"}

_CLICK_X, _CLICK_WIDTH, _CLICK_HEIGHT, _CLICK_PITCH = 16, 208, 40, 50
_HOP_X, _HOP_PITCH, _HOP_WIDTH, _HOP_HEIGHT = 312, 88, 156, 62
_TOP_Y, _BOTTOM_Y = 106, 238
_CHIP_HEIGHT = 20
_TARGET_WIDTH = 216
_HEADINGS_Y = 22


def explanation_svg(
    explanation: Explanation, recommended: Article, parts: Mapping[str, float], score: float
) -> str:
    """The picture of one explanation as SVG text.

    Args:
        explanation: of a recommendation; one that a rule decided (no click) has only the recommended news.
        recommended: the news that it is about.
        parts: name -> share of the score (their sum).
        score: of the recommended news.
    """
    if explanation.continues is not None:
        shown = explanation.continues + 1 + _HOPS_BEHIND
        explanation = replace(explanation, chain=explanation.chain[:shown])
    hops = explanation.chain
    target_x = _HOP_X + (_HOP_PITCH * (len(hops) - 1) + _HOP_WIDTH if hops else 60) + 64
    width = target_x + _TARGET_WIDTH + 16
    clicks = _shown_clicks(explanation)
    height = max(
        _HEADINGS_Y + 30 + _CLICK_PITCH * len(clicks), _BOTTOM_Y + _HOP_HEIGHT + 90, 210 + 30 * len(parts)
    )
    drawing = _Drawing(width, height, explanation.text)
    drawing.text(_CLICK_X, _HEADINGS_Y, "Your history", 12, _FAINT, weight=600, css="faint")
    drawing.text(target_x, _HEADINGS_Y, "Recommended", 12, _FAINT, weight=600, css="faint")
    if hops:
        drawing.text(
            _HOP_X,
            _HEADINGS_Y,
            "The chain: where readers went from there",
            12,
            _FAINT,
            weight=600,
            css="faint",
        )
    target_y = 74
    _edges(drawing, explanation, clicks, target_x, target_y)
    _history(drawing, explanation, clicks)
    for place, hop in enumerate(hops):
        _hop(drawing, explanation, place, hop)
    _target(drawing, recommended, parts, score, target_x, target_y)
    return drawing.close()


def _shown_clicks(explanation: Explanation) -> list[tuple[Article, float]]:
    """The clicks that count most, in their order; the explained one among them."""
    clicks = list(explanation.clicks)
    explained = explanation.click.row if explanation.click else -1
    by_weight = sorted(range(len(clicks)), key=lambda i: (clicks[i][0].row != explained, -clicks[i][1], i))
    return [clicks[i] for i in sorted(by_weight[:_CLICKS_SHOWN])]


def _click_y(place: int) -> int:
    return _HEADINGS_Y + 18 + _CLICK_PITCH * place


def _hop_place(place: int) -> tuple[int, int]:
    return _HOP_X + _HOP_PITCH * place, _TOP_Y if place % 2 == 0 else _BOTTOM_Y


def _is_faded(explanation: Explanation, place: int) -> bool:
    return explanation.continues is not None and place > explanation.continues


def _edges(
    drawing: _Drawing,
    explanation: Explanation,
    clicks: list[tuple[Article, float]],
    target_x: int,
    target_y: int,
) -> None:
    explained = explanation.click.row if explanation.click else -1
    places = [place for place, (article, _) in enumerate(clicks) if article.row == explained]
    if not places:
        return
    end_x, end_y = _CLICK_X + _CLICK_WIDTH, _click_y(places[-1]) + _CLICK_HEIGHT / 2
    if not explanation.chain:
        drawing.curve(end_x, end_y, target_x, target_y + 40, _ACCENT, 2, dashes="5 5")
        return
    last_x, last_y = end_x, end_y
    for place, hop in enumerate(explanation.chain):
        x, y = _hop_place(place)
        faded = _is_faded(explanation, place)
        thickness = 1.6 + min(1.6, 0.6 * (hop.readers or 1) ** 0.5)
        colour = _LINE if faded else _ACCENT
        if place == 0:
            drawing.curve(last_x, last_y, x, y + _HOP_HEIGHT / 2, colour, thickness)
            middle = ((last_x + x) / 2, (last_y + y + _HOP_HEIGHT / 2) / 2)
        else:
            down = place % 2 == 1
            from_y = last_y + (_HOP_HEIGHT if down else 0)
            to_y = y if down else y + _HOP_HEIGHT
            from_x, to_x = last_x + _HOP_WIDTH / 2 + 14, x + _HOP_WIDTH / 2 - 14
            drawing.line(from_x, from_y, to_x, to_y, colour, thickness, arrow=True)
            middle = ((from_x + to_x) / 2, (from_y + to_y) / 2)
        if hop.readers is not None:
            drawing.badge(*middle, f"{hop.readers} reader{'' if hop.readers == 1 else 's'}", colour, faded)
        last_x, last_y = x, y
    if explanation.continues is not None:
        hop = explanation.chain[explanation.continues]
        x, y = _hop_place(explanation.continues)
        label = f"alike {max(hop.similarity, 0):.2f}"
        if y == _TOP_Y:  # over the cards on the right of it
            drawing.arc(x + _HOP_WIDTH - 20, y, target_x, target_y + 14, 30, label)
        else:
            drawing.arc(
                x + _HOP_WIDTH - 20, y + _HOP_HEIGHT, target_x, target_y + 76, y + _HOP_HEIGHT + 104, label
            )


def _history(drawing: _Drawing, explanation: Explanation, clicks: list[tuple[Article, float]]) -> None:
    explained = explanation.click.row if explanation.click else -1
    largest = max((weight for _, weight in clicks), default=1.0) or 1.0
    for place, (article, weight) in enumerate(clicks):
        y = _click_y(place)
        chosen = article.row == explained
        drawing.card(_CLICK_X, y, _CLICK_WIDTH, _CLICK_HEIGHT, article, lines=2, strong=chosen)
        drawing.bar(
            _CLICK_X + 12, y + _CLICK_HEIGHT + 2, (_CLICK_WIDTH - 24) * weight / largest, _ACCENT, 2.5
        )
    hidden = len(explanation.clicks) - len(clicks)
    if hidden > 0:
        text = f"and {hidden} click{'' if hidden == 1 else 's'} of less weight"
        drawing.text(_CLICK_X, _click_y(len(clicks)) + 10, text, 11, _FAINT, css="faint")


def _hop(drawing: _Drawing, explanation: Explanation, place: int, hop: Hop) -> None:
    x, y = _hop_place(place)
    faded = _is_faded(explanation, place)
    drawing.open_group(0.5 if faded else 1.0)
    above = y == _TOP_Y
    branches = explanation.branches[place] if len(explanation.branches) > place else ()
    for number, branch in enumerate(branches):
        chip_y = y - 34 - number * 24 if above else y + _HOP_HEIGHT + 14 + number * 24
        edge_y = y if above else y + _HOP_HEIGHT
        chip_edge = chip_y + _CHIP_HEIGHT if above else chip_y
        drawing.line(x + 22, edge_y, x + 22, chip_edge, _LINE, 1.2, css="line")
        drawing.chip(x + 10, chip_y, _HOP_WIDTH - 14, branch)
    drawing.card(x, y, _HOP_WIDTH, _HOP_HEIGHT, hop.article, lines=3, strong=place == explanation.continues)
    drawing.close_group()


def _target(
    drawing: _Drawing, recommended: Article, parts: Mapping[str, float], score: float, x: int, y: int
) -> None:
    drawing.card(x, y, _TARGET_WIDTH, 84, recommended, lines=4, strong=True, size=12.5)
    drawing.text(
        x, y + 110, f"score {_signed(score).removeprefix(chr(43))}, made of", 12, _FAINT, css="faint"
    )
    largest = max((abs(value) for value in parts.values()), default=1.0) or 1.0
    for number, (name, value) in enumerate(parts.items()):
        row_y = y + 132 + 30 * number
        drawing.text(x, row_y, name, 12, _INK, css="ink")
        drawing.text(x + _TARGET_WIDTH, row_y, _signed(value), 12, _INK, anchor="end", css="ink")
        drawing.bar(x, row_y + 6, _TARGET_WIDTH, _LINE, 5, opacity=0.45)
        colour = _PART_COLOURS.get(name, _FAINT) if value >= 0 else "#dc2626"
        drawing.bar(x, row_y + 6, max(_TARGET_WIDTH * abs(value) / largest, 1), colour, 5)


class _Drawing:
    """SVG being written: every text of the outside goes through ``escape`` here."""

    def __init__(self, width: int, height: int, label: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" aria-label={quoteattr(_clean(label))} class="mw-chain" '
            'font-family="system-ui, -apple-system, Segoe UI, Cantarell, DejaVu Sans, sans-serif">'
        ]

    def close(self) -> str:
        return "\n".join([*self._parts, "</svg>"]) + "\n"

    def open_group(self, opacity: float) -> None:
        self._parts.append(f'<g opacity="{opacity}">')

    def close_group(self) -> None:
        self._parts.append("</g>")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: str,
        *,
        weight: int = 400,
        anchor: str = "start",
        css: str = "ink",
    ) -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" font-weight="{weight}" '
            f'text-anchor="{anchor}" class="{css}">{escape(_clean(text))}</text>'
        )

    def bar(
        self, x: float, y: float, length: float, colour: str, height: float, *, opacity: float = 1.0
    ) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{length:.1f}" height="{height}" rx="{height / 2}" '
            f'fill="{colour}" opacity="{opacity}"/>'
        )

    def card(
        self, x: float, y: float, width: float, height: float, article: Article, *, lines: int, strong: bool,
        size: float = 11.5,
    ) -> None:  # fmt: skip
        border, thickness = (_ACCENT, 2) if strong else (_LINE, 1)
        css = "card" if strong else "card line"
        self._parts.append(
            f"<g><title>{escape(_clean(f'{article.title} ({article.id}, {article.category})'))}</title>"
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{_CARD}" stroke="{border}" '
            f'stroke-width="{thickness}" class="{css}"/>'
            f'<rect x="{x + 5}" y="{y + 7}" width="3.5" height="{height - 14}" rx="1.75" '
            f'fill="{category_colour(article.category)}"/>'
        )
        rows = _wrap(article.title or article.id, (width - 24) / (1.09 if strong else 1), size, lines)
        top = y + height / 2 - (len(rows) - 1) * size * 0.6 + size * 0.35
        for number, row in enumerate(rows):
            self.text(x + 15, top + number * size * 1.2, row, size, _INK, weight=600 if strong else 400)
        self._parts.append("</g>")

    def chip(self, x: float, y: float, width: float, hop: Hop) -> None:
        title = f"{hop.article.title} ({hop.article.id}, {hop.article.category})"
        readers = "" if hop.readers is None else f", {hop.readers} readers"
        self._parts.append(
            f"<g><title>{escape(_clean(title + readers))}</title>"
            f'<rect x="{x}" y="{y}" width="{width}" height="{_CHIP_HEIGHT}" rx="{_CHIP_HEIGHT / 2}" fill="{_CARD}" '
            f'stroke="{_LINE}" class="card line"/>'
            f'<circle cx="{x + 11}" cy="{y + _CHIP_HEIGHT / 2}" r="3.5" '
            f'fill="{category_colour(hop.article.category)}"/>'
        )
        (row,) = _wrap(hop.article.title or hop.article.id, width - 28, 10, 1)
        self.text(x + 19, y + 13.5, row, 10, _FAINT, css="faint")
        self._parts.append("</g>")

    def badge(self, x: float, y: float, text: str, colour: str, faded: bool) -> None:
        width = _width(text, 10) + 12
        ink = _FAINT if faded else colour
        self._parts.append(
            f'<rect x="{x - width / 2:.1f}" y="{y - 9:.1f}" width="{width:.1f}" height="18" rx="9" fill="{_CARD}" '
            f'stroke="{colour}" class="card"/>'
        )
        self.text(x, y + 3.5, text, 10, ink, anchor="middle", css="tag")

    def line(
        self, x0: float, y0: float, x1: float, y1: float, colour: str, width: float, *, arrow: bool = False,
        css: str = "",
    ) -> None:  # fmt: skip
        self._parts.append(
            f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}" '
            f'stroke-width="{width:.1f}" stroke-linecap="round" class="{css}"/>'
        )
        if arrow:
            self._tip(x0, y0, x1, y1, colour)

    def curve(
        self, x0: float, y0: float, x1: float, y1: float, colour: str, width: float, *, dashes: str = ""
    ) -> None:
        middle = (x0 + x1) / 2
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._parts.append(
            f'<path d="M{x0:.1f} {y0:.1f} C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}" '
            f'fill="none" stroke="{colour}" stroke-width="{width:.1f}"{dash}/>'
        )
        self._tip(x1 - 10, y1, x1, y1, colour)

    def arc(self, x0: float, y0: float, x1: float, y1: float, by_y: float, label: str) -> None:
        """A dashed way over (or under) the cards to the recommended news."""
        self._parts.append(
            f'<path d="M{x0:.1f} {y0:.1f} C{x0 + 10:.1f} {by_y:.1f} {x1 - 60:.1f} {by_y:.1f} {x1:.1f} {y1:.1f}" '
            f'fill="none" stroke="{_ACCENT}" stroke-width="1.8" stroke-dasharray="5 5"/>'
        )
        self._tip(x1 - 12, y1 + (by_y - y1) * 0.2, x1, y1, _ACCENT)
        # The middle of the curve
        x = (x0 + 3 * (x0 + 10) + 3 * (x1 - 60) + x1) / 8
        y = (y0 + 6 * by_y + y1) / 8
        self.badge(x, y, label, _ACCENT, faded=False)

    def _tip(self, x0: float, y0: float, x1: float, y1: float, colour: str) -> None:
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-6)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        left = f"{x1 - 8 * dx + 4 * dy:.1f} {y1 - 8 * dy - 4 * dx:.1f}"
        right = f"{x1 - 8 * dx - 4 * dy:.1f} {y1 - 8 * dy + 4 * dx:.1f}"
        self._parts.append(f'<path d="M{x1:.1f} {y1:.1f} L{left} L{right} Z" fill="{colour}"/>')


def category_colour(category: str) -> str:
    """The colour of a category: always the same for a name."""
    return _CATEGORY_COLOURS[sum(category.encode("utf-8")) % len(_CATEGORY_COLOURS)]


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _wrap(text: str, width: float, size: float, lines: int) -> list[str]:
    """The text in at most ``lines`` rows of ``width``, cut with an ellipsis; at least one row."""
    rows: list[str] = [""]
    words = _clean(text).split()
    for number, word in enumerate(words):
        longer = f"{rows[-1]} {word}".strip()
        if not rows[-1] or _width(longer, size) <= width:
            rows[-1] = longer
        elif len(rows) < lines:
            rows.append(word)
        else:
            rows[-1] = f"{rows[-1]} {' '.join(words[number:])}"
            break
    return [_cut(row, width, size) for row in rows]


def _cut(text: str, width: float, size: float) -> str:
    if _width(text, size) <= width:
        return text
    while text and _width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _width(text: str, size: float) -> float:
    """About how wide a text is in pixels; fonts differ, so a little too wide rather than too narrow."""
    return size * sum(
        0.3
        if c in "iljtfrI.,:;'!|-()[] "
        else 0.9
        if c in "mwMW%@" or ord(c) > 0x2E80
        else 0.68
        if c.isupper()
        else 0.56
        for c in text
    )


def _clean(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c if c.isprintable() else " " for c in text)
