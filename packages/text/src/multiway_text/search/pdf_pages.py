"""The program of the process that reads the text layer of PDF files; see ``extract``."""

from __future__ import annotations

import json
from typing import Any

from multiway_core.guarded_process import answer_requests

MAX_MEMORY = 4 << 30
MAX_CHARACTERS = 64 << 20


def pages(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The texts of the pages as a JSON list, or why there are none."""
    try:
        import pypdfium2
    except ModuleNotFoundError:
        return {"error": "PDF files need pypdfium2: pip install 'multiway-text[search]'"}, b""
    found: list[str] = []
    try:
        with open(request["path"], "rb") as file:  # noqa: PTH123 by file object: PDFium takes a name for UTF-8
            document = pypdfium2.PdfDocument(file)
            for number in range(len(document)):
                page = document[number].get_textpage()
                text = page.get_text_bounded().replace("\r\n", "\n").replace("\ufffe", "-\n")
                found.append("".join(c for c in text if c >= " " or c in "\n\t"))
                if sum(map(len, found)) > MAX_CHARACTERS:
                    return {"error": f"holds more than {MAX_CHARACTERS >> 20} million characters"}, b""
    except (OSError, pypdfium2.PdfiumError) as error:
        encrypted = "password" in str(error).lower()
        return {
            "error": "encrypted; save it without a password first" if encrypted else "damaged PDF file"
        }, b""
    if not any(text.strip() for text in found):
        return {"error": "no text layer (a scan?); multiway-ocr reads it"}, b""
    return {}, json.dumps(found).encode()


if __name__ == "__main__":
    answer_requests(pages, MAX_MEMORY)
