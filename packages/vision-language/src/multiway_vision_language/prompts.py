"""Prompts of a grounding model: the text behind the picture (arXiv 2306.14824, section 4 and table 9)."""

from __future__ import annotations

from dataclasses import dataclass

from multiway_core.errors import InputError

from multiway_vision_language.grounded_text import GROUNDING, Phrase, build, require_plain
from multiway_vision_language.locations import Cells

MAX_PHRASE = 400
"""Characters of a phrase; referring expressions have five words on average."""
MAX_QUESTION = 1000
MAX_PROMPT = 4000
"""Characters of a free prompt."""


@dataclass(frozen=True)
class Prompt:
    """``tagged`` stands behind the picture and is continued by the model.

    Attributes:
        opening: how much of ``tagged`` belongs to the result, from this character on; what is before only asks.
        max_new_tokens: where it is cut off if the model does not end it.
    """

    tagged: str
    opening: int = 0
    max_new_tokens: int = 64


def caption(*, detailed: bool = False, grounded: bool = True) -> Prompt:
    """A caption, brief or detailed, with the places of what it names or without.

    The opening words of a brief one belong to the caption; those of a detailed one are a request.
    """
    start = GROUNDING if grounded else ""
    if detailed:
        text = f"{start}Describe this image in detail:"
        return Prompt(text, opening=len(text), max_new_tokens=256)
    return Prompt(f"{start}An image of", max_new_tokens=96)


def locate_phrase(phrase: str, before: str = "") -> Prompt:
    """Where the phrase is; ``before`` is its sentence up to it, if it comes from one.

    Raises InputError: it is empty, longer than ``MAX_PHRASE``, or holds a ``<``, which begins a tag.
    """
    _require_words(phrase, "phrase", MAX_PHRASE)
    if before:
        _require_words(before, "text before the phrase", MAX_PROMPT)
    parts: list[str | Phrase] = [before, Phrase(phrase)]
    return Prompt(GROUNDING + build(parts), max_new_tokens=32)


def describe_box(cells: Cells) -> Prompt:
    """What lies between two cells of the location grid."""
    return Prompt(GROUNDING + build([Phrase("It", (cells,)), " is"]))


def answer_question(question: str, *, grounded: bool = True) -> Prompt:
    """An answer to a question about the picture. Raises InputError as :func:`locate_phrase` does."""
    _require_words(question, "question", MAX_QUESTION)
    text = f"{GROUNDING if grounded else ''}Question: {question} Answer:"
    return Prompt(text, opening=len(text))


def free(tagged: str) -> Prompt:
    """Any text with tags, continued as it is. Raises InputError: it is empty or longer than ``MAX_PROMPT``."""
    _require_text(tagged, "prompt", MAX_PROMPT)
    return Prompt(tagged, max_new_tokens=128)


def _require_words(text: str, what: str, limit: int) -> None:
    _require_text(text, what, limit)
    require_plain(text, what)


def _require_text(text: str, what: str, limit: int) -> None:
    if not text.strip():
        raise InputError(f"the {what} is empty; give some words")
    if len(text) > limit:
        raise InputError(
            f"the {what} has {len(text):,} characters, at most {limit:,} are read: {text[:40]!r} ..."
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # bytes of a command line that are no UTF-8
        raise InputError(f"the {what} {text[:40]!r} is no valid Unicode text") from None
