"""WARC and WET files as records. A damaged record is named and skipped; the file is read on behind it.

fastwarc and warcio both stop at a damaged gzip member, and neither bounds what a member unpacks to. So the members are
unpacked here, each within ``Limits.unpacked``, and fastwarc parses what is inside.
"""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from multiway_core.errors import InputError, os_reason

from multiway_text.redstone.record import Record

if TYPE_CHECKING:
    from fastwarc.warc import WarcRecord

_GZIP = b"\x1f\x8b"
_MEMBER = _GZIP + b"\x08"
_CHUNK = 1 << 18
_CONTROLS = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ufffd\ud800-\udfff]")
_CHUNKED = re.compile(rb"[0-9a-fA-F]{1,8}[^\r\n]{0,80}\r\n")
_HTML_TYPES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True)
class Limits:
    """Bytes of a page, and of a record when unpacked (RedStone: 10 MB and 100 MB)."""

    page: int = 10_000_000
    unpacked: int = 100_000_000


def read_archives(
    paths: Sequence[str | Path], rank: int = 0, world_size: int = 1, *, limits: Limits = Limits()
) -> Iterator[Record]:
    """The pages of every ``world_size``-th file from the ``rank``-th on. Raises as `read_archive`."""
    for path in paths[rank::world_size]:
        yield from read_archive(path, limits=limits)


def read_archive(path: str | Path, *, limits: Limits = Limits()) -> Iterator[Record]:
    """The HTML responses of a WARC file and the texts of a WET file, packed by record (gzip) or plain.

    What cannot be read comes as a record that is dropped: ``archive: ...``, with its offset in the file.

    Raises InputError: no such file, or it does not hold WARC records.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            is_packed = file.read(len(_MEMBER)) == _MEMBER
            file.seek(0)
            name, is_archive = path.name, False
            if is_packed:
                for offset, data, problem in members(file, limits.unpacked):
                    is_archive = is_archive or data.startswith(b"WARC/")
                    if data and not is_archive:
                        break
                    if problem:
                        yield _bad(name, offset, problem)
                    else:
                        yield from _records(name, io.BytesIO(data), offset, limits, is_member=True)
            elif file.read(5) == b"WARC/":
                is_archive = True
                yield from _records(name, file, 0, limits, is_member=False)
    except OSError as error:
        raise InputError(f"cannot read {path}: {os_reason(error)}") from error
    if not is_archive:
        raise InputError(f"{path}: no WARC file: its first record does not begin with WARC/")


def members(file: BinaryIO, most: int) -> Iterator[tuple[int, bytes, str]]:
    """(offset, content, what is wrong with it) of the members of a gzip file; behind a bad one comes the next good."""
    offset, ahead = 0, b""
    while ahead := ahead or file.read(_CHUNK):
        unpack, parts, room, fed, problem = zlib.decompressobj(31), [], most + 1, len(ahead), ""
        try:
            parts.append(unpack.decompress(ahead, room))
            while not unpack.eof:
                room -= len(parts[-1])
                if room == 0:
                    problem = f"a record of more than {most:,} bytes when unpacked"
                    break
                data = unpack.unconsumed_tail or file.read(_CHUNK)
                if not data:
                    problem = "the file ends inside a gzip member"
                    break
                fed += 0 if unpack.unconsumed_tail else len(data)
                parts.append(unpack.decompress(data, room))
        except zlib.error as error:
            problem = f"a damaged gzip member ({str(error).split(': ')[-1]})"
        yield offset, b"" if problem else b"".join(parts), problem
        if problem:
            following = _next_member(file, offset + 1)
            if following is None:
                return
            offset, ahead = following, b""
            file.seek(offset)
        else:
            ahead = unpack.unused_data
            offset += fed - len(ahead)
            if not ahead.strip(b"\0"):  # padding
                offset, ahead = offset + len(ahead), b""


def _next_member(file: BinaryIO, start: int) -> int | None:
    """Where the next member begins that holds a WARC record, from ``start`` on."""
    while True:
        file.seek(start)
        data = file.read(_CHUNK)
        if len(data) < len(_MEMBER):
            return None
        at = data.find(_MEMBER)
        if at < 0:
            start += len(data) - len(_MEMBER) + 1
            continue
        file.seek(start + at)
        try:
            if zlib.decompressobj(31).decompress(file.read(1 << 10), 5) == b"WARC/":
                return start + at
        except zlib.error:
            pass
        start += at + 1


def _records(name: str, file: BinaryIO, offset: int, limits: Limits, *, is_member: bool) -> Iterator[Record]:
    """The pages in a stream of records; behind a damaged record, the stream is read on at the next one's first line."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    kinds = WarcRecordType.response | WarcRecordType.conversion
    begin: int | None = 0
    while begin is not None:
        file.seek(begin)
        last = begin
        try:
            for record in ArchiveIterator(file, record_types=kinds, stream_detect=False):
                last = record.stream_pos
                yield _page(name, record, offset if is_member else last, limits)
            return
        except OSError as error:
            yield _bad(name, offset if is_member else last, f"behind this record: {str(error).lower()}")
            begin = _next_record(file, last + 1)


