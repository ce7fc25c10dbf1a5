"""The demo's result as HTML; all that a visitor or a file wrote is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiway_text.question_answering.result import Answer, Answers

CSS = """
.qa { color: var(--body-text-color); font-size: 15px; line-height: 1.55; }
.qa .note { color: var(--body-text-color-subdued); font-size: 13.5px; padding: 6px 0; }
.qa .answers { list-style: none; margin: 0 0 14px; padding: 0; }
.qa .answers li { display: flex; gap: 10px; align-items: baseline; padding: 7px 0; flex-wrap: wrap;
  border-bottom: 1px solid var(--border-color-primary); }
.qa .answers b { font-weight: 650; overflow-wrap: anywhere; }
.qa .answers li:first-child b { font-size: 1.2rem; }
.qa .place, .qa .number { color: var(--body-text-color-subdued); font-size: 13.5px; }
.qa .number { font-variant-numeric: tabular-nums; min-width: 6.5em; }
.qa .bar { display: inline-block; width: 44px; height: 8px; border-radius: 4px; margin: 0 6px 0 10px;
  background: var(--border-color-primary); overflow: hidden; }
.qa .bar i { display: block; height: 100%; background: #2563eb; }
.qa .none b { color: var(--body-text-color-subdued); }
.qa .passage { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 12px 16px; margin: 0 0 12px;
  background: var(--background-fill-primary); }
.qa .passage h3 { margin: 0 0 4px; font-size: 13.5px; font-weight: 600; color: var(--body-text-color-subdued);
  overflow-wrap: anywhere; }
.qa .passage p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; color: var(--body-text-color); }
.qa mark { background: #dbe4ff; color: #1c1917; border-radius: 3px; padding: 1px 3px; }
.qa mark.best { background: #fde68a; }
.qa mark sup { font-size: 10px; font-weight: 700; margin-left: 2px; }
"""


def answers_page(found: Answers, text: str | None) -> str:
    """The answers, and below them the passages (or all of ``text``) with the answers marked."""
    rows = "".join(_row(number, one, text is None) for number, one in enumerate(found.answers, 1))
    if found.answered:
        listed = f"<ol class='answers'>{rows}</ol>"
    else:
        listed = (
            f"<div class='answers none'><b>No answer.</b> <span class='note'>The likeliest words are right with "
            f"probability {found.probability:.2f}, below {found.threshold:g}.</span>"
            f"<ol class='answers'>{rows}</ol></div>"
        )
    about = f"{found.read} of {found.passages:,} passages read in {1000 * found.seconds:.0f} ms."
    notes = "".join(f"<div class='note'>{html.escape(note)}</div>" for note in found.notes)
    return f"<div class='qa'>{notes}{listed}{_passages(found.answers, text)}<div class='note'>{about}</div></div>"


def waiting_page() -> str:
    """While new texts are read."""
    return "<div class='qa'><div class='note' role='status'>Reading the text …</div></div>"


def _row(number: int, one: Answer, with_source: bool) -> str:
    where = ", ".join(filter(None, [Path(one.source).name if with_source else "", one.place]))
    share = round(100 * one.probability)
    return (
        f"<li><span class='number'>{number}<span class='bar'><i style='width:{share}%'></i></span>"
        f"{one.probability:.2f}</span><b>{html.escape(one.text)}</b>"
        f"<span class='place'>{html.escape(where)}</span></li>"
    )


def _passages(answers: Sequence[Answer], text: str | None) -> str:
    """A card for each text that answers stand in, in the order of their best."""
    cards: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
    for number, one in enumerate(answers, 1):
        if text is None:
            head = ", ".join(filter(None, [Path(one.source).name, one.place]))
            cards.setdefault((head, one.passage), []).append((one.passage_start, one.passage_end, number))
        else:
            cards.setdefault(("Text", text), []).append((one.start, one.end, number))
    if text is not None and not cards:
        cards["Text", text] = []
    return "".join(
        f"<div class='passage'><h3>{html.escape(head)}</h3><p>{_marked(body, spans)}</p></div>"
        for (head, body), spans in cards.items()
    )


def _marked(text: str, spans: Sequence[tuple[int, int, int]]) -> str:
    parts, done = [], 0
    for start, end, number in sorted(spans):
        if start < done:
            continue  # a passage may stand twice in one text
        kind = " class='best'" if number == 1 else ""
        marked = f"<mark{kind}>{html.escape(text[start:end])}<sup>{number}</sup></mark>"
        parts += [html.escape(text[done:start]), marked]
        done = end
    return "".join([*parts, html.escape(text[done:])])
