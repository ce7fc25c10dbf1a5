"""The values of the viewer component, and its files (multiway_ocr/viewer)."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiway_document.result import Document, Page
    from PIL import Image

_SHOWN_SIDE = 1800  # pixels of the picture that the browser gets


def view_value(
    image: Image.Image | None = None,
    picture: str | None = None,
    lines: Any = (),
    *,
    reading: bool = False,
    summary: str = "",
    note: str = "",
) -> dict[str, Any]:
    """The value of the viewer component (viewer/viewer.js draws it)."""
    if image is None:
        return {
            "image": None,
            "width": 1,
            "height": 1,
            "lines": [],
            "reading": False,
            "summary": "",
            "note": "",
        }
    return {
        "image": picture or data_uri(image),
        "width": image.width,
        "height": image.height,
        "lines": [
            {
                "text": line.text,
                "box": [round(value, 1) for value in line.box],
                "confidence": round(line.confidence, 3),
                "flags": list(line.flags),
            }
            for line in lines
        ],
        "reading": reading,
        "summary": summary,
        "note": note,
    }


def summary_of(document: Document, page: Page, seconds: float) -> str:
    count = len(page.lines)
    parts = [f"{count} line{'' if count == 1 else 's'}"]
    if page.lines:
        parts.append(f"mean confidence {100 * sum(line.confidence for line in page.lines) / count:.0f} %")
    parts += [f"{seconds:.1f} s", document.model]
    return " · ".join(parts)


def data_uri(image: Image.Image) -> str:
    """The picture, reduced for the screen, inside a data URI: no file of the server is ever named."""
    shown = image.convert("RGB")
    shown.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
