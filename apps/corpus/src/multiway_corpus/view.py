"""A page's inspection as HTML: the verdict, the stages, every rule on its scale, kept and dropped text side by side."""

from __future__ import annotations

import html

from multiway_corpus.inspection import Inspection, Value, bounds, printable

CSS = """
.inspection { font: 15px/1.5 system-ui, sans-serif; color: var(--body-text-color, #1f2937); }
.inspection .verdict { font-size: 1.3rem; font-weight: 650; margin: 4px 0 10px; }
/* mixed with the text's colour: dark on light, light on dark */
.inspection .kept { color: color-mix(in srgb, #16a34a 60%, var(--body-text-color, #1f2937)); }
.inspection .dropped { color: color-mix(in srgb, #dc2626 60%, var(--body-text-color, #1f2937)); }
.inspection table { border-collapse: collapse; width: 100%; font-size: 14px; }
.inspection td, .inspection th { text-align: left; padding: 3px 8px; border-bottom: 1px solid #8884; }
.inspection td.number { text-align: right; font-variant-numeric: tabular-nums; }
.inspection tr.breaks td { background: color-mix(in srgb, #dc2626 14%, transparent); }
.inspection .sides { display: grid; grid-template-columns: 1fr 1fr; gap: 18px; margin-top: 16px; }
.inspection td, .inspection th { overflow-wrap: anywhere; }
.inspection td:last-child, .inspection .rules th { overflow-wrap: normal; }
@media (max-width: 700px) { .inspection .sides { grid-template-columns: 1fr; } .inspection table { font-size: 13px; } }
.inspection .sides > div { border: 1px solid #8884; border-radius: 10px; padding: 10px 14px; overflow-wrap: anywhere;
  white-space: pre-wrap; max-height: 30rem; overflow-y: auto; }
.inspection .rule { font-size: 12px; opacity: .85; }
.inspection .uri { opacity: .75; overflow-wrap: anywhere; }
"""


def fragment(found: Inspection) -> str:
    """The inspection as a ``<div class="inspection">``."""
    record = found.record
    verdict = f"Dropped: {record.drop_reason}" if record.drop_reason else "Kept"
    kind = "dropped" if record.drop_reason else "kept"
    stages = "".join(f"<tr><td>{_text(name)}</td><td>{_text(told)}</td></tr>" for name, told in found.stages)
    parts = [
        f"<div class='uri'>{_text(record.uri or record.id)}</div><div class='verdict {kind}'>{_text(verdict)}</div>",
        f"<table><tr><th>stage</th><th>found</th></tr>{stages}</table>",
    ]
    if found.values:
        rows = "".join(map(_row, found.values))
        parts.append(
            f"<table class='rules'><tr><th>rule</th><th>value</th><th>kept when</th></tr>{rows}</table>"
        )
    if found.sentences:
        all_gone = record.drop_reason and not record.drop_reason.startswith("lines")
        kept = [text for text, rule in found.sentences if not rule and not all_gone]
        gone = [(text, rule) for text, rule in found.sentences if rule or all_gone]
        left = "\n".join(map(_text, kept))
        right = "\n".join(f"{_text(text)} <span class='rule'>{_text(rule)}</span>" for text, rule in gone)
        sides = "".join(
            f"<div tabindex='0' role='region' aria-label='{name} sentences'><b>{name}</b>\n{text}</div>"
            for name, text in (("Kept", left), ("Dropped", right))
        )
        parts.append(f"<div class='sides'>{sides}</div>")
    return f"<div class='inspection'>{''.join(parts)}</div>"


def page(found: Inspection) -> str:
    """The inspection as a whole page."""
    title = _text(found.record.uri or found.record.id)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{CSS}"
        f"body {{ max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}</style>{fragment(found)}</html>\n"
    )


def _row(value: Value) -> str:
    kind = "" if value.keeps else " class='breaks'"
    return f"<tr{kind}><td>{value.rule}</td><td class='number'>{value.value:.4g}</td><td>{bounds(value)}</td></tr>"


def _text(text: str) -> str:
    return html.escape(printable(text))
