"""Pictures among texts: what a picture encoder gives, what can be asked of documents, and scores of both kinds.

The encoder comes from another package (`multiway-vision-language`); its vectors lie in the space of this index's texts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import asin, cos, radians, sin, sqrt
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

Kind = Literal["text", "picture"]
PICTURE: Kind = "picture"
TEXT_UNRELATED, TEXT_RELATED = 0.05, 0.31
"""Mean cosines of the search app's questions with the other notes, and with the note that answers (MiniLM)."""
EARTH_KM, NEARBY_KM = 6371.0, 10.0
_DAY = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")


class PictureFacts(Protocol):
    """Day (``YYYY-MM-DD``) and place, degrees north and east, where they are known."""

    @property
    def taken(self) -> str | None: ...
    @property
    def latitude(self) -> float | None: ...
    @property
    def longitude(self) -> float | None: ...


class EncodedPicture(Protocol):
    """A vector (width,) of length 1, names of what is seen, and facts."""

    @property
    def vector_E(self) -> NDArray[np.float32]: ...
    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def facts(self) -> PictureFacts: ...


class PictureEncoder(Protocol):
    """Makes vectors of picture files.

    ``text_encoder``: the model whose texts they can be compared with; ``unrelated`` and ``related``: mean cosines of a
    text and a picture that it is not about, and is about; ``suffixes``: of files, with the dot.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def text_encoder(self) -> str: ...
    @property
    def unrelated(self) -> float: ...
    @property
    def related(self) -> float: ...
    @property
    def suffixes(self) -> Collection[str]: ...
    def read(self, path: str | Path) -> EncodedPicture:
        """Raises InputError: it cannot be read."""


@dataclass(frozen=True)
class Scope:
    """Which documents are looked through: all conditions that are given hold.

    Attributes:
        path: a glob of whole paths.
        since, until: days of pictures, ``YYYY-MM-DD`` or a year or month; both ends belong to it.
        near: (latitude, longitude, kilometres) of pictures.
    """

    path: str | None = None
    kind: Kind | None = None
    since: str | None = None
    until: str | None = None
    near: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        for name, day in (("since", self.since), ("until", self.until)):
            if day is not None and not _DAY.fullmatch(day):
                raise InputError(f"{name}: {day!r} is no day; write 2024, 2024-05 or 2024-05-31")
        if self.near is not None:
            latitude, longitude, distance = self.near
            if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 < distance < 50_000):
                raise InputError(f"near: {self.near} is no latitude, longitude and distance in km")

    def __bool__(self) -> bool:
        return self != EVERYWHERE

    def condition(self) -> tuple[str, list[Any]]:
        """SQL about documents ``d`` and their pictures ``p``, with its values."""
        parts = ["d.whole"]
        values: list[Any] = []
        for text, value in (
            ("d.path GLOB ?", self.path),
            ("d.kind = ?", self.kind),
            ("p.taken >= ?", self.since),
            ("p.taken <= ?", None if self.until is None else self.until + "~"),  # behind all days of a month
        ):
            if value is not None:
                parts.append(text)
                values.append(value)
        if self.near is not None:
            parts.append("distance_km(p.latitude, p.longitude, ?, ?) <= ?")
            values += self.near
        return " AND ".join(parts), values


EVERYWHERE = Scope()


def picture_text(path: str, tags: Collection[str]) -> str:
    """The words by which a picture is found: what is seen, and its file's name."""
    return f"{', '.join(tags)}\n{Path(path).stem}" if tags else Path(path).stem


def picture_place(facts: PictureFacts) -> str:
    """Day and place in a line."""
    where = "" if facts.latitude is None else f"{facts.latitude:.4f}, {facts.longitude:.4f}"
    return "; ".join(filter(None, [facts.taken, where]))


def as_text_cosine(cosine: float, unrelated: float, related: float) -> float:
    """The cosine that a text would have which is as near as a picture of this one."""
    return TEXT_UNRELATED + (cosine - unrelated) * (TEXT_RELATED - TEXT_UNRELATED) / (related - unrelated)


def circle(numbers: Sequence[float]) -> tuple[float, float, float]:
    """(latitude, longitude, kilometres) of the two or three numbers a user writes. Raises ValueError: of others."""
    latitude, longitude, *rest = numbers
    (distance,) = rest or [NEARBY_KM]
    return latitude, longitude, distance


def distance_km(latitude: float | None, longitude: float | None, north: float, east: float) -> float | None:
    """Along the earth's surface; None where a place is not known."""
    if latitude is None or longitude is None:
        return None
    one, other = radians(latitude), radians(north)
    half = sin((other - one) / 2) ** 2 + cos(one) * cos(other) * sin(radians(east - longitude) / 2) ** 2
    return 2 * EARTH_KM * asin(min(1.0, sqrt(half)))
