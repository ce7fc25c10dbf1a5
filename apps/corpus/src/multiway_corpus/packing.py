"""HTML files of a folder as one WARC archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from multiway_core.app import find_inputs
from multiway_core.errors import InputError, os_reason
from multiway_core.files import atomic_write, check_output
from multiway_text.redstone.archive_writer import warc_record
from multiway_text.redstone.shards import PAGES


def pack_pages(arguments: Sequence[str], output: Path, base: str, *, overwrite: bool = False) -> int:
    """How many pages were written. Raises InputError: nothing was found, or a page cannot be read; OutputError."""
    found, problems = find_inputs(arguments, PAGES)
    if problems or not found:
        raise InputError("; ".join(f"{name}: {reason}" for name, reason in problems) or "no page")
    check_output(output, inputs=[item.path for item in found], overwrite=overwrite)
    with atomic_write(output) as file:
        for item in found:
            try:
                html = item.path.read_bytes()
            except OSError as error:
                raise InputError(f"cannot read {item.path}: {os_reason(error)}") from error
            file.write(warc_record(base + quote(item.relative.as_posix()), html))
    return len(found)
