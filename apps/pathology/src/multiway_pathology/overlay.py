"""The regions that decided: a PNG over the slide's thumbnail, and GeoJSON as QuPath imports it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from multiway_vision_language.longvit.pipeline import Raster, Roi, region_of
from PIL import Image

THUMBNAIL = 1024
_FOR, _AGAINST = np.array([214, 40, 57]), np.array([38, 92, 190])


def scaled(heat: np.ndarray) -> np.ndarray:
    """Values from -1 to 1: divided by the 99th percentile of their size."""
    largest = float(np.quantile(np.abs(heat), 0.99)) or 1.0
    return np.clip(heat / largest, -1, 1)


def heat_layer(heat: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Red for, blue against, more opaque with the size of the value: RGBA of (width, height)."""
    values = np.asarray(
        Image.fromarray(scaled(heat).astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    )
    colour = np.where(values[..., None] > 0, _FOR, _AGAINST)
    alpha = (np.abs(values) * 170)[..., None]
    return Image.fromarray(np.concatenate([colour, alpha], axis=2).astype(np.uint8), "RGBA")


def overlay(raster: Raster, heat: np.ndarray, roi: Roi | None = None) -> bytes:
    """The region with the heat over it, as PNG, at most 1,024 pixels a side."""
    page = _shrunk(raster, region_of(raster, roi), THUMBNAIL).convert("RGBA")
    page.alpha_composite(heat_layer(heat, page.size))
    return _encoded(page.convert("RGB"))


def png(raster: Raster, region: Roi, longest: int) -> bytes:
    """The region as PNG, at most ``longest`` pixels a side."""
    return _encoded(_shrunk(raster, region, longest))


def _shrunk(raster: Raster, region: Roi, longest: int) -> Image.Image:
    left, top, width, height = region
    shrink = max(1.0, max(width, height) / longest)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    return Image.fromarray(raster.read((left, top, left + width, top + height), size))


def _encoded(page: Image.Image) -> bytes:
    data = io.BytesIO()
    page.save(data, "PNG")
    return data.getvalue()


def geojson(raster: Raster, heat: np.ndarray, roi: Roi | None = None, *, top: int = 50) -> dict[str, Any]:
    """The ``top`` cells that speak most for the result, as polygons in pixels of the full slide."""
    left, upper, width, height = region_of(raster, roi)
    rows, columns = heat.shape
    order = np.argsort(heat, axis=None)[::-1][:top]
    features = []
    for place in order:
        row, column = divmod(int(place), columns)
        if heat[row, column] <= 0:
            break
        x0, x1 = (left + width * edge / columns for edge in (column, column + 1))
        y0, y1 = (upper + height * edge / rows for edge in (row, row + 1))
        ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {
                    "objectType": "annotation",
                    "name": f"share {heat[row, column]:.3g}",
                    "measurements": {"share": float(heat[row, column])},
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}
