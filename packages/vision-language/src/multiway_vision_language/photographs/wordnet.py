"""The table of words, made from WordNet's files: which classes of the detector and of the classifier a noun names.

    python -m multiway_vision_language.photographs.wordnet DICT CLASSES > words.tsv

``DICT`` is the folder of ``data.noun`` and ``index.noun`` (Debian's ``wordnet-base`` 3.0), ``CLASSES`` a file with
the WordNet numbers of ImageNet's classes in their order (``n01440764`` ...). Only making the table needs them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

from multiway_core.errors import InputError

# The synsets of COCO's classes, in the order of the detector's classes. What people call by the class is listed too.
ROOTS: tuple[tuple[str, ...], ...] = (
    ("person#1",), ("bicycle#1",), ("car#1",), ("motorcycle#1",), ("airplane#1",), ("bus#1",), ("train#1",),
    ("truck#1",), ("boat#1", "ship#1"), ("traffic_light#1",), ("fire_hydrant#1",), (), ("parking_meter#1",),
    ("bench#1",), ("bird#1",), ("cat#1",), ("dog#1",), ("horse#1",), ("sheep#1",), ("cattle#1",),
    ("elephant#1",), ("bear#1",), ("zebra#1",), ("giraffe#1",), ("backpack#1",), ("umbrella#1",),
    ("handbag#1",), ("tie#1",), ("suitcase#1", "baggage#1"), ("frisbee#1",), ("ski#1",), ("snowboard#1",),
    ("ball#1",), ("kite#3",), ("baseball_bat#1",), ("baseball_glove#1",), ("skateboard#1",), ("surfboard#1",),
    ("racket#4",), ("bottle#1",), ("wineglass#1", "goblet#1"), ("cup#1", "mug#4", "glass#2"), ("fork#1",),
    ("knife#1",), ("spoon#1",), ("bowl#1", "bowl#3"), ("banana#2",), ("apple#1",), ("sandwich#1",),
    ("orange#1",), ("broccoli#2",), ("carrot#1",), ("hot_dog#2", "hot_dog#3"), ("pizza#1",), ("doughnut#2",),
    ("cake#3",), ("chair#1",), ("sofa#1",), ("pot_plant#1", "houseplant#1"), ("bed#1",), ("table#2",),
    ("toilet#2",), ("television_receiver#1", "monitor#4"), ("laptop#1",), ("mouse#4",), ("remote_control#1",),
    ("computer_keyboard#1",), ("cellular_telephone#1",), ("microwave#2",), ("oven#1", "stove#1"),
    ("toaster#2",), ("sink#1",), ("refrigerator#1",), ("book#1", "book#2"), ("clock#1",), ("vase#1",),
    ("scissors#1",), ("teddy#1",), ("hand_blower#1",), ("toothbrush#1",),
)  # fmt: skip
# What people say and WordNet does not, or orders differently.
OTHER_NAMES = {
    0: "human, human being, people, pedestrian, man, woman, boy, girl, child, kid, baby, player, rider, driver, skier",
    1: "bike",
    2: "suv", 3: "motorbike", 4: "plane", 6: "locomotive", 9: "stop light", 11: "stop sign", 13: "bench",
    15: "kitten, kitty", 16: "labrador", 18: "lamb", 19: "cow, calf", 21: "bear", 24: "rucksack",
    25: "parasol, sunshade, sun umbrella", 26: "bag, purse", 27: "tie", 28: "luggage", 29: "flying disc",
    30: "skis", 32: "sports ball, ball",
    33: "kite", 34: "bat", 35: "glove", 38: "tennis racket, racket", 40: "wine glass", 41: "glass, cup",
    42: "fork", 43: "knife", 45: "bowl", 46: "banana", 47: "apple",
    49: "orange, tangerine, clementine, mandarin", 52: "hot dog", 54: "donut", 55: "cake", 57: "couch",
    58: "potted plant, plant", 60: "dining table, desk", 61: "toilet, lavatory, loo, wc", 62: "tv, television, screen",
    63: "computer, notebook computer", 64: "mouse, computer mouse", 65: "remote", 66: "keyboard",
    67: "cell phone, phone, smartphone, telephone", 68: "microwave", 72: "fridge", 73: "book",
    75: "flower vase", 77: "teddy bear, plush toy, stuffed animal", 78: "hair drier, hair dryer",
}  # fmt: skip
_TOO_WIDE = {
    "entity", "physical entity", "object", "physical object", "whole", "unit", "artifact", "artefact", "matter",
    "living thing", "animate thing", "organism", "being", "instrumentality", "instrumentation", "thing", "causal agent",
    "cause", "causal agency", "abstraction", "abstract entity", "solid", "substance", "substance#1", "nutriment",
    "natural object", "plant part", "plant structure", "chordate", "conveyance", "device", "relation", "group",
}  # fmt: skip
_SENSES = 6
_WIDEST = 420
_PERSON = 0
_NOT_SAID = ("stool", "can", "throne", "head", "bowl over")  # toilets, to WordNet


class Entry(NamedTuple):
    """What a noun names.

    ``kinds``: classes of the detector. ``classes``: of the classifier. ``mode``: empty: a kind says it all;
    ``narrower``: some of the classifier's classes of a kind; ``wider``: all of several; ``other``: of no kind.
    """

    kinds: list[int]
    classes: list[int]
    mode: str


class WordNet:
    """Nouns: synsets with what is above and below each, and the senses of words in order of frequency."""

    def __init__(self, folder: Path) -> None:
        self.words: dict[str, list[str]] = {}
        self.above: dict[str, list[str]] = {}
        self.senses: dict[str, list[str]] = {}
        try:
            for line in _lines(folder / "data.noun"):
                fields = line.partition("|")[0].split()
                count = int(fields[3], 16)
                self.words[fields[0]] = fields[4 : 4 + 2 * count : 2]
                pointers = fields[5 + 2 * count :]
                self.above[fields[0]] = [
                    pointers[at + 1] for at in range(0, len(pointers) - 3, 4) if pointers[at] == "@"
                ]
            for line in _lines(folder / "index.noun"):
                fields = line.split()
                self.senses[fields[0]] = fields[-int(fields[2]) :]
        except (OSError, ValueError, IndexError) as error:
            raise InputError(f"{folder}: not WordNet's files of nouns ({error})") from error

    def sense(self, name: str) -> str:
        """``word#2`` -> the synset of its second sense."""
        word, _, number = name.partition("#")
        return self.senses[word][int(number) - 1]

    @cache  # noqa: B019 - one object a run
    def ancestors(self, synset: str) -> frozenset[str]:
        """The synset and all above it."""
        return frozenset({synset}).union(*(self.ancestors(up) for up in self.above[synset]))


