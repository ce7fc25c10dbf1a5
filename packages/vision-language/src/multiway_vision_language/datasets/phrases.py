"""Phrases from detection sets: "the X" for what a picture shows once, and for what it does not show."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from multiway_vision_language.datasets.samples import DetectionSample, GroundingSample, TruePhrase


def unambiguous(sample: DetectionSample) -> GroundingSample | None:
    """A phrase "the X" for every name that occurs exactly once in the picture; None where no name does.

    The phrases have no common sentence: the caption is empty and spans are their own.
    """
    counts = Counter(item.name for item in sample.objects)
    phrases = tuple(
        TruePhrase(text, (0, len(text)), (item.box,), (item.name,))
        for item in sample.objects
        if counts[item.name] == 1 and not item.crowd
        for text in (the(item.name),)
    )
    if not phrases:
        return None
    boxes = tuple(item.box for item in sample.objects if not item.crowd)
    return GroundingSample(sample.name, sample.image_path, sample.width, sample.height, "", phrases, boxes)


def absent(sample: DetectionSample, names: Sequence[str], count: int, *, seed: int = 0) -> list[str]:
    """Phrases "the X" for up to ``count`` different ``names`` that the picture does not show, by seed and picture.

    A name that is given more often is drawn more often: with the names of the phrases that are shown, a model learns
    nothing from the words alone. Honest only where the set marks every object of these names, as COCO's and VOC's do.
    """
    there = {item.name for item in sample.objects}
    others = [name for name in names if name not in there]
    random.Random(f"{seed}/{sample.name}").shuffle(others)
    return [the(name) for name in list(dict.fromkeys(others))[:count]]


def the(name: str) -> str:
    """A class name as a phrase."""
    return f"the {name}"
