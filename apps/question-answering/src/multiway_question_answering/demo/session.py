"""What the demo does: texts and files in, an index of the latest kept, answers out."""

from __future__ import annotations

import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.errors import InputError

from multiway_question_answering.demo.picture import answers_page

if TYPE_CHECKING:
    from multiway_text.question_answering.pipeline import Collection, QuestionAnsweringPipeline

_KEPT = 8  # texts whose index is kept
MAX_CHARACTERS = 400_000


class Session:
    """One model for all visitors, and the indexes of the latest texts; the page's queue lets one work at a time."""

    def __init__(self, pipeline: QuestionAnsweringPipeline) -> None:
        self.pipeline = pipeline
        self._open: OrderedDict[str, tuple[Collection, ExitStack]] = OrderedDict()

    def ask(self, question: str, text: str, files: Sequence[str] | None) -> str:
        """The answers in the files, or without any in the text. Raises InputError."""
        self.pipeline.checked(question)
        if not files and not text.strip():
            raise InputError("paste a text, or drop a file")
        if not files and len(text) > MAX_CHARACTERS:
            raise InputError(
                f"the text has {len(text):,} characters, at most {MAX_CHARACTERS:,}; drop it as a file"
            )
        collection = self._collection(text, files)
        found = self.pipeline.ask(collection, question)
        failed = tuple(f"{Path(path).name}: {reason}" for path, reason in collection.failed)
        return answers_page(replace(found, notes=(*failed, *found.notes)), None if files else text)

    def is_known(self, text: str, files: Sequence[str] | None) -> bool:
        """Whether the index of these texts is there already."""
        return _key(text, files) in self._open

    def _collection(self, text: str, files: Sequence[str] | None) -> Collection:
        key = _key(text, files)
        if key not in self._open:
            stack = ExitStack()
            try:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="multiway-"))
                opening = (
                    self.pipeline.open(files, folder=Path(folder, "index"))
                    if files
                    else self.pipeline.texts({"text": text})
                )
                self._open[key] = stack.enter_context(opening), stack
            except BaseException:
                stack.close()
                raise
            if len(self._open) > _KEPT:
                self._open.popitem(last=False)[1][1].close()
        self._open.move_to_end(key)
        return self._open[key][0]


def _key(text: str, files: Sequence[str] | None) -> str:
    return hashlib.sha256("\n".join(files or ["", text]).encode("utf-8", "replace")).hexdigest()
