"""What the demo does: collections by name, queries in, pictures out."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import MultiwayError

from multiway_search import photos, places
from multiway_search.app import APP, MULTILINGUAL
from multiway_search.collection import LANGUAGES, NOTES, PHOTOGRAPHS
from multiway_search.demo.picture import languages_page, picture_caption, results_page
from multiway_search.options import Only

if TYPE_CHECKING:
    from multiway_text.search.pipeline import SearchPipeline
    from multiway_text.search.store import Index
    from PIL import Image

SAMPLE, PICTURES, OWN = "Notes that come with the app", "Photographs that come with the app", "My last index"
MAX_ON_MAP = 2000
TEXTS, IN_GALLERY = 6, 12
"""Passages of an answer; passages and pictures of one from an index with pictures."""
GALLERY_SIDE = 480


class Shown(NamedTuple):
    """An answer: the passages as HTML, and pictures with captions for the gallery."""

    page: str
    pictures: list[tuple[Image.Image, str]]


class Session:
    """One model and its collections, for all visitors; the page's queue lets one work at a time."""

    def __init__(
        self, pipeline: SearchPipeline, collections: dict[str, Index], options: ModelOptions
    ) -> None:
        self.pipeline, self.collections, self.options = pipeline, collections, options
        self.why_no_pictures = photos.attach(pipeline, device=options.device)

    @classmethod
    def of(cls, model: str, device: str, dtype: str) -> Session:
        """With the app's notes, and the last index if it is of this model. Raises ModelNotFoundError."""
        options = ModelOptions(model, device, dtype)
        pipeline: Any = load_pipeline(APP, options)
        collections = {SAMPLE: temporary_index(pipeline, NOTES)}
        with suppress(MultiwayError):  # there is none, or one of another model
            collections[OWN] = pipeline.open(places.chosen(None))
        return cls(pipeline, collections, options)

    @property
    def names(self) -> list[str]:
        """Of the collections that a visitor can choose from."""
        own = [name for name in self.collections if name != SAMPLE]
        return [SAMPLE, *([] if self.why_no_pictures else [PICTURES]), *own]

    @cached_property
    def photographs(self) -> Index:
        """The app's photographs, indexed when they are first asked for."""
        return temporary_index(self.pipeline, *sorted(PHOTOGRAPHS.glob("*.jpg")))

    def search(self, query: str, mode: Any, collection: str, only: Only | None = None) -> Shown:
        """Passages with the map of the collection, and pictures; ``only``: conditions. Raises InputError."""
        is_notes = collection not in self.names or collection == SAMPLE
        index = self.collections[SAMPLE] if is_notes else self.collections.get(collection)
        index = self.photographs if index is None else index
        path = "*/en/*" if is_notes else None
        top = IN_GALLERY if index.meta().get("pictures") else TEXTS
        conditions = (only or Only()).conditions()
        found = self.pipeline.query(index, query, mode=mode, top=top, path=path, **conditions)
        pictures, rest = [], []
        for hit in found.hits:
            small = (
                photos.thumbnail(hit.passage.path, GALLERY_SIDE) if hit.passage.kind == "picture" else None
            )
            if small is None:  # a passage, or a picture whose file is gone by now
                rest.append(hit)
            else:
                pictures.append((small, picture_caption(hit)))
        paths, vectors_NE = self.pipeline.document_vectors(index)
        kept = [row for row, name in enumerate(paths) if path is None or "/en/" in name][:MAX_ON_MAP]
        query_E = self.pipeline.embed([found.query], prompt="query")[0]
        page = results_page(found, rest, [paths[row] for row in kept], vectors_NE[kept], query_E)
        return Shown(page, pictures)

    def languages(self, query: str) -> str:
        """The best passages in each language, side by side. Raises InputError."""
        pipeline, index = self.multilingual
        found = {
            name: pipeline.query(index, query, mode="dense", top=2, path=f"*/{code}/*")
            for code, name in LANGUAGES.items()
        }
        return languages_page(found, pipeline.name)

    @cached_property
    def multilingual(self) -> tuple[SearchPipeline, Index]:
        """A model of all `LANGUAGES` with the app's notes: the session's own unless it says that it knows fewer."""
        known = self.pipeline.languages
        if not known or LANGUAGES.keys() <= set(known):
            return self.pipeline, self.collections[SAMPLE]
        pipeline: Any = load_pipeline(APP, replace(self.options, model=MULTILINGUAL))
        return pipeline, temporary_index(pipeline, NOTES)


def temporary_index(pipeline: SearchPipeline, *paths: Path) -> Index:
    """An index of files and folders, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="multiway-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    index = pipeline.open(folder / "index", create=True)
    pipeline.update(index, paths)
    return index
