"""The server: the class or the risk of a slide that a client sends, and the regions that decided."""

from __future__ import annotations

from typing import Annotated, Any

from multiway_core.app.serve.operation import Content, InputFile, Operation, Service
from pydantic import Field
from typing_extensions import TypedDict

from multiway_pathology.overlay import overlay
from multiway_pathology.slides import open_slide, parse_region

Size = Annotated[int | None, Field(ge=16, le=16_384)]
Region = Annotated[str | None, Field(pattern=r"^\d+(,\d+){3}$")]


class Classes(TypedDict):
    """Probabilities of a slide's classes."""

    schema: str
    source: str
    model: str
    task: str
    size: int
    roi: list[int]
    notice: str
    label: str
    probabilities: dict[str, float]


def classify_slide(pipeline: Any, file: InputFile, size: Size = None, roi: Region = None) -> dict[str, Any]:
    """Classes of a whole-slide image or another huge picture. For research only; no medical device."""
    pipeline.require_head("classify")
    return pipeline(open_slide(file), size=size, roi=parse_region(roi)).to_json()


def heatmap_of_slide(pipeline: Any, file: InputFile, size: Size = None, roi: Region = None) -> Content:
    """The slide, at most 1,024 pixels a side, with the regions that spoke for the model's result in red (PNG)."""
    pipeline.require_head()
    raster, part = open_slide(file), parse_region(roi)
    heat = pipeline.heatmap(pipeline.states(raster, size=size, roi=part))
    return Content(overlay(raster, heat, part), "image/png")


SERVICE = Service(
    operations=(
        Operation("/v1/classify_slide", classify_slide, Classes, schema="multiway.pathology/1"),
        Operation("/v1/heatmap_of_slide", heatmap_of_slide, media_types=("image/png",)),
    )
)
