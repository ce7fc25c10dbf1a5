"""A self-contained web page: each page's image with a selectable, searchable text layer.

Each page is one SVG in the page's pixels: it scales with the window, and the browser stretches every line to
its box. There is no script, nothing is fetched, and a content policy in the page forbids both.
"""

from __future__ import annotations

import base64
import io

from PIL import Image

from multiway_document.export.direction import is_right_to_left
from multiway_document.export.markup import escape, printable
from multiway_document.export.page_images import PageImages
from multiway_document.result import Document, Line, Page

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { margin: 0; background: #e8e8ea; color: #1a1a1c; font: 16px/1.5 system-ui, sans-serif; }
header, section { max-width: 1100px; margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.2rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 0 0 .5rem; }
svg { display: block; width: 100%; height: auto; background: #fff; box-shadow: 0 1px 4px #0004; }
svg text { font-family: Helvetica, Arial, sans-serif; white-space: pre; }
svg.pictured text { fill: transparent; }
svg rect { fill: transparent; stroke: #1f6feb66; vector-effect: non-scaling-stroke; }
svg g:hover rect { fill: #1f6feb22; stroke: #1f6feb; }
svg text::selection { fill: #000; background: #b4d5fe; }
details { margin-top: .5rem; }
pre { white-space: pre-wrap; background: #fff; padding: 1rem; }
"""
_LARGEST_SIDE = 2400  # pixels of the embedded picture
_JPEG_QUALITY = 80
_ASCENT = 0.8  # of the line's height


def to_html(document: Document, images: PageImages | None = None) -> bytes:
    """The document as one HTML file; without ``images`` the text stands visible on white pages."""
    sections = "".join(_section(page, number, images) for number, page in enumerate(document.pages, 1))
    title = escape(document.source)
    return (
        '<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="multiway {escape(document.model)}">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<header><h1>{title}</h1></header>\n{sections}</body>\n</html>\n"
    ).encode()


def _section(page: Page, number: int, images: PageImages | None) -> str:
    width, height = max(page.width, 1), max(page.height, 1)
    picture = "" if images is None else _picture(images(page.index), width, height)
    lines = "".join(map(_line, page.lines))
    text = "\n".join(escape(line.text) for line in page.lines)
    pictured = ' class="pictured"' if picture else ""
    return (
        f'<section id="page-{number}">\n<h2>Page {number}</h2>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f"{pictured}>\n{picture}{lines}</svg>\n"
        f"<details><summary>Text</summary><pre>{text}</pre></details>\n</section>\n"
    )


def _line(line: Line) -> str:
    x0, y0, x1, y1 = line.box
    width, height = max(x1 - x0, 1), max(y1 - y0, 1)
    right_to_left = is_right_to_left(line.text)
    start = f'x="{x1:.2f}" direction="rtl"' if right_to_left else f'x="{x0:.2f}"'
    text = escape(" ".join(printable(line.text).split()))
    return (
        f"<g><title>{round(100 * line.confidence)} %: {text}</title>"
        f'<rect x="{x0:.2f}" y="{y0:.2f}" width="{width:.2f}" height="{height:.2f}"/>'
        f'<text {start} y="{y0 + _ASCENT * height:.2f}" font-size="{height:.2f}"'
        f' textLength="{width:.2f}" lengthAdjust="spacingAndGlyphs">{text}</text></g>\n'
    )


def _picture(image: Image.Image, width: int, height: int) -> str:
    small = image.convert("L" if image.mode in ("1", "L", "LA", "I;16") else "RGB")
    small.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<image width="{width}" height="{height}" preserveAspectRatio="none"'
        f' href="data:image/jpeg;base64,{data}"/>\n'
    )
