"""Sentences about what a photograph shows, with the places of what they name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from multiway_vision_language.photographs.reader import Found, PhotoReader, Place
from multiway_vision_language.photographs.words import Noun, read_phrase
from multiway_vision_language.pictures import Picture
from multiway_vision_language.scenes.english import plural, with_article

_MOST_KINDS = 6
_MOST_PLACES = 12
_SURE_COLOR = 0.85
_SURE_TITLE = 0.5
_COLORLESS = frozenset({"person"})
_NUMBERS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
_HOW_MANY = re.compile(r"\s*how many ([a-z -]+?)(?: are| is| do| can|\?|$)", re.IGNORECASE)
_IS_THERE = re.compile(r"\s*(?:is|are) there (?:any |an? )?([a-z -]+?)(?: in | on |\?|$)", re.IGNORECASE)
_COLOR = re.compile(r"\s*what colou?r (?:is|are) (?:the |this |that )?([a-z -]+?)\s*\??\s*$", re.IGNORECASE)


class Said(NamedTuple):
    """A piece of a sentence; ``places``: what it names, if anything."""

    text: str
    places: tuple[Place, ...] = ()
    present: float = 1.0


def caption(reader: PhotoReader, picture: Picture, *, detailed: bool = False) -> list[Said] | None:
    """Names all kinds of things that are surely there, the largest first; None where nothing is sure."""
    groups: dict[str, list[Place]] = {}
    for place in reader.things(picture):
        groups.setdefault(reader.names[place.kind or 0], []).append(place)
    if not groups:
        return None
    ordered = sorted(groups.items(), key=lambda group: -sum(_area(place) for place in group[1]))
    named = [_named(reader, picture, name, places) for name, places in ordered[:_MOST_KINDS]]
    said = [Said("An image of "), *_listed(named), Said(".")]
    if detailed:
        for name, places in ordered[:_MOST_KINDS]:
            for place in places[:_MOST_PLACES]:
                thing = _named(reader, picture, name, [place])
                said += [Said(" There is "), thing, Said(f" {_where(picture, place)}.")]
    return said


def answer(reader: PhotoReader, picture: Picture, question: str) -> list[Said] | None:
    """The answer to "how many", "is there" and "what color" about a known noun; None for any other question."""
    for form, reply in ((_HOW_MANY, _count), (_IS_THERE, _is_there), (_COLOR, _color)):
        asked = form.match(question)
        noun = read_phrase(asked[1]) if asked else None
        if asked and noun is not None and not (noun.mode == "other" and reply is _count):
            return reply(reader, picture, noun, asked[1].strip())
    return None


def counted(found: Found) -> tuple[Place, ...]:
    """The places that count as things."""
    from multiway_vision_language.photographs.reader import COUNTED

    return tuple(place for place in found.places if place.confidence >= COUNTED)


def _count(reader: PhotoReader, picture: Picture, noun: Noun, words: str) -> list[Said]:
    places = counted(reader.find(picture, noun))
    count = len(places)
    shown = _NUMBERS[count] if 0 < count < len(_NUMBERS) else str(count)
    return [Said(f" {shown}", places)] if places else [Said(" 0")]


def _is_there(reader: PhotoReader, picture: Picture, noun: Noun, words: str) -> list[Said]:
    found = reader.find(picture, noun)
    if found.present < 0.5:
        return [Said(" no")]
    return [Said(" yes, "), Said(words, found.shown, found.present)]


def _color(reader: PhotoReader, picture: Picture, noun: Noun, words: str) -> list[Said] | None:
    found = reader.find(picture, noun)
    if found.present < 0.5 or not found.places:
        return [Said(f" there is no {words} that can be seen")]
    color, _ = reader.color(picture, found.places[0].xyxy)
    return [Said(f" {color}", found.places[:1], found.present)]


def _named(reader: PhotoReader, picture: Picture, name: str, places: Sequence[Place]) -> Said:
    color = ""
    if name not in _COLORLESS and len(places) == 1:
        said, chance = reader.color(picture, places[0].xyxy)
        color = f"{said} " if chance >= _SURE_COLOR else ""
    if len(places) == 1:
        text = with_article(f"{color}{name}")
    else:
        number = _NUMBERS[len(places)] if len(places) < len(_NUMBERS) else str(len(places))
        text = f"{number} {plural(name)}"
    return Said(text, tuple(places[:_MOST_PLACES]), max(place.confidence for place in places))


def _listed(things: Sequence[Said]) -> list[Said]:
    """ "a, b and c"."""
    said = [things[0]]
    for at, thing in enumerate(things[1:], 2):
        said += [Said(" and " if at == len(things) else ", "), thing]
    return said


def _where(picture: Picture, place: Place) -> str:
    x = (place.xyxy[0] + place.xyxy[2]) / 2 / picture.image.width
    y = (place.xyxy[1] + place.xyxy[3]) / 2 / picture.image.height
    across = "on the left" if x < 0.38 else "on the right" if x > 0.62 else "in the middle"
    down = " at the top" if y < 0.25 else " at the bottom" if y > 0.75 else ""
    return across + down


def _area(place: Place) -> float:
    left, top, right, bottom = place.xyxy
    return (right - left) * (bottom - top)
