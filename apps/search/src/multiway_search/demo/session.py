"""What the demo does: collections by name, queries in, pictures out."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import MultiwayError

from multiway_search import places
from multiway_search.app import APP, MULTILINGUAL
from multiway_search.collection import LANGUAGES, NOTES
from multiway_search.demo.picture import languages_page, results_page

if TYPE_CHECKING:
    from multiway_text.search.pipeline import SearchPipeline
    from multiway_text.search.store import Index

SAMPLE, OWN = "Notes that come with the app", "My last index"
MAX_ON_MAP = 2000


class Session:
    """One model and its collections, for all visitors; the page's queue lets one work at a time."""

    def __init__(
        self, pipeline: SearchPipeline, collections: dict[str, Index], options: ModelOptions
    ) -> None:
        self.pipeline, self.collections, self.options = pipeline, collections, options

    @classmethod
    def of(cls, model: str, device: str, dtype: str) -> Session:
        """With the app's notes, and the last index if it is of this model. Raises ModelNotFoundError."""
        options = ModelOptions(model, device, dtype)
        pipeline: Any = load_pipeline(APP, options)
        collections = {SAMPLE: notes_index(pipeline)}
        with suppress(MultiwayError):  # there is none, or one of another model
            collections[OWN] = pipeline.open(places.chosen(None))
        return cls(pipeline, collections, options)

    def search(self, query: str, mode: Any, collection: str) -> str:
        """Passages and the map of the collection. Raises InputError."""
        index = self.collections.get(collection, self.collections[SAMPLE])
        path = "*/en/*" if index is self.collections[SAMPLE] else None
        found = self.pipeline.query(index, query, mode=mode, top=6, path=path)
        paths, vectors_NE = self.pipeline.document_vectors(index)
        kept = [row for row, name in enumerate(paths) if path is None or "/en/" in name][:MAX_ON_MAP]
        query_E = self.pipeline.embed([found.query], prompt="query")[0]
        return results_page(found, [paths[row] for row in kept], vectors_NE[kept], query_E)

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
        return pipeline, notes_index(pipeline)


def notes_index(pipeline: SearchPipeline) -> Index:
    """The app's notes, in a folder that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="multiway-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    index = pipeline.open(folder / "index", create=True)
    pipeline.update(index, [NOTES])
    return index
