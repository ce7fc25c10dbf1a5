"""Page images for exporters."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

PageImages = Callable[[int], Image.Image]
"""``Page.index`` -> the picture of that page. Called once a page, in order: only one need be in memory."""
