"""Grounded text: words with places, as the tags of Kosmos-2 spell them (arXiv 2306.14824, section 2).

    <phrase> a snowman</phrase><object><patch_index_0044><patch_index_0863></object> warming himself

An object holds pairs of cells, upper left and lower right, separated by ``</delimiter_of_multi_objects/>``. (The paper
writes ``<p>``, ``<box>``, ``<delim>`` and ``<loc44>``; these are the names of the published vocabulary.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from multiway_core.errors import InputError

from multiway_vision_language.locations import Cells, LocationGrid, NormalBox

PHRASE, PHRASE_END = "<phrase>", "</phrase>"
OBJECT, OBJECT_END = "<object>", "</object>"
DELIMITER = "</delimiter_of_multi_objects/>"
GROUNDING = "<grounding>"
IMAGE, IMAGE_END = "<image>", "</image>"
DOCUMENT_END, CHUNK_END, LINE_END = "</doc>", "</chunk>", "</line>"
TAGS = (
    DOCUMENT_END, IMAGE, IMAGE_END, CHUNK_END, LINE_END, PHRASE, PHRASE_END, OBJECT, OBJECT_END, DELIMITER, GROUNDING,
)  # fmt: skip
"""All tags in the order of their ids."""
_SILENT = {"<s>", "</s>", "<pad>", "<unk>", DOCUMENT_END, IMAGE, IMAGE_END, CHUNK_END, LINE_END, GROUNDING}

_LOCATION = r"<patch_index_\d+>"
_ENTITY = re.compile(
    rf"(?:<phrase>(?P<phrase>[^<]+)</phrase>)?"
    rf"<object>(?P<boxes>(?:{_LOCATION}{_LOCATION}{DELIMITER})*{_LOCATION}{_LOCATION})</object>"
)
_NUMBER = re.compile(r"<patch_index_(\d+)>")
_PHRASE = re.compile(r"<phrase>.+?</phrase>", re.DOTALL)
# What is wrong with tags that belong to no entity, longest form first.
_LEFTOVER = re.compile(
    rf"<phrase>(?P<unplaced>[^<]*)</phrase>"
    rf"|<object>(?P<locations>(?:{_LOCATION}|{DELIMITER})*)</object>"
    rf"|(?P<tag></?phrase>|</?object>|{DELIMITER}|{_LOCATION})"
)
_LONE = {
    PHRASE: "<phrase> is not closed by </phrase> before the next tag",
    PHRASE_END: "</phrase> without <phrase>",
    OBJECT: "<object> is not followed by locations and </object>",
    OBJECT_END: "</object> without <object>",
    DELIMITER: f"{DELIMITER} outside <object>",
}


def location_tag(cell: int) -> str:
    """The tag of a cell, such as ``<patch_index_0044>``."""
    return f"<patch_index_{cell:04d}>"


@dataclass(frozen=True)
class Phrase:
    """Words with their boxes, for :func:`build`."""

    text: str
    boxes: tuple[Cells, ...] = ()


def build(parts: Sequence[str | Phrase]) -> str:
    """Tagged text of plain text and phrases in order. Raises :class:`InputError` for text that spells tags."""
    written = []
    for part in parts:
        if isinstance(part, str):
            written.append(require_plain(part, "text"))
        else:
            written.append(
                f"{PHRASE}{require_plain(part.text, 'phrase')}{PHRASE_END}{object_tags(part.boxes)}"
            )
    return "".join(written)


def object_tags(boxes: Sequence[Cells]) -> str:
    """``<object>`` with its boxes; nothing for no box."""
    if not boxes:
        return ""
    return OBJECT + DELIMITER.join("".join(map(location_tag, cells)) for cells in boxes) + OBJECT_END


def insert_boxes(text: str, boxes: Sequence[Sequence[Cells] | None]) -> str:
    """Put boxes behind the phrases of tagged text, one entry a phrase in order; None or nothing for no box.

    Raises :class:`InputError` when there are not as many entries as phrases.
    """
    phrases = list(_PHRASE.finditer(text))
    if len(phrases) != len(boxes):
        raise InputError(f"the text has {len(phrases)} phrases, but boxes are given for {len(boxes)}")
    parts, place = [], 0
    for match, own in zip(phrases, boxes, strict=True):
        parts.append(text[place : match.end()] + object_tags(own or ()))
        place = match.end()
    return "".join([*parts, text[place:]])


def require_plain(text: str, what: str) -> str:
    """The text, if it has no ``<``, which would begin a tag. Raises :class:`InputError`."""
    place = text.find("<")
    if place >= 0:
        raise InputError(
            f"the {what} has a '<' at character {place + 1}, which begins a tag in this model's language; leave it out"
        )
    return text


@dataclass(frozen=True)
class GroundedEntity:
    """A phrase with its place in the clean text (characters, end exclusive) and its boxes.

    ``locations`` numbers, for each box, its first location tag among all of the text. An object without a phrase
    has a name of its two tags and an empty span.
    """

    phrase: str
    span: tuple[int, int]
    cells: tuple[Cells, ...]
    boxes: tuple[NormalBox, ...]
    locations: tuple[int, ...]


@dataclass(frozen=True)
class GroundedText:
    """What :func:`parse` finds: text without tags, entities in order, and what was malformed, in words."""

    text: str
    entities: tuple[GroundedEntity, ...]
    problems: tuple[str, ...] = ()


def parse(tagged: str, grid: LocationGrid = LocationGrid()) -> GroundedText:  # noqa: B008  (frozen)
    """Read a model's output. Nothing raises: what cannot be read is left out and told in ``problems``.

    Well-formed text gives exactly what the published post-processing gives. Where that would give boxes outside the
    picture or upside down, locations outside the grid are left out, and corners in the wrong order are exchanged.
    """
    clean, places = _without_tags(tagged)
    leading = len(clean) - len(clean.lstrip())
    entities: list[GroundedEntity] = []
    problems: list[tuple[int, str]] = []
    rest_start, rest = 0, []
    locations_before = _Counter(tagged)
    for match in _ENTITY.finditer(tagged):
        rest.append((rest_start, match.start()))
        rest_start = match.end()
        first = locations_before(match.start("boxes"))
        numbers = [int(number) for number in _NUMBER.findall(match["boxes"])]
        cells, locations = [], []
        for pair in range(0, len(numbers), 2):
            box = (numbers[pair], numbers[pair + 1])
            if max(box) >= grid.num_cells:
                problems.append(
                    (match.start("boxes"), f"location {max(box)} is outside the grid of {grid.num_cells}")
                )
                continue
            if not grid.in_order(box):
                problems.append((match.start("boxes"), f"the corners {box} of a box are in the wrong order"))
                box = grid.ordered(box)
            cells.append(box)
            locations.append(first + pair)
        phrase = match["phrase"]
        if phrase is None:
            start = places(match.start()) - leading
            for box, number in zip(cells, locations, strict=True):
                name = f"<patch_index_{box[0]}><patch_index_{box[1]}>"
                entities.append(GroundedEntity(name, (start, start), (box,), (grid.decode(box),), (number,)))
            continue
        name = phrase.strip()
        if not name:
            problems.append((match.start(), "a phrase is empty"))
        elif cells:
            start = places(match.start("phrase")) - leading + len(phrase) - len(phrase.lstrip())
            boxes = tuple(grid.decode(box) for box in cells)
            span = (start, start + len(name))
            entities.append(GroundedEntity(name, span, tuple(cells), boxes, tuple(locations)))
    rest.append((rest_start, len(tagged)))
    for start, end in rest:
        problems += _problems_in(tagged, start, end)
    return GroundedText(clean.strip(), tuple(entities), tuple(text for _, text in sorted(problems)))


def clean(tagged: str) -> str:
    """The text without tags (everything from a ``<`` to the next ``>``) and without spaces around it."""
    return _without_tags(tagged)[0].strip()


class _Counter:
    """How many location tags stand before a character; asked with places in order."""

    def __init__(self, tagged: str) -> None:
        self.starts = [match.start() for match in _NUMBER.finditer(tagged)]
        self.count = 0

    def __call__(self, place: int) -> int:
        while self.count < len(self.starts) and self.starts[self.count] < place:
            self.count += 1
        return self.count


class _Places:
    """Where a character of the tagged text stands in the clean one; asked with places in order."""

    def __init__(self, removed: Sequence[tuple[int, int]]) -> None:
        self.removed = removed
        self.next = self.shift = 0

    def __call__(self, place: int) -> int:
        while self.next < len(self.removed) and self.removed[self.next][1] <= place:
            start, end = self.removed[self.next]
            self.shift += end - start
            self.next += 1
        return place - self.shift


def _without_tags(tagged: str) -> tuple[str, _Places]:
    """Text without everything between ``<`` and the next ``>`` of the same line, and where its characters are."""
    kept: list[str] = []
    removed: list[tuple[int, int]] = []
    done = search = 0
    close = line_end = -1
    while (start := tagged.find("<", search)) >= 0:
        if close < start:
            close = tagged.find(">", start)
            if close < 0:
                break
        if line_end < start:
            line_end = tagged.find("\n", start)
            if line_end < 0:
                line_end = len(tagged)
        if line_end < close:
            search = start + 1
            continue
        kept.append(tagged[done:start])
        removed.append((start, close + 1))
        done = search = close + 1
    kept.append(tagged[done:])
    return "".join(kept), _Places(removed)


def _problems_in(tagged: str, start: int, end: int) -> list[tuple[int, str]]:
    """What is wrong in a stretch without entities: (place, words)."""
    problems: list[tuple[int, str]] = []
    for match in _LEFTOVER.finditer(tagged, start, end):
        if match["unplaced"] is not None:
            name = match["unplaced"].strip()
            problem = f"the phrase {_shown(name)} has no box" if name else "a phrase is empty"
        elif match["locations"] is not None:
            count = len(_NUMBER.findall(match["locations"]))
            problem = f"the locations of an object ({count}) are not whole boxes"
        else:
            tag = match["tag"]
            problem = _LONE.get(tag) or f"{tag} outside <object>"
        problems.append((match.start(), problem))
    known = re.compile(rf"</?phrase>|</?object>|{DELIMITER}|{_LOCATION}")
    for match in re.compile(r"<[^<>\n]*>").finditer(tagged, start, end):
        tag = match[0]
        if tag not in _SILENT and not known.fullmatch(tag):
            problems.append((match.start(), f"{_shown(tag)} looks like a tag and was left out"))
    return problems


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
