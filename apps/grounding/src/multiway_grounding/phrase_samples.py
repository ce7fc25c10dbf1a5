"""Samples of phrase grounding, one phrase each, from data sets and from generated scenes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiway_vision_language.datasets import DetectionSample, GroundingSample
    from multiway_vision_language.result import XYXY
    from multiway_vision_language.scenes.scene import Scene
    from PIL import Image

ABSENT = "not in the picture"


@dataclass(frozen=True)
class PhraseSample:
    """A phrase to look for in a picture, and its true boxes in pixels; none: the picture does not show it.

    ``before``: the sentence up to the phrase. ``objects``: all known boxes, for the blind baselines. ``labels``: the
    groups it is also reported in.
    """

    name: str
    picture: Path | Image.Image
    width: int
    height: int
    phrase: str
    truths: tuple[XYXY, ...]
    objects: tuple[XYXY, ...] = ()
    labels: tuple[str, ...] = ()
    before: str = ""


def from_sentences(samples: Iterable[GroundingSample]) -> Iterator[PhraseSample]:
    """Every phrase of every caption, with the caption up to it, as Kosmos-2 is asked on Flickr30k Entities."""
    for sample in samples:
        for number, phrase in enumerate(sample.phrases):
            yield PhraseSample(
                f"{sample.name}/{number}",
                sample.image_path,
                sample.width,
                sample.height,
                phrase.text,
                phrase.boxes,
                sample.objects,
                phrase.categories,
                sample.caption[: phrase.span[0]],
            )


def from_expressions(samples: Iterable[GroundingSample]) -> Iterator[PhraseSample]:
    """Every phrase of every picture, on its own."""
    for sample in samples:
        for number, phrase in enumerate(sample.phrases):
            yield PhraseSample(
                f"{sample.name}/{number}",
                sample.image_path,
                sample.width,
                sample.height,
                phrase.text,
                phrase.boxes,
                sample.objects,
            )


def from_photographs(samples: Sequence[DetectionSample], seed: int) -> Iterator[PhraseSample]:
    """ "The X" for all that a photograph shows once, and as many phrases of what it does not show.

    Both kinds name things about equally often, so that the words alone do not tell them apart.
    """
    from multiway_vision_language.datasets import absent, unambiguous

    shown = [(sample, found) for sample in samples if (found := unambiguous(sample)) is not None]
    names = [phrase.categories[0] for _, found in shown for phrase in found.phrases]
    for sample, found in shown:
        yield from from_expressions([found])
        for number, phrase in enumerate(absent(sample, names, len(found.phrases), seed=seed)):
            yield _absent(
                f"{sample.name}/absent {number}", sample.image_path, sample.width, sample.height, phrase
            )


def from_scenes(
    scenes: Iterable[Scene], names: Sequence[str], seed: int, label: str = ""
) -> Iterator[PhraseSample]:
    """The expressions of generated scenes by kind, and as many phrases of ``names`` that a scene does not show."""
    from multiway_vision_language.scenes.phrases import absent_phrases, plain_expressions, relations
    from PIL import Image

    for place, scene in enumerate(scenes):
        rng = random.Random(f"{seed}/{label}/{place}")
        image = Image.fromarray(scene.picture)
        objects = tuple(_pixels(thing.box, image) for thing in scene.things)
        expressions = [*plain_expressions(scene, rng), *relations(scene, rng)]
        prefix = f"{label}, " if label else ""
        for number, found in enumerate(expressions):
            yield PhraseSample(
                f"{prefix}scene {place}/{number}",
                image,
                image.width,
                image.height,
                found.phrase,
                tuple(_pixels(box, image) for box in found.boxes),
                objects,
                (f"{prefix}{found.kind}",),
            )
        for number, phrase in enumerate(absent_phrases(scene, names, len(expressions), rng)):
            yield _absent(f"{prefix}scene {place}/absent {number}", image, image.width, image.height, phrase)


def _absent(name: str, picture: Path | Image.Image, width: int, height: int, phrase: str) -> PhraseSample:
    return PhraseSample(name, picture, width, height, phrase, (), labels=(ABSENT,))


def _pixels(box: tuple[float, float, float, float], image: Image.Image) -> XYXY:
    left, top, right, bottom = box
    return left * image.width, top * image.height, right * image.width, bottom * image.height
