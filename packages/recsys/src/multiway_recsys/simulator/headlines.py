"""Headlines and abstracts about the topics of `lexicon.toml`, written from sentence patterns.

Every text says two to six things of its topic, sometimes one of a related topic, so that a reader (and a text encoder)
can tell the topic from the words, and neighbouring topics share some. Places, persons and organisations are invented.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

_PLACE_HEADS = [
    "Lar",
    "Hol",
    "Ast",
    "Bren",
    "Tor",
    "Wen",
    "Kes",
    "Mar",
    "Dun",
    "Fal",
    "Ost",
    "Rav",
    "Sel",
    "Thor",
    "Ull",
    "Var",
    "Hes",
    "Ing",
    "Nor",
    "Pel",
    "Quar",
    "Ries",
    "Sund",
    "Esk",
    "Cal",
    "Elm",
]
_PLACE_TAILS = [
    "now",
    "mere",
    "wick",
    "stad",
    "ford",
    "haven",
    "dale",
    "brook",
    "field",
    "holm",
    "ney",
    "burg",
    "ton",
    "ridge",
    "sea",
    "moor",
]
_FIRST_NAMES = [
    "Ada",
    "Bela",
    "Caro",
    "Dario",
    "Edda",
    "Felix",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kaja",
    "Lorin",
    "Mila",
    "Nils",
    "Orla",
    "Pavel",
    "Rosa",
    "Sven",
    "Thea",
    "Uri",
    "Vera",
    "Wim",
]
_LAST_NAMES = [
    "Abend",
    "Birk",
    "Corvin",
    "Dahl",
    "Erlund",
    "Fenn",
    "Gorse",
    "Hask",
    "Iven",
    "Jarl",
    "Kelm",
    "Lund",
    "Marrow",
    "Nist",
    "Orsay",
    "Pryce",
    "Quist",
    "Rolfe",
    "Strand",
    "Tarn",
]
_ORGANISATIONS = (
    "{place} Institute", "{place} Alliance", "{place} Group", "Friends of {place}", "{place} Union", "{place} Forum",
)  # fmt: skip

# {a} {b}: things of the topic; {r}: a thing of a related topic. No verb agrees with them in number.
_TITLES = (
    "{office} approved new rules on {a}",
    "{people} in {place} called for more money for {a}",
    "Why {a} divided {place}",
    "How {a} changed life for {people}",
    "{a} and {b}: what {people} should know",
    "{place} put {a} to the test",
    "After years of waiting, {place} got its {a}",
    "{people} warned about {a}",
    "The quiet return of {a}",
    "{office} dropped plans for {a}",
    "{number} questions about {a}, answered",
    "A day among {a} and {b} in {place}",
    "{people} fought over {a} near {place}",
    "From {a} to {b}: a season of change in {place}",
    "What {a} told {people} about {b}",
    "{office} to spend {number} million on {a}",
    "New study looked at {a} and {b}",
    "{name}, champion of {a}, on {b}",
    "{place} without {a}? {people} could hardly imagine it",
    "{a} drew {people} to {place}",
    "No end to trouble with {a}, said {people}",
    "Big plans for {a}, small budget for {b}",
    "{name} wanted fewer words and more {a}",
    "{people} shared their best advice on {a}",
    "Opinion: stop neglecting {a}",
    "Opinion: {a} deserved better than {b}",
    "{a} caused delays for {people} in {place}",
    "In pictures: {a} around {place}",
    "{office} opened an inquiry into {a}",
    "The hidden costs of {a}",
    "{a} sold out within hours in {place}",
    "Inside {place}'s long argument about {a}",
    "{people} celebrated a record year for {a}",
    "{place} replaced {a} with {b}",
    "Who should pay for {a}?",
    "{a}, {b} and one very long night in {place}",
    "Small town, big idea: {a} for {people}",
    "{name} turned {a} into a life's work",
    "{number} years on, {place} remembered its {a}",
    "First look at the new {a} of {place}",
)
_ENTITY_TITLES = (
    "{org} warned of problems with {a}",
    "{org} backed {a} in {place}",
    "{org} and {office} at odds over {a}",
    "{org} presented its report on {a} and {b}",
    "New head of {org} on {a} and {b}",
    "{org} offered help with {a}",
)
_RELATED_TITLES = (
    "What {a} had to do with {r}",
    "Between {a} and {r}: {people} looked for answers",
    "{place} linked {a} to {r}",
    "{a} first, {r} later, said {office}",
)
_OPENINGS = (
    "In {place}, {a} and {b} were the talk of the week.",
    "{people} said that {a} mattered more to them than {b}.",
    "A new report by {office} compared {a} with {b}.",
    "For {name}, it all began with {a}.",
    "Work on {a} was to start in {place} before the end of the year.",
    "There was no shortage of opinions on {a}.",
    "Until last year hardly anybody in {place} asked about {a}.",
    "The debate about {a} entered week {number}.",
)
_MIDDLES = (
    "{name} explained how {b} and {c} went together.",
    "Critics pointed to {c} and asked who would look after them.",
    "{office} promised a decision on {c} within weeks.",
    "{people} hoped for better {c}.",
    "Numbers from {place} showed a rise in {c}.",
    "Much depended on {c}, and on patience.",
    "Earlier attempts with {c} had failed.",
)
_RELATED = (
    "Some also mentioned {r}.",
    "The same question came up with {r}.",
    "Others would rather talk about {r}.",
)
_ENDINGS = (
    "A vote was expected in spring.",
    "The next meeting will be open to all.",
    "Nobody wanted to wait another year.",
    "It would not be the last word.",
    "",
    "",
)


@dataclass(frozen=True)
class Topic:
    """One of the lexicon's topics. ``related`` are rows of the lexicon's topics."""

    category: str
    name: str
    terms: tuple[str, ...]
    people: tuple[str, ...]
    office: str
    related: tuple[int, ...]
    organisation: str
    entity: str  # id in the form of WikiData's; far outside of what is given out there


@dataclass(frozen=True)
class Article:
    title: str
    abstract: str
    entities: tuple[str, ...]


@cache
def lexicon() -> tuple[Topic, ...]:
    """All topics, in the order of the file."""
    tables = tomllib.loads(resources.files(__package__).joinpath("lexicon.toml").read_text(encoding="utf-8"))
    rows = [
        (category, number, name)
        for category, table in tables.items()
        for number, name in enumerate(table["topics"])
    ]
    row_of = {(category, number): row for row, (category, number, _) in enumerate(rows)}
    topics = []
    for row, (category, number, name) in enumerate(rows):
        table = tables[category]
        place = _PLACE_HEADS[row % len(_PLACE_HEADS)] + _PLACE_TAILS[row * 7 % len(_PLACE_TAILS)]
        topics.append(
            Topic(
                category=category,
                name=name,
                terms=tuple(table["topics"][name]),
                people=tuple(table["people"]),
                office=table["office"],
                related=tuple(row_of[near, number % len(tables[near]["topics"])] for near in table["near"]),
                organisation=_ORGANISATIONS[row % len(_ORGANISATIONS)].format(place=place),
                entity=f"Q{900_000_000 + row}",
            )
        )
    return tuple(topics)


def write_article(topic: int, rng: np.random.Generator) -> Article:
    """One article about a topic (its row in :func:`lexicon`)."""
    topics = lexicon()
    about = topics[topic]
    terms = [about.terms[i] for i in rng.permutation(len(about.terms))[:3]]
    neighbour = topics[about.related[rng.integers(len(about.related))]]
    place = f"{_pick(rng, _PLACE_HEADS)}{_pick(rng, _PLACE_TAILS)}"
    words = {
        "a": terms[0],
        "b": terms[1],
        "c": terms[2],
        "r": _pick(rng, neighbour.terms),
        "people": _pick(rng, about.people),
        "office": f"the {place} {about.office}",
        "place": place,
        "name": f"{_pick(rng, _FIRST_NAMES)} {_pick(rng, _LAST_NAMES)}",
        "number": str(rng.integers(3, 40)),
        "org": about.organisation,
    }
    kind = rng.random()
    patterns = _ENTITY_TITLES if kind < 0.2 else _RELATED_TITLES if kind < 0.3 else _TITLES
    entities = (about.entity,) if kind < 0.2 else ()
    sentences = [_pick(rng, _OPENINGS), _pick(rng, _MIDDLES)]
    if rng.random() < 0.35:
        sentences.append(_pick(rng, _RELATED))
    sentences.append(_pick(rng, _ENDINGS))
    abstract = " ".join(_filled(sentence, words) for sentence in sentences if sentence)
    return Article(_filled(_pick(rng, patterns), words), abstract, entities)


def _pick(rng: np.random.Generator, items: tuple[str, ...] | list[str]) -> str:
    return items[rng.integers(len(items))]


def _filled(pattern: str, words: dict[str, str]) -> str:
    text = pattern.format(**words)
    return text[0].upper() + text[1:]
