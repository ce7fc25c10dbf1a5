"""Texts to titles in a language that is chosen: the one path of command, server, evaluation and Python users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
import torch
from multiway_core.errors import InputError

from multiway_text.s2s_ft import windows
from multiway_text.s2s_ft.pipeline import shared_title
from multiway_text.s2s_ft.result import Section, Title
from multiway_text.s2s_ft.windows import Span
from multiway_text.xnlg import checkpoint
from multiway_text.xnlg.checkpoint import Loaded
from multiway_text.xnlg.objective import Text
from multiway_text.xnlg.search import Search, generate

SEARCH = Search()


class XnlgPipeline:
    """A fine-tuned XNLG model at work."""

    def __init__(self, loaded: Loaded) -> None:
        self.model, self.tokenizer, self.vocabularies = loaded
        self.config = self.model.config

    @classmethod
    def from_pretrained(
        cls, name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> XnlgPipeline:
        """The pipeline of a folder that ``train`` wrote, or of one with a released file (see `checkpoint`).

        Raises ModelNotFoundError, ConfigError, CheckpointError.
        """
        return cls(checkpoint.load(name, dtype=dtype or torch.float32, device=device))

    def title(
        self,
        text: str,
        search: Search = SEARCH,
        *,
        language: str | None = None,
        source_language: str | None = None,
    ) -> Title:
        """A title in ``language``; see :meth:`titles`."""
        return self.titles([text], search, language=language, source_language=source_language)[0]

    def titles(
        self,
        texts: Sequence[str],
        search: Search = SEARCH,
        *,
        language: str | None = None,
        source_language: str | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Title]:
        """Titles in ``language`` of texts in ``source_language`` (None: the same), whose windows share batches.

        A long text gets a title for each window, and that whose words most of them share as its own. Only pieces of
        the language's vocabulary are written, where the model has one.
        Raises InputError for an empty text, and for no language or one that the model does not have.
        """
        if language is None:
            raise InputError(f"in which language? The model writes {', '.join(self.config.languages)}")
        code = self.config.language_id(source_language or language)
        parts = [self._windows(text, source_language or language) for text in texts]
        sources = [
            Text(np.array(self.tokenizer.encode(_plain(text, part)), np.int64), code)
            for text, of_text in zip(texts, parts, strict=True)
            for part in of_text
        ]
        written: list[tuple[str, float]] = []
        for start in range(0, len(sources), search.batch_size):
            found = generate(
                self.model,
                sources[start : start + search.batch_size],
                language,
                search,
                self.vocabularies.get(language),
            )
            written += [(self.tokenizer.decode(target.ids).strip(), target.score) for target in found]
            if on_progress is not None:
                on_progress(len(written), len(sources))
        results = iter(written)
        titles = []
        for of_text in parts:
            sections = tuple(Section(part.start, part.end, *next(results)) for part in of_text)
            titles.append(Title(shared_title(sections), sections))
        return titles

    def summarize(self, *arguments: object) -> NoReturn:
        """Raises InputError: an XNLG model writes titles alone."""
        raise InputError("this model writes titles alone; bundled:title-question also summarizes and asks")

    questions = ask = summarize

    def _windows(self, text: str, language: str) -> list[Span]:
        room, whole = self.config.max_source - 2, text.strip()
        if whole and self._count(whole) <= room:
            start = text.index(whole)
            return [Span(start, start + len(whole))]
        return windows.windows(text, windows.sentences(text, language), room, self._count)

    def _count(self, text: str) -> int:
        return len(self.tokenizer.encode(" ".join(text.split())))


def _plain(text: str, part: Span) -> str:
    return " ".join(text[part.start : part.end].split())
