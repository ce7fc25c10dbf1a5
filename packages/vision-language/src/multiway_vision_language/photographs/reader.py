"""What a photograph shows of a noun: how likely it is there, where all of them are, how many, in which colour."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

import torch
from numpy.typing import NDArray
from PIL import Image

from multiway_vision_language.kosmos2_small.backbones import CenterNet
from multiway_vision_language.photo_search.checkpoint import load_pretrained
from multiway_vision_language.photo_search.efficientnet import EfficientNetLite
from multiway_vision_language.photographs.classifier import Named, classify
from multiway_vision_language.photographs.colors import color_chances
from multiway_vision_language.photographs.detector import Detections, detect
from multiway_vision_language.photographs.words import COLORS, Noun, classes_of_kind
from multiway_vision_language.pictures import Picture
from multiway_vision_language.result import XYXY

CLASSIFIER = "bundled:photo-search-small"
CACHED_PICTURES = 32
# Score of the detector -> probability, by logistic regression on 208 photographs of train2017 (128 of COCO128, 80 of
# `zzowenzz/COCO_Tiny`). The bias of "present" is set so that a half is where 6 % of what is absent there is called
# present.
_PRESENT = (2.4, 4.9)
_RIGHT_BOX = (2.53, 2.83)
SHOWN = 0.3
"""Least confidence of a box that is given beside the best one."""
COUNTED, NAMED = 0.3, 0.65
"""Least confidence of a thing that is counted, and of one that is named in a caption."""
_CLASSIFIED = 0.25
"""Probability of the classifier's that counts as even."""


@dataclass(frozen=True)
class Place:
    """``xyxy`` in pixels of the opened picture; ``confidence`` that the box is right; ``kind`` of the detector."""

    xyxy: XYXY
    confidence: float
    kind: int | None = None


@dataclass(frozen=True)
class Found:
    """``present``: how likely the picture shows it; ``places``: best first, also unlikely ones."""

    present: float
    places: tuple[Place, ...] = ()

    @property
    def shown(self) -> tuple[Place, ...]:
        """The best place and all others that are likely."""
        return tuple(place for at, place in enumerate(self.places) if at == 0 or place.confidence >= SHOWN)


@dataclass
class Sight:
    """One picture with what was seen in it so far."""

    image: Image.Image
    detections: Detections
    named: Named | None = None
    colors: dict[XYXY, NDArray] = field(default_factory=dict)


