"""HTML pages as records of a WARC file, packed one by one as Common Crawl's are."""

from __future__ import annotations

import gzip
import uuid


def warc_record(uri: str, html: bytes, *, date: str = "2024-01-01T00:00:00Z", charset: str = "") -> bytes:
    """A response record as a gzip member; the same page makes the same bytes.

    Args:
        date: of the capture, ISO 8601 in UTC.
        charset: what the server says; empty: nothing, as many do.
    """
    kind = f"text/html; charset={charset}" if charset else "text/html"
    http = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(html)}\r\n\r\n".encode() + html
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{uri} {date} {len(html)}")
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{name}>\r\nWARC-Date: {date}\r\n"
        f"WARC-Target-URI: {uri}\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(http)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + http + b"\r\n\r\n", mtime=0)
