"""What the commands print for people, and what an index is made of."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_search.photos import half_blocks

if TYPE_CHECKING:
    from multiway_text.search.result import Hit, Results

SNIPPET = 320
"""Characters of a passage that are shown."""


def results_text(found: Results, roots: Sequence[str], *, show: bool = False) -> str:
    """A block a passage: number, document, place, and the passage with its best sentence marked.

    Of a picture what is seen in it, and (``show``) the picture itself in half blocks.
    """
    if not found.hits:
        return f"nothing found in {found.passages:,} passages\n"
    start, end = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("**", "**")
    blocks = []
    for number, hit in enumerate(found.hits, 1):
        where = ", ".join(filter(None, [shown_path(hit.passage.path, roots), hit.passage.place]))
        if hit.passage.kind == "picture":
            seen = _line(hit.passage.text.rpartition("\n")[0]) or "nothing that it has a name for"
            drawn = half_blocks(hit.passage.path) if show else ""
            blocks.append(f"{number:>2}  {where}  [picture]\n    {seen}\n{drawn}")
            continue
        before, marked, after = snippet(hit)
        marked = f"{start}{marked}{end}" if marked else ""
        blocks.append(
            f"{number:>2}  {where}  [{hit.passage.start}:{hit.passage.end}]\n    {before}{marked}{after}\n"
        )
    return "\n".join(blocks)


def snippet(hit: Hit, length: int = SNIPPET) -> tuple[str, str, str]:
    """(before, the sentence that answers best or the first word that was asked for, after), on one line."""
    text = hit.passage.text
    low, high = hit.highlight or (hit.terms[0] if hit.terms else (0, 0))
    high = min(high, low + length)
    room = max(0, length - (high - low))
    start = max(0, min(low - room // 2, len(text) - (high - low) - room))
    end = min(len(text), high + room - (low - start))
    before, after = _line(text[start:low]), _line(text[high:end])
    if start:
        before = f"… {before.partition(' ')[2]}"
    if end < len(text):
        after = f"{after.rpartition(' ')[0]} …"
    return before, _line(text[low:high]).strip(), after


def shown_path(path: str, roots: Sequence[str]) -> str:
    """A path below the folder that was indexed, with that folder's name."""
    for root in roots:
        if path == root:
            return Path(path).name
        if path.startswith(root.rstrip(os.sep) + os.sep):
            return os.path.relpath(path, Path(root).parent)
    return path


def documents(folder: Path, path: str | None) -> list[dict[str, Any]]:
    """The documents of an index, each with the number of its passages. Raises InputError."""
    from multiway_text.search.store import Index, pattern

    with Index(folder) as index:
        rows = index.connection.execute(
            "SELECT path, kind, size, problem, (SELECT count(*) FROM chunks c WHERE c.document = d.id) "
            "FROM documents d WHERE whole AND (?1 IS NULL OR path GLOB ?1) ORDER BY path",
            (pattern(path),),
        )
        names = ("path", "kind", "size", "problem", "passages")
        return [dict(zip(names, row, strict=True)) for row in rows]


def documents_text(found: Sequence[dict[str, Any]]) -> str:
    """A line a document."""
    return "".join(
        f"{row['passages']:>6}  {row['path']}{'' if row['problem'] is None else '  (' + row['problem'] + ')'}\n"
        for row in found
    )


def described(folder: Path) -> dict[str, Any]:
    """Schema ``multiway.search.index/1``. Raises InputError."""
    from multiway_text.search.store import Index

    with Index(folder) as index:
        return {
            "schema": "multiway.search.index/1",
            "index": str(folder),
            **vars(index.settings),
            "roots": index.roots(),
            "documents": sum(1 for _ in index.documents()),
            "passages": index.count(),
            "graph": index.meta().get("graph"),
            "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        }


def described_text(found: dict[str, Any]) -> str:
    """A line a fact."""
    lines = [
        ("index", found["index"]),
        ("model", f"{found['model']} (version {found['version'][:12]}, {found['width']} numbers a vector)"),
        (
            "passages",
            f"{found['passages']:,} of at most {found['chunk_tokens']} tokens, {found['overlap']} repeated",
        ),
        ("documents", f"{found['documents']:,} from {', '.join(found['roots']) or 'texts that were given'}"),
        ("size", f"{found['bytes'] / 1e6:.1f} MB"),
    ]
    return "".join(f"{name:<10} {value}\n" for name, value in lines)


def _line(text: str) -> str:
    return " ".join(text.replace("\n", " ").split(" "))