class PhotoReader:
    """Finds nouns in photographs. ``names``: of the detector's classes.

    What was seen in the last ``CACHED_PICTURES`` pictures is kept, by content.
    """

    def __init__(
        self, network: CenterNet, names: tuple[str, ...], *, dtype: torch.dtype = torch.float32
    ) -> None:
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.names, self.dtype = names, dtype
        self._sights: OrderedDict[str, Sight] = OrderedDict()
        self._lock = threading.Lock()  # a demo's visitors come in threads

    @cached_property
    def classifier(self) -> EfficientNetLite:
        """Loaded when the first noun asks for it."""
        return load_pretrained(CLASSIFIER, device=self.network.class_scores.weight.device).classifier

    def see(self, picture: Picture) -> Sight:
        """The picture with its detections."""
        with self._lock:
            if picture.key in self._sights:
                self._sights.move_to_end(picture.key)
                return self._sights[picture.key]
        sight = Sight(picture.image, detect(self.network, picture.image, dtype=self.dtype))
        with self._lock:
            self._sights[picture.key] = sight
            while len(self._sights) > CACHED_PICTURES:
                self._sights.popitem(last=False)
        return sight

    def find(self, picture: Picture, noun: Noun) -> Found:
        """How likely the picture shows it, and where."""
        sight = self.see(picture)
        found = self._detected(sight, noun) if noun.kinds else Found(0.0)
        if noun.classes and noun.mode:
            other = self._classified(sight, noun)
            if other.present > found.present:
                found = other
        return self._colored(sight, found, noun.colors) if noun.colors else found

    def things(self, picture: Picture) -> list[Place]:
        """All that the picture surely shows, one name a place, best first."""
        sight = self.see(picture)
        things: list[Place] = []
        for row in range(len(sight.detections.scores_N)):
            place = _place(sight.detections, row)
            if place.confidence >= NAMED and all(_overlap(place.xyxy, other.xyxy) < 0.8 for other in things):
                things.append(place)
        return things

    def title(self, picture: Picture, classes: tuple[str, ...]) -> tuple[str, float]:
        """What the classifier calls the whole picture, and how likely."""
        named = self._named(self.see(picture))
        best = int(named.chances_BC[0].argmax())
        return classes[best], float(named.chances_BC[0, best])

    def color(self, picture: Picture, box: XYXY) -> tuple[str, float]:
        """The likeliest colour of what is in a box."""
        chances_K = self._colors(self.see(picture), box)
        best = int(chances_K.argmax())
        return COLORS[best], float(chances_K[best])

    def has_colors(self, picture: Picture, box: XYXY, colors: tuple[str, ...]) -> bool:
        """Whether what is in a box is of all these colours."""
        chances_K = self._colors(self.see(picture), box)
        return all(chances_K[COLORS.index(color)] >= 0.5 for color in colors)

    def _detected(self, sight: Sight, noun: Noun) -> Found:
        found = sight.detections
        rows = [row for row, kind in enumerate(found.kinds_N.tolist()) if kind in noun.kinds]
        if not rows:
            return Found(0.0)
        present = _logistic(float(found.scores_N[rows[0]]), _PRESENT)
        places = [_place(found, row) for row in rows]
        if noun.mode == "narrower":
            shares = self._shares(sight, noun, places)
            order = sorted(range(len(places)), key=lambda at: -places[at].confidence * shares[at])
            places = [
                Place(places[at].xyxy, places[at].confidence * shares[at], places[at].kind) for at in order
            ]
            present *= max(shares)
        if len(noun.kinds) > 1:
            kept: list[Place] = []
            for place in places:
                if all(_overlap(place.xyxy, other.xyxy) < 0.7 for other in kept):
                    kept.append(place)
            places = kept
        return Found(present, tuple(places))

    def _shares(self, sight: Sight, noun: Noun, places: list[Place]) -> list[float]:
        """Of every place, how much of its kind's probability in the classifier the noun's classes have."""
        named = self._named(sight)
        shares = []
        for place in places:
            nearest = max(range(len(named.boxes)), key=lambda row: _overlap(named.boxes[row], place.xyxy))
            chances_C = named.chances_BC[nearest]
            of_kind = classes_of_kind().get(place.kind or 0, ()) or noun.classes
            own = float(chances_C[list(noun.classes)].sum())
            whole = float(chances_C[list(of_kind)].sum())
            shares.append(min(1.0, 2 * own / max(whole, 0.2)))
        return shares

    def _classified(self, sight: Sight, noun: Noun) -> Found:
        chance, box = self._named(sight).best(noun.classes)
        present = chance / (chance + _CLASSIFIED)
        return Found(present, (Place(box, present),))

    def _named(self, sight: Sight) -> Named:
        if sight.named is None:
            sight.named = classify(self.classifier, sight.image, sight.detections, dtype=self.dtype)
        return sight.named

    def _colors(self, sight: Sight, box: XYXY) -> NDArray:
        if box not in sight.colors:
            sight.colors[box] = color_chances(sight.image, box)
        return sight.colors[box]

    def _colored(self, sight: Sight, found: Found, colors: tuple[str, ...]) -> Found:
        """What is of all colours that the phrase names."""
        places = []
        for place in found.places[:20]:
            chances_K = self._colors(sight, place.xyxy)
            chance = min(float(chances_K[COLORS.index(color)]) for color in colors)
            places.append(Place(place.xyxy, place.confidence * chance, place.kind))
        if not places:
            return found
        first = found.places[0].confidence or 1.0
        places.sort(key=lambda place: -place.confidence)
        return Found(found.present * min(1.0, places[0].confidence / first), tuple(places))


def _place(found: Detections, row: int) -> Place:
    left, top, right, bottom = found.boxes_N4[row].tolist()
    confidence = _logistic(float(found.scores_N[row]), _RIGHT_BOX)
    return Place((left, top, right, bottom), confidence, int(found.kinds_N[row]))


def _logistic(score: float, fitted: tuple[float, float]) -> float:
    score = min(max(score, 1e-4), 1 - 1e-4)
    return 1 / (1 + math.exp(-fitted[0] * math.log(score / (1 - score)) - fitted[1]))


def _overlap(a: XYXY, b: XYXY) -> float:
    """IoU."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return 0.0
    both = across * down
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
