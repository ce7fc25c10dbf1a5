"""Helpers of all formats: boxes clipped to the picture, names of label files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from multiway_core.errors import InputError

from multiway_vision_language.result import XYXY, Box, Entity, Grounding

_ARTICLE = re.compile(r"(?:the|an?) +(?=\S)", re.IGNORECASE)
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")


def boxes_in(result: Grounding) -> Iterator[tuple[Entity, Box, XYXY]]:
    """Every box of a result with its entity, cut to the picture; a box without area inside it is left out."""
    for entity in result.entities:
        for box in entity.boxes:
            left, top, right, bottom = box.xyxy
            left, right = max(0.0, left), min(float(result.width), right)
            top, bottom = max(0.0, top), min(float(result.height), bottom)
            if left < right and top < bottom:
                yield entity, box, (left, top, right, bottom)


def merged(results: Sequence[Grounding]) -> list[Grounding]:
    """One result a source, with the entities of all results of it; their spans then have no common text.

    Raises InputError: results of one source disagree about its size.
    """
    by_source: dict[str, Grounding] = {}
    for result in results:
        first = by_source.get(result.source)
        if first is None:
            by_source[result.source] = result
            continue
        if (first.width, first.height) != (result.width, result.height):
            raise InputError(
                f"{result.source}: one result says {first.width} x {first.height} pixels, another "
                f"{result.width} x {result.height}; export results of one picture under one name"
            )
        by_source[result.source] = replace(first, entities=first.entities + result.entities)
    return list(by_source.values())


def category(phrase: str) -> str:
    """A phrase as the name of a class: "a dog" and "the dog" are both "dog"; else byte for byte."""
    return _ARTICLE.sub("", phrase, count=1) if _ARTICLE.match(phrase) else phrase


def categories_of(results: Sequence[Grounding]) -> dict[str, int]:
    """The classes of the phrases that have boxes, numbered from 0 in the order in which they first occur."""
    numbers: dict[str, int] = {}
    for result in results:
        for entity, _, _ in boxes_in(result):
            numbers.setdefault(category(entity.phrase), len(numbers))
    return numbers


def label_paths(results: Sequence[Grounding], suffix: str) -> list[PurePosixPath]:
    """One relative path a result: the source's, without the folders all sources share, and with ``suffix``.

    Raises InputError: two pictures would get the same label file (``cat.png`` beside ``cat.jpg``).
    """
    parts = [_safe_parts(result.source) for result in results]
    shared = 0
    while parts and all(len(names) > shared + 1 and names[shared] == parts[0][shared] for names in parts):
        shared += 1
    taken: dict[PurePosixPath, str] = {}
    for names, result in zip(parts, results, strict=True):
        relative = PurePosixPath(*names[shared:])
        path = relative.with_name((relative.stem or relative.name) + suffix)
        if path in taken:
            raise InputError(
                f"{result.source} and {taken[path]} would both get the label file {path}; "
                "export them apart, or rename one"
            )
        taken[path] = result.source
    return list(taken)


def is_url(source: str) -> bool:
    """Whether a source is an address rather than a path."""
    return bool(_URL.match(source))


def file_name(source: str) -> str:
    """A source as text that UTF-8 can hold."""
    return source.encode("utf-8", "replace").decode("utf-8")


def _safe_parts(source: str) -> list[str]:
    # No part may climb out of the folder, be hidden from a listing, or hold what file systems refuse.
    parts = [re.sub(r'[\x00-\x1f\x7f<>:"|?*\\]', "_", part) for part in file_name(source).split("/")]
    return [part for part in parts if part.strip(". ")] or ["picture"]
