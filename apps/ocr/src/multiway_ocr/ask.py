"""The ``ask`` command: one question about one page."""

from __future__ import annotations

from pathlib import Path

from multiway_core.errors import InputError

from multiway_ocr.reader import Reader, ReadOptions

CHAT_MODEL = "microsoft/kosmos-2.5-chat"


def answer(path: Path, question: str, options: ReadOptions, *, max_new_tokens: int) -> str:
    """The answer of ``options.model`` about page ``options.pages`` of ``path``.

    Raises:
        InputError: the question is empty, the file cannot be read, or the model is a bundled one: those read
            pages, and answering needs the published CHAT weights.
    """
    if not question.strip():
        raise InputError("the question is empty; ask something about the page")
    if options.model.startswith("bundled:"):
        raise InputError(
            f"{options.model} reads pages but does not answer questions; that needs KOSMOS-2.5-CHAT weights "
            f"(5.5 GB, fetched once): --model {CHAT_MODEL}, or a folder that holds them"
        )
    from multiway_document.pages import open_pages

    for source in open_pages(path, pages=options.pages):
        return Reader(options).pipeline().ask(source.image, question, max_new_tokens=max_new_tokens)
    raise InputError(f"{path}: there is no page {options.pages}")
