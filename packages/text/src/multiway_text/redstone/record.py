"""What flows between the stages: one page, its text, and why it was dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Record:
    """A page on its way.

    Attributes:
        id: the archive's record id, else a hash of address, date and content: the same wherever the page is stored.
        uri: the address, as the archive has it; never used as a file name.
        html: the page's bytes as served; empty when the archive holds text alone, and after extraction.
        text: the extracted text.
        meta: what is known about it: ``archive``, ``offset``, ``date``, ``language``, ``extractor``, ``rules`` ...
        drop_reason: the rule that dropped it, ``stage: detail``; empty while it is kept.
    """

    id: str
    uri: str
    html: bytes = b""
    text: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    drop_reason: str = ""

    def drop(self, reason: str, **meta: Any) -> Record:
        """The record as dropped; its markup is let go, its text stays for the report."""
        return replace(self, html=b"", drop_reason=reason, meta={**self.meta, **meta})

    def noted(self, **meta: Any) -> Record:
        """The record with more ``meta``."""
        return replace(self, meta={**self.meta, **meta})


Stage = Callable[[Iterable[Record]], Iterator[Record]]
"""A stage has no state of its own: any engine may run it on any share of the records."""


def stage(step: Callable[[Record], Record]) -> Stage:
    """The stage that does ``step`` to every record that is still kept, and lets the dropped ones pass."""

    def run(records: Iterable[Record]) -> Iterator[Record]:
        return (record if record.drop_reason else step(record) for record in records)

    return run
