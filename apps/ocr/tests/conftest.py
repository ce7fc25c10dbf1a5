"""Pictures to read, and a way to call the command inside this process."""

from __future__ import annotations

import pytest
from multiway_core import hub
from PIL import Image, ImageDraw, ImageFont


def draw(text: str, *, size: int = 28, margin: int = 24) -> Image.Image:
    """Black text on a white page that fits around it, in Pillow's own font."""
    font = ImageFont.load_default(size)
    lines = text.split("\n")
    width = max(round(font.getlength(line)) for line in lines) + 2 * margin
    height = len(lines) * round(1.6 * size) + 2 * margin
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        pen.text((margin, margin + number * round(1.6 * size)), line, fill="black", font=font)
    return image


@pytest.fixture
def needs_model():
    """Skip while the repository does not hold the bundled model."""
    folder = hub.bundled().get("ocr-small")
    if folder is None or not (folder / "config.json").is_file():
        pytest.skip("bundled:ocr-small is not there")
    return folder


@pytest.fixture(name="draw")
def draw_fixture():
    """The function ``draw(text, size=28, margin=24)`` -> picture."""
    return draw


@pytest.fixture
def page(tmp_path):
    """A picture of two lines."""
    path = tmp_path / "page.png"
    draw("Hello from page one\nand its second line").save(path)
    return path


@pytest.fixture
def call(call_app):
    """Run ``multiway-ocr`` with arguments in this process: exit code, standard output, standard error."""
    from multiway_ocr.cli import cli

    return call_app(cli, "multiway-ocr")
