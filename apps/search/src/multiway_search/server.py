"""The server: search, and documents put in and taken out of an index that stays on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from multiway_core.app.serve.operation import Operation, Service
from multiway_core.app.serve.service import Endpoint, respond
from multiway_core.errors import InputError
from multiway_core.files import private_cache_folder
from multiway_text.search.fusion import Mode
from multiway_text.search.pictures import Kind, circle
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from multiway_text.search.pipeline import SearchPipeline
    from multiway_text.search.store import Index

INDEX_VARIABLE = "MULTIWAY_SEARCH_INDEX"
"""Names the folder of the served index; without it there is one in the cache for each model."""
MAX_QUERY = 10_000
Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]+$")]
Text = Annotated[str, Field(max_length=1_000_000)]


class Document(BaseModel):
    """A text under a name of the caller's."""

    id: Name
    text: Text


Documents = Annotated[list[Document], Field(min_length=1, max_length=256)]
Query = Annotated[str, Field(max_length=MAX_QUERY)]
Top = Annotated[int, Field(ge=1, le=100)]
Place = Annotated[list[float], Field(min_length=2, max_length=3)]
Day = Annotated[str, Field(pattern=r"^\d{4}(-\d\d(-\d\d)?)?$")]


class Found(TypedDict):
    """A passage: characters [start, end) of ``place`` of the document ``path``."""

    id: int
    path: str
    kind: str
    place: str
    start: int
    end: int
    text: str
    score: float
    cosine: float | None
    bm25: float | None
    highlight: list[int] | None
    terms: list[list[int]]


class SearchResults(TypedDict):
    """Passages, best first."""

    schema: str
    query: str
    mode: str
    passages: int
    seconds: float
    notes: list[str]
    hits: list[Found]


class Changed(TypedDict):
    """How many documents a request changed, and what the index holds now."""

    schema: str
    changed: int
    passages: int


@dataclass
class Served:
    """A pipeline with the index that it serves."""

    pipeline: SearchPipeline
    index: Index


def search_texts(
    served: Served,
    query: Query,
    mode: Mode = "hybrid",
    top: Top = 10,
    path: str | None = None,
    kind: Kind | None = None,
    since: Day | None = None,
    until: Day | None = None,
    near: Place | None = None,
) -> dict[str, Any]:
    """Find passages of the indexed texts, and pictures, that answer a question or are about some words.

    kind: only texts or only pictures; since, until: days of pictures by their EXIF data (2024-05-31, 2024-05 or 2024).
    near: [latitude, longitude] or [latitude, longitude, kilometres] of pictures by their EXIF data, within 10 km.
    """
    found = served.pipeline.query(
        served.index, query, mode=mode, top=top, path=path, kind=kind, since=since, until=until,
        near=None if near is None else circle(near),
    )  # fmt: skip
    return found.to_json()


def index_texts(served: Served, documents: Documents) -> dict[str, Any]:
    """Put texts into the index; one whose id is there is replaced. They are on disk when the answer comes."""
    served.pipeline.add(served.index, {document.id: document.text for document in documents})
    return _changed(served, len({document.id for document in documents}))


def add_routes(router: APIRouter, served: Endpoint) -> None:
    """``DELETE /v1/index/ID``, for which no function of the kit is made."""

    @router.delete("/v1/index/{id:path}", tags=["index"], response_model=Changed)
    async def delete_text(id: str, request: Request) -> Response:
        """Remove a document from the index."""
        return await respond(request, served.worker.stream(partial(_removed, id)))


def _removed(id: str, served: Served) -> Any:
    from multiway_text.search.pipeline import delete_documents

    if not (count := delete_documents(served.index, id, exact=True)):
        raise InputError(f"the index has no document {id[:100]!r}")
    yield _changed(served, count)


def _changed(served: Served, count: int) -> dict[str, Any]:
    return {"schema": "multiway.search.change/1", "changed": count, "passages": served.index.count()}


def served_index(pipeline: SearchPipeline) -> Served:
    """With the index of ``INDEX_VARIABLE``, or the model's own in the cache. Raises InputError, OutputError."""
    named = os.environ.get(INDEX_VARIABLE)
    folder = Path(named) if named else private_cache_folder("search") / f"served-{pipeline.version[:8]}"
    return Served(pipeline, pipeline.open(folder, create=True))


SERVICE = Service(
    operations=(
        Operation("/v1/search", search_texts, SearchResults, schema="multiway.search.results/1"),
        Operation("/v1/index", index_texts, Changed, schema="multiway.search.change/1"),
    ),
    routes=add_routes,
    prepare=served_index,
    close=lambda served: served.index.close(),
)
