"""The few parts of a PDF file that a searchable page needs: numbered objects, streams, the table of them."""

from __future__ import annotations

import hashlib
import zlib


class PdfWriter:
    """Collects numbered objects; ``finish`` gives the file. The same objects give the same bytes."""

    def __init__(self) -> None:
        self._objects: list[bytes | None] = []

    def reserve(self) -> int:
        """A number for an object that is written later (``put``) but referred to before."""
        self._objects.append(None)
        return len(self._objects)

    def put(self, number: int, body: str) -> None:
        """Write a reserved object."""
        self._objects[number - 1] = body.encode("latin-1")

    def add(self, body: str) -> int:
        """Write an object; its number."""
        number = self.reserve()
        self.put(number, body)
        return number

    def stream(self, data: bytes, entries: str = "", *, compress: bool = True) -> int:
        """Write a stream object with further dictionary entries; its number."""
        if compress:
            data = zlib.compress(data)
            entries += " /Filter /FlateDecode"
        number = self.reserve()
        head = f"<< {entries} /Length {len(data)} >>\nstream\n".encode("latin-1")
        self._objects[number - 1] = head + data + b"\nendstream"
        return number

    def finish(self, root: int, info: int) -> bytes:
        """The whole file, given the numbers of its catalogue and information objects."""
        out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
        offsets = []
        for number, body in enumerate(self._objects, 1):
            assert body is not None, f"object {number} was reserved and never written"
            offsets.append(len(out))
            out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
        identity = hashlib.sha256(out).hexdigest()[:32]
        table = len(out)
        out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
        out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
        out += (
            f"trailer\n<< /Size {len(offsets) + 1} /Root {root} 0 R /Info {info} 0 R"
            f" /ID [<{identity}> <{identity}>] >>\nstartxref\n{table}\n%%EOF\n"
        ).encode("ascii")
        return bytes(out)


def text_string(text: str) -> str:
    """Any text as a PDF string (UTF-16 in hexadecimal)."""
    return f"<FEFF{text.encode('utf-16-be', 'replace').hex().upper()}>"
