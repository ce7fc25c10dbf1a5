"""Samples of all data sets in one form: pictures with phrases, objects, captions or questions.

Boxes are (left, top, right, bottom) in pixels of the picture, right and bottom outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multiway_vision_language.result import XYXY


@dataclass(frozen=True)
class TruePhrase:
    """A phrase and where it is: ``span`` are its characters in the caption, ``boxes`` one or more true places."""

    text: str
    span: tuple[int, int]
    boxes: tuple[XYXY, ...]
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class GroundingSample:
    """A picture with phrases to find; ``objects`` are boxes of all things known in it, for baselines."""

    name: str
    image_path: Path
    width: int
    height: int
    caption: str
    phrases: tuple[TruePhrase, ...]
    objects: tuple[XYXY, ...] = ()


@dataclass(frozen=True)
class NamedObject:
    """One object of a detection set; ``crowd``: the box holds several that were not told apart."""

    name: str
    box: XYXY
    crowd: bool = False


@dataclass(frozen=True)
class DetectionSample:
    """A picture with all objects of the set's classes."""

    name: str
    image_path: Path
    width: int
    height: int
    objects: tuple[NamedObject, ...]


@dataclass(frozen=True)
class CaptionSample:
    """A picture with what people wrote about it."""

    name: str
    image_path: Path
    captions: tuple[str, ...]


@dataclass(frozen=True)
class QuestionSample:
    """A question about a picture, and people's answers (ten in VQA)."""

    name: str
    image_path: Path
    question: str
    answers: tuple[str, ...]
    answer_type: str
