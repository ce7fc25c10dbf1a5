"""HTML -> text behind one interface, in a process of its own that a page cannot outlive.

A page that takes too long, or too much memory, costs the process and its own text; the next page starts another.
The extractor's name and version go into ``Record.meta``: texts differ between versions (RedStone used
trafilatura 1.8.1).
"""

from __future__ import annotations

import base64
import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from multiway_core.errors import InputError
from multiway_core.guarded_process import GuardedProcess, ProcessDied, answer_requests

from multiway_text.redstone.markup import markup_text
from multiway_text.redstone.record import Record

MAX_MEMORY = 4 << 30
_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


_SERVERS_DEFAULTS = ("", "utf-8", "utf8", "iso-8859-1", "us-ascii")
"""Charsets that say nothing about a page."""


def trafilatura_text(html: str) -> str:
    """RedStone's extraction: precision before recall, tables and formatting, no links, images or comments."""
    from trafilatura import bare_extraction

    found = bare_extraction(
        html,
        favor_precision=True,
        include_comments=False,
        include_formatting=True,
        include_tables=True,
        include_images=False,
        include_links=False,
        deduplicate=False,
        with_metadata=False,
    )
    return flat_text(getattr(found, "body", None))


def resiliparse_text(html: str) -> str:
    """The main content by Resiliparse's rules, without empty lines, which the rules would count as paragraphs."""
    from resiliparse.extract.html2text import extract_plain_text

    text = extract_plain_text(html, main_content=True, alt_texts=False, list_bullets=False)
    return re.sub(r"\n\s*\n", "\n", text)


EXTRACTORS: dict[str, Callable[[str], str]] = {
    "trafilatura": trafilatura_text,
    "resiliparse": resiliparse_text,
    "markup": markup_text,
}
_PACKAGES = {"markup": "resiliparse"}


def flat_text(body: Any) -> str:
    """Trafilatura's tree (None: nothing was found) as text without marks: a block a line, code as it stands."""
    if body is None:
        return ""
    parts: list[str] = []

    def walk(element: Any, verbatim: bool) -> None:
        tag = element.tag if isinstance(element.tag, str) else ""
        is_block = tag not in ("hi", "del", "ref", "span")
        verbatim = verbatim or tag == "code"
        if is_block:
            parts.append(" " if tag == "cell" else "\n")
        for text, child in [(element.text, None), *((child.tail, child) for child in element)]:
            if child is not None:
                walk(child, verbatim)
            if text:
                parts.append(text if verbatim else re.sub(r"\s+", " ", text))
        if is_block:
            parts.append(" " if tag == "cell" else "\n")

    walk(body, False)
    lines = [line.rstrip() for line in "".join(parts).split("\n")]
    lines = [line if line.startswith("    ") else re.sub(r"^ {1,3}(?=\S)", "", line) for line in lines]
    return re.sub(r"\n{2,}", "\n", "\n".join(lines)).strip("\n")


def decode(html: bytes, charset: str = "") -> str:
    """A page's characters: by byte order mark, UTF-8 where it is, the server's charset, ``<meta>``, or a guess."""
    from resiliparse.parse.encoding import detect_encoding

    for mark, encoding in _BOMS.items():
        if html.startswith(mark):
            return html[len(mark) :].decode(encoding, "replace").replace("\0", "")
    try:
        text = html.decode("utf-8")
    except UnicodeDecodeError:
        told = charset.lower() not in _SERVERS_DEFAULTS
        found = detect_encoding(html, max_len=1 << 16, from_html_meta=True)
        try:
            text = html.decode(charset if told else found or "windows-1252", "replace")
        except (LookupError, ValueError):  # a name that is none, or is no text encoding
            text = html.decode("windows-1252", "replace")
    return text.replace("\0", "")


class Extractor:
    """Pages -> texts by an extractor of ``EXTRACTORS``, in a guarded process."""

    def __init__(self, name: str = "trafilatura", *, max_seconds: float = 20.0) -> None:
        """Raises InputError: no extractor of that name, or it is not installed."""
        if name not in EXTRACTORS:
            raise InputError(f"no extractor {name!r}; there are {', '.join(EXTRACTORS)}")
        package = _PACKAGES.get(name, name)
        try:
            self.version = f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError as error:
            raise InputError(f"{name} is not installed: pip install 'multiway-text[redstone]'") from error
        if package != name:
            self.version = f"{name} ({self.version})"
        self.name, self.max_seconds = name, max_seconds
        self._process = GuardedProcess(["-m", "multiway_text.redstone.extraction", name])

    def __call__(self, record: Record) -> Record:
        """The record with its text and without its markup; dropped where nothing comes out."""
        if not record.html:
            return record  # a text already
        request = {"html": base64.b64encode(record.html).decode(), "charset": record.meta.get("charset", "")}
        try:
            answer, data = self._process.ask(request, self.max_seconds)
        except ProcessDied:
            return record.drop(f"extraction: over {self.max_seconds:g} seconds, out of memory, or a crash")
        if answer["error"]:
            return record.drop(f"extraction: {answer['error']}")
        text = data.decode("utf-8", "replace")
        if not text.strip():
            return record.drop("extraction: no text", extractor=self.version)
        return replace(record, html=b"", text=text, meta={**record.meta, "extractor": self.version})

    def close(self) -> None:
        """End the process."""
        self._process.close()


def _serve(name: str) -> None:
    extract = EXTRACTORS[name]

    def answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        try:
            text = extract(decode(base64.b64decode(request["html"]), request["charset"]))
        except Exception as error:  # the extractor's own: whatever a page may trigger in it
            return {"error": f"{type(error).__name__} in {name}"}, b""
        return {"error": ""}, text.encode("utf-8", "replace")

    answer_requests(answer, MAX_MEMORY)


if __name__ == "__main__":
    import sys

    _serve(sys.argv[1])