def table(net: WordNet, classes: list[str]) -> dict[str, Entry]:
    """All nouns that name a class of the detector (80), of the classifier (1,000), or several."""
    roots: dict[str, set[int]] = defaultdict(set)
    detector: dict[str, set[int]] = defaultdict(set)  # synset -> classes at or below it
    for number, names in enumerate(ROOTS):
        for name in names:
            roots[net.sense(name)].add(number)
            for up in net.ancestors(net.sense(name)):
                detector[up].add(number)
    classifier: dict[str, set[int]] = defaultdict(set)
    for number, synset in enumerate(classes):
        for up in net.ancestors(synset):
            classifier[up].add(number)
    found: dict[str, Entry] = {}
    for word, senses in net.senses.items():
        plain = word.replace("_", " ")
        if plain in _TOO_WIDE or not plain.replace(" ", "").replace("-", "").isalpha():
            continue
        for place, synset in enumerate(senses[:_SENSES]):
            if _TOO_WIDE & {name.replace("_", " ") for name in net.words[synset]}:
                continue
            above = {kind for up in net.ancestors(synset) for kind in roots.get(up, ())}
            own = classifier.get(synset, set())
            kinds = above or detector.get(synset, set())
            if not (kinds or own) or len(own) > _WIDEST or (kinds == {_PERSON} and place > 0):
                continue
            entry = Entry(sorted(kinds), sorted(own), "" if above else "wider" if kinds else "other")
            if above and synset not in roots and own:
                entry = entry._replace(mode="narrower")
            found.setdefault(plain, entry)
            if kinds != {_PERSON}:  # "tiger" is first of all a person to WordNet: things go before people
                found[plain] = entry
                break
    for word in _NOT_SAID:
        found.pop(word, None)
    for kind, words in OTHER_NAMES.items():
        below = {number for name in ROOTS[kind] for number in classifier.get(net.sense(name), ())}
        found |= dict.fromkeys(words.split(", "), Entry([kind], sorted(below), ""))
    return found


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("  ")]


def main(folder: str, classes: str) -> None:
    """Print the table."""
    synsets = [line.strip().removeprefix("n") for line in Path(classes).read_text().splitlines()]
    for word, entry in sorted(table(WordNet(Path(folder)), synsets).items()):
        print(word, _runs(entry.kinds), _runs(entry.classes), entry.mode, sep="\t")


def _runs(numbers: list[int]) -> str:
    """ "3 7-9": numbers with runs shortened."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


if __name__ == "__main__":
    main(*sys.argv[1:])
