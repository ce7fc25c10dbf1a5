"""The deep-zoom viewer: a page that asks for the tiles it shows, and the result of a model beside it."""

from __future__ import annotations

import html
import io
import json
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response
from multiway_core.app import ModelOptions, load_pipeline, note
from multiway_core.errors import MultiwayError
from multiway_vision_language.longvit.pipeline import NOTICE, Raster
from PIL import Image

from multiway_pathology.app import APP
from multiway_pathology.example import GeneratedSlide
from multiway_pathology.overlay import heat_layer
from multiway_pathology.slides import describe, open_slide

TILE = 256
CACHED_TILES = 1024
SIDE = 20_480
"""Of the generated slide, in pixels."""


def build_viewer(raster: Raster, pipeline: Any = None) -> FastAPI:
    """The page (/), its tiles (/tile), and the model's result with its heat (/result, /heat.png)."""
    app = FastAPI(title=APP.title, docs_url=None, redoc_url=None)
    page = Path(__file__).with_name("viewer.html").read_text(encoding="utf-8")
    title = html.escape(Path(raster.name).name)
    facts = json.dumps(
        {"width": raster.width, "height": raster.height, "tile": TILE, "model": pipeline is not None}
    ).replace("<", "\\u003c")
    page = (
        page.replace("{{TITLE}}", title)
        .replace("{{FACTS}}", facts)
        .replace("{{NOTICE}}", html.escape(NOTICE))
    )
    working = threading.Lock()
    layer: dict[str, bytes] = {}

    @lru_cache(maxsize=CACHED_TILES)
    def tile_of(shrink: int, column: int, row: int) -> bytes:
        step = TILE * shrink
        left, top = column * step, row * step
        right, bottom = min(raster.width, left + step), min(raster.height, top + step)
        size = (max(1, -(-(right - left) // shrink)), max(1, -(-(bottom - top) // shrink)))
        data = io.BytesIO()
        Image.fromarray(raster.read((left, top, right, bottom), size)).save(data, "JPEG", quality=82)
        return data.getvalue()

    def result_of() -> dict[str, Any]:
        with working:
            states = pipeline.states(raster)
            data = io.BytesIO()
            heat_layer(np.asarray(pipeline.heatmap(states)), (512, 512)).save(data, "PNG")
            layer["heat"] = data.getvalue()
            found: dict[str, Any] = pipeline.result(states, raster, None, None).to_json()
            return found

    @app.get("/", response_class=HTMLResponse)
    def index() -> str:
        return page

    @app.get("/info")
    def info() -> dict[str, Any]:
        return {**describe(raster), "source": Path(raster.name).name}

    @app.get("/tile/{level}/{column}/{row}")
    async def tile(level: int, column: int, row: int) -> Response:
        shrink = 1 << level if 0 <= level <= 16 else 0
        if not shrink or not (
            0 <= column * TILE * shrink < raster.width and 0 <= row * TILE * shrink < raster.height
        ):
            return JSONResponse({"error": "no such tile"}, 404)
        data = await run_in_threadpool(tile_of, shrink, column, row)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})

    @app.post("/result")
    async def result() -> dict[str, Any]:
        if pipeline is None:
            return {"error": "no model was given: start with --model"}
        return await run_in_threadpool(result_of)

    @app.get("/heat.png")
    def heat() -> Response:
        if "heat" not in layer:
            return JSONResponse({"error": "ask for the result first"}, 404)
        return Response(layer["heat"], media_type="image/png")

    @app.exception_handler(MultiwayError)
    async def failed(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 400)

    return app


def build_demo(model: str = APP.model, *, device: str = "auto", dtype: str = "auto") -> FastAPI:
    """The viewer of a generated slide, for the home page. Raises ModelNotFoundError, CheckpointError."""
    options = ModelOptions(model=model, device=device, dtype=dtype)
    return build_viewer(GeneratedSlide(SIDE), load_pipeline(APP, options))


def run_viewer(slide: Path | None, model: ModelOptions, host: str, port: int) -> None:
    """Serve the viewer until Ctrl-C; without a slide, of a generated one. Raises InputError, OutputError.

    The bundled model knows generated slides alone, so a user's slide is only shown unless a model is given.
    """
    raster = GeneratedSlide(SIDE) if slide is None else open_slide(slide)
    shown_only = slide is not None and model.model in (None, APP.model)
    app = build_viewer(raster, None if shown_only else load_pipeline(APP, model))
    note(f"{APP.title}: http://{host}:{port} (Ctrl-C ends)")
    uvicorn.run(app, host=host, port=port, log_level="warning")
