"""Noun chunks of captions, and the referring expressions that they grow into (arXiv 2306.14824, section 2).

The parse is spaCy's (extra ``grit``), with any of its models that has a tagger and a parser.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from multiway_core.errors import InputError

from multiway_vision_language.grit.abstract_nouns import ABSTRACT_NOUNS

if TYPE_CHECKING:
    from spacy.language import Language

NEEDED = ("tagger", "parser")


class Span(NamedTuple):
    """Characters of a caption, end exclusive."""

    start: int
    end: int

    def contains(self, other: Span) -> bool:
        """Whether the other span lies inside this one; an equal one does not count."""
        return self != other and self.start <= other.start and other.end <= self.end


class Chunk(NamedTuple):
    """A noun chunk and the expression it grows into; the two are equal where it does not grow."""

    chunk: Span
    expression: Span


def load_language(name: str) -> Language:
    """A spaCy model by package name or folder.

    Raises InputError: spaCy or the model is not installed, or it does not parse.
    """
    try:
        import spacy
    except ImportError as error:
        raise InputError("GrIT needs spaCy: pip install 'multiway-vision-language[grit]'") from error
    try:
        language = spacy.load(name)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no spaCy model {name!r}; give an installed one with a parser, such as en_core_web_sm"
        ) from error
    missing = [pipe for pipe in NEEDED if not language.has_pipe(pipe)]
    if missing:
        raise InputError(f"the spaCy model {name!r} has no {' and no '.join(missing)}")
    return language


def noun_chunks(doc: Any, *, abstract: Collection[str] = ABSTRACT_NOUNS) -> list[Chunk]:
    """The noun chunks of a parsed caption, in order, with their expressions.

    Chunks are left out whose head is a pronoun or among the ``abstract`` lemmas. A chunk grows by everything below
    its head in the dependency tree that is one run of words with it; not if the head is conjoined with another
    ("two men and a woman on a bench"), where the run would take in the other.
    """
    chunks = []
    for chunk in doc.noun_chunks:
        head = chunk.root
        if head.pos_ not in ("NOUN", "PROPN") or {head.lemma_.lower(), head.lower_} & set(abstract):
            continue
        span = Span(chunk.start_char, chunk.end_char)
        chunks.append(Chunk(span, span if head.conjuncts else _expression(doc, chunk)))
    return chunks


def outermost(spans: Iterable[Span]) -> list[Span]:
    """The spans that lie in no other, in order and each once."""
    unique = sorted(set(spans))
    return [span for span in unique if not any(other.contains(span) for other in unique)]


def _expression(doc: Any, chunk: Any) -> Span:
    below = {token.i for token in chunk.root.subtree} | set(range(chunk.start, chunk.end))
    first, last = chunk.start, chunk.end - 1
    while first - 1 in below:
        first -= 1
    while last + 1 in below:
        last += 1
    while first < chunk.start and (doc[first].is_punct or doc[first].is_space):
        first += 1
    while last >= chunk.end and (doc[last].is_punct or doc[last].is_space):
        last -= 1
    return Span(doc[first].idx, doc[last].idx + len(doc[last]))