def _next_record(file: BinaryIO, start: int) -> int | None:
    """Where the next line ``WARC/1.`` begins behind an empty one, from ``start`` on."""
    mark = b"\r\n\r\nWARC/1."
    while True:
        file.seek(start)
        data = file.read(_CHUNK)
        at = data.find(mark)
        if at >= 0:
            return start + at + 4
        if len(data) < len(mark):
            return None
        start += len(data) - len(mark) + 1


def _page(name: str, record: WarcRecord, offset: int, limits: Limits) -> Record:
    headers, http = record.headers, record.http_headers
    uri = _CONTROLS.sub(lambda match: quote(match[0], errors="replace"), headers.get("WARC-Target-URI") or "")
    date = headers.get("WARC-Date") or ""
    content = record.reader.read(min(record.content_length, limits.unpacked))
    found = headers.get("WARC-Record-ID")
    identity = found.strip("<>") if found else "sha1:" + _sha1(uri.encode(), date.encode(), content)
    page = Record(identity, uri, meta={"archive": name, "offset": offset, "date": date})
    if len(content) < min(record.content_length, limits.unpacked):
        return page.drop("archive: the file ends inside a record")
    if headers.get("WARC-Type") == "conversion":
        return Record(page.id, uri, text=content.decode("utf-8", "replace"), meta=page.meta)
    if http is None:
        return page.drop("response: no HTTP headers")
    kind = (record.http_content_type or "").lower()
    if (http.status_code or 0) // 100 != 2:
        return page.drop(f"response: status {http.status_code}")
    if kind not in _HTML_TYPES:
        return page.drop(f"response: content type {kind[:40]!r}")
    html = _decoded(content, http.get("Transfer-Encoding") or "", http.get("Content-Encoding") or "", limits)
    if len(html) > limits.page:
        return page.drop(f"response: a page of more than {limits.page:,} bytes")
    return Record(page.id, uri, html, meta={**page.meta, "charset": record.http_charset or ""})


def _decoded(content: bytes, transfer: str, encoding: str, limits: Limits) -> bytes:
    """The payload without chunks and packing, at most one byte more than ``limits.page``.

    Crawlers often keep the headers of what they have unpacked, so the bytes decide, not the headers.
    """
    from fastwarc.stream_io import BrotliReader, ChunkedReader

    room = limits.page + 1
    try:
        if "chunked" in transfer.lower() and _CHUNKED.match(content):
            content = ChunkedReader(io.BytesIO(content)).read(limits.unpacked)
        if content.startswith(_GZIP):
            return zlib.decompressobj(31).decompress(content, room)
        if "br" in encoding.lower().split(","):
            return BrotliReader(io.BytesIO(content)).read(room) or content
    except (OSError, zlib.error):
        pass
    return content


def _sha1(*parts: bytes) -> str:
    return hashlib.sha1(b"\0".join(parts), usedforsecurity=False).hexdigest()


def _bad(name: str, offset: int, problem: str) -> Record:
    return Record(
        f"{name}:{offset}", "", meta={"archive": name, "offset": offset}, drop_reason=f"archive: {problem}"
    )
