"""What the demo does: collections by name, queries in, pictures out."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import MultiwayError

from multiway_search import places
from multiway_search.app import APP
from multiway_search.collection import LANGUAGES, NOTES
from multiway_search.demo.picture import languages_page, results_page

if TYPE_CHECKING:
    from multiway_text.search.pipeline import SearchPipeline
    from multiway_text.search.store import Index

SAMPLE, OWN = "Notes that come with the app", "My last index"
MAX_ON_MAP = 2000


class Session:
    """One model and its collections, for all visitors; the page's queue lets one work at a time."""

    def __init__(self, pipeline: SearchPipeline, collections: dict[str, Index]) -> None:
        self.pipeline, self.collections = pipeline, collections

    @classmethod
    def of(cls, model: str, device: str, dtype: str) -> Session:
        """With the app's notes, and the last index if it is of this model. Raises ModelNotFoundError."""
        pipeline: Any = load_pipeline(APP, ModelOptions(model, device, dtype))
        folder = Path(tempfile.mkdtemp(prefix="multiway-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        sample = pipeline.open(folder / "index", create=True)
        pipeline.update(sample, [NOTES])
        collections = {SAMPLE: sample}
        with suppress(MultiwayError):  # there is none, or one of another model
            collections[OWN] = pipeline.open(places.chosen(None))
        return cls(pipeline, collections)

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
        index = self.collections[SAMPLE]
        found = {
            name: self.pipeline.query(index, query, mode="dense", top=2, path=f"*/{code}/*")
            for code, name in LANGUAGES.items()
        }
        return languages_page(found)
