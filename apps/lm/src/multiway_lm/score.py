"""The ``score`` command: perplexity and bits per byte of files."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError

from multiway_lm.app import APP

if TYPE_CHECKING:
    from multiway_text.documents import Document
    from multiway_text.scoring import TextScore

SCHEMA = "multiway.lm.score/1"


def score_files(
    paths: Sequence[str],
    options: ModelOptions,
    *,
    field: str,
    window: int | None,
    stride: int | None,
    limit: int | None,
    tokens: bool,
    json: bool,
) -> tuple[Any, int]:
    """Score documents; the table as text or the JSON object, and how many failed.

    Raises InputError when nothing could be scored.
    """
    from multiway_text.scoring import perplexity

    source = documents(paths, field)  # before the model is loaded: a wrong path shows at once
    model = load_pipeline(APP, options)
    rows: list[dict[str, Any]] = []
    log_prob, counted, size, failed = 0.0, 0, 0, 0
    reason = "there is no document in them"
    for number, document in enumerate(source):
        if limit is not None and number >= limit:
            break
        try:
            result = model.score(document.text, window=window, stride=stride)
        except InputError as error:
            if "window" in str(error) or "stride" in str(error):
                raise
            failed += 1
            reason = f"{document.name}: {error}"
            APP.note(reason)
            continue
        rows.append(row_of(document.name, result, tokens))
        log_prob, counted, size = (
            log_prob + result.log_prob,
            counted + result.num_scored,
            size + result.num_bytes,
        )
    if not rows:
        raise InputError(f"nothing was scored: {reason}")
    total = {
        "documents": len(rows),
        "failed": failed,
        "tokens": counted,
        "bytes": size,
        "perplexity": _finite(perplexity(log_prob, counted)),
        "bits_per_byte": -log_prob / math.log(2) / size,
    }
    if json:
        return {"schema": SCHEMA, "model": options.model, "total": total, "documents": rows}, failed
    return table([*rows, {"name": "all", **total}]), failed


def documents(paths: Sequence[str], field: str) -> Iterator[Document]:
    """The documents of files, or of standard input for ``-``."""
    from multiway_text.documents import Document, TextFiles

    if list(paths) == ["-"]:
        try:
            text = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8").read()
        except UnicodeDecodeError as error:
            raise InputError("standard input is not UTF-8 text") from error
        return iter([Document(text, "-")])
    return iter(TextFiles(paths, field=field))


def row_of(name: str, result: TextScore, tokens: bool) -> dict[str, Any]:
    """A document's numbers."""
    row: dict[str, Any] = {
        "name": name,
        "tokens": result.num_scored,
        "bytes": result.num_bytes,
        "perplexity": _finite(result.perplexity),
        "bits_per_byte": result.bits_per_byte,
    }
    if tokens:
        row["log_probs"] = [
            {"id": token.id, "text": token.text, "log_prob": token.log_prob} for token in result.tokens
        ]
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Aligned columns."""
    width = min(60, max(len(row["name"]) for row in rows))
    lines = [f"{'document':{width}}  {'tokens':>9}  {'bytes':>10}  {'perplexity':>12}  {'bits/byte':>9}"]
    for row in rows:
        value = row["perplexity"]
        shown = "overflow" if value is None else f"{value:.3f}" if value < 1e6 else f"{value:.3e}"
        lines.append(
            f"{row['name'][-width:]:{width}}  {row['tokens']:>9}  {row['bytes']:>10}  {shown:>12}  "
            f"{row['bits_per_byte']:>9.4f}"
        )
    return "\n".join(lines) + "\n"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
