"""What Kosmos-1 learns from in its small run: drawings, albums of their features, documents and matrices."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import matplotlib
import numpy as np
import torch
from multiway_vision_language.kosmos1 import processor as formats
from multiway_vision_language.kosmos1 import raven
from multiway_vision_language.kosmos1.model import Kosmos1
from multiway_vision_language.kosmos1.processor import Kosmos1Processor
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.vision_language.small_world import (
    COLOURS,
    LABELS,
    SHAPES,
    SIDE,
    Scene,
    Words,
    draw,
    held_out,
    random_scene,
)

IGNORED = -100  # a property that a drawing has not, a place where nothing is predicted
NOUNS = ("film", "plot", "cast", "music", "ending", "script")
VERBS = {"is": False, "was": False, "is not": True, "is never": True}
GOOD = ("great", "superb", "lovely", "clever", "moving", "funny", "fresh", "strong")
BAD = ("awful", "boring", "dull", "clumsy", "silly", "weak", "stale", "poor")
FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSans-Bold", "STIXGeneral")
TEST_FONT = "cmss10"
COUNTS = ("one", "two", "three", "four")
TURNS = tuple(f"turn{index}" for index in range(8))
SHADES = tuple(f"shade{index}" for index in range(5))
PLACES = tuple(f"place{index}" for index in range(5))
HEADS = {
    "count": 4,
    "rotation": 8,
    "shade": 5,
    "position": 5,
    "colour": len(COLOURS),
    "shape": len(SHAPES),
    "noun": len(NOUNS),
    "verb": len(VERBS),
    "adjective": len(GOOD) + len(BAD),
}


def all_words() -> Words:
    prompts = [
        *(" ".join(part for part in document if isinstance(part, str)) for document in _prompt_documents()),
        *("Yes No positive negative means shape thing", *formats.SENTIMENTS),
        *(*COUNTS, *TURNS, *SHADES, *PLACES, *COLOURS, *SHAPES, *LABELS, "a", "is", "."),
    ]
    text = " ".join(prompts)
    for sign in "?:.":
        text = text.replace(sign, f" {sign} ")
    return Words(text.split())


def _prompt_documents() -> list[formats.Document]:
    blank = np.zeros((1, 1, 3), dtype=np.uint8)
    return [
        *(formats.raven_prefix([blank] * number) for number in (3, 8)),
        formats.raven_candidate(blank),
        [blank, formats.SENTIMENT_PROMPT],
        formats.classification(blank, "thing"),
    ]


class Opinion:
    """Three lines of rendered words."""

    def __init__(self, noun: str, verb: str, adjective: str) -> None:
        self.noun, self.verb, self.adjective = noun, verb, adjective
        self.sentiment = formats.SENTIMENTS[(adjective in GOOD) == VERBS[verb]]
        key = hashlib.blake2b(f"{noun}/{verb}/{adjective}".encode(), digest_size=1).digest()[0]
        self.held_out = key % 4 == 0

    @classmethod
    def random(cls, rng: random.Random, test: bool) -> Opinion:
        while True:
            opinion = cls(rng.choice(NOUNS), rng.choice(list(VERBS)), rng.choice(GOOD + BAD))
            if opinion.held_out == test:
                return opinion

    def draw(self, rng: random.Random, font: str) -> np.ndarray:
        picture = Image.new("L", (SIDE, SIDE), rng.randint(215, 255))
        pen = ImageDraw.Draw(picture)
        type_face = font_of(font, rng.choice((11, 12, 13)))
        for row, word in enumerate((self.noun, self.verb, self.adjective)):
            pen.text(
                (rng.randint(1, 5), 16 * row + rng.randint(-1, 2)), word, rng.randint(0, 60), font=type_face
            )
        return np.array(picture.convert("RGB"))


@lru_cache
def font_of(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)


def random_panel(rng: random.Random) -> raven.Panel:
    return raven.Panel(**{name: rng.randrange(number) for name, number in raven.VALUES.items()})


class Drawings:
    """Pictures of the three kinds with the properties they have; -100 where a kind has none."""

    def __init__(self, processor: Kosmos1Processor, seed: str, size: int, *, test: bool = False) -> None:
        self.processor, self.seed, self.size, self.test = processor, seed, size, test

    def __call__(self, step: int, shard: int, num_shards: int) -> dict[str, Tensor]:
        rng = random.Random(f"drawings/{self.seed}/{step}/{shard}")
        pictures = []
        labels = {name: torch.full((self.size,), IGNORED) for name in HEADS}
        for row in range(self.size):
            if row % 3 == 0:
                panel = random_panel(rng)
                pictures.append(panel.draw(SIDE, rng))
                found = asdict(panel)
            elif row % 3 == 1:
                scene = random_scene(rng)
                pictures.append(draw(scene, rng)[0])
                found = {"colour": list(COLOURS).index(scene.colour), "shape": SHAPES.index(scene.shape)}
            else:
                opinion = Opinion.random(rng, self.test)
                pictures.append(opinion.draw(rng, TEST_FONT if self.test else rng.choice(FONTS)))
                found = {
                    "noun": NOUNS.index(opinion.noun),
                    "verb": list(VERBS).index(opinion.verb),
                    "adjective": (GOOD + BAD).index(opinion.adjective),
                }
            for name, value in found.items():
                labels[name][row] = value
        return {"pixels": self.processor.pixels(pictures), **labels}


class Album:
    """Features of many pictures, by what they show."""

    def __init__(
        self, model: Kosmos1, processor: Kosmos1Processor, seed: str, *, test: bool, copies: int
    ) -> None:
        rng = random.Random(f"album/{seed}/{test}")
        shown: list[Any] = []
        pictures: list[np.ndarray] = []
        for panel in all_panels():
            for _ in range(1 if test else copies):
                shown.append(panel)
                pictures.append(panel.draw(SIDE, rng))
        for scene in (Scene(colour, shape) for colour in COLOURS for shape in SHAPES):
            for _ in range(10 if test else 40):
                shown.append(scene)
                pictures.append(draw(scene, rng)[0])
        for _ in range(400 if test else 1200):
            opinion = Opinion.random(rng, test)
            shown.append(opinion)
            pictures.append(opinion.draw(rng, TEST_FONT if test else rng.choice(FONTS)))
        with torch.inference_mode():
            parts = [
                model.vision(processor.pixels(pictures[start : start + 128]))
                for start in range(0, len(pictures), 128)
            ]
        self.features = torch.cat(parts).clone()
        self.by_panel: dict[raven.Panel, list[int]] = {}
        self.by_scene: dict[Scene, list[int]] = {}
        self.opinions: list[tuple[int, Opinion]] = []
        for index, thing in enumerate(shown):
            if isinstance(thing, raven.Panel):
                self.by_panel.setdefault(thing, []).append(index)
            elif isinstance(thing, Scene):
                self.by_scene.setdefault(thing, []).append(index)
            else:
                self.opinions.append((index, thing))

    def panel(self, panel: raven.Panel, rng: random.Random) -> int:
        return rng.choice(self.by_panel[panel])

    def scene(self, scene: Scene, rng: random.Random) -> int:
        return rng.choice(self.by_scene[scene])


def all_panels() -> list[raven.Panel]:
    values = [range(number) for number in raven.VALUES.values()]
    return [
        raven.Panel(count, rotation, shade, position)
        for count in values[0]
        for rotation in values[1]
        for shade in values[2]
        for position in values[3]
    ]


Part = str | int
"""Text, or the number of a picture in an album."""


def encode(processor: Kosmos1Processor, parts: Sequence[Part], *, begin: bool = True) -> list[int]:
    text = "".join(part if isinstance(part, str) else formats.PICTURE for part in parts)
    return [*([processor.tokens.bos] if begin else []), *processor.encode(text)]


def pictures(parts: Sequence[Part]) -> list[int]:
    return [part for part in parts if isinstance(part, int)]


def numbered(document: formats.Document, indices: Sequence[int]) -> list[Part]:
    """A prompt's document with numbers in the places of its pictures."""
    remaining = iter(indices)
    return [part if isinstance(part, str) else next(remaining) for part in document]


_BLANK = np.zeros((1, 1, 3), dtype=np.uint8)


def matrix_parts(
    matrix: raven.Matrix, album: Album, rng: random.Random
) -> tuple[list[Part], list[list[Part]]]:
    given = [album.panel(panel, rng) for panel in matrix.given]
    prefix = numbered(formats.raven_prefix([_BLANK] * len(given)), given)
    candidates = [
        numbered(formats.raven_candidate(_BLANK), [album.panel(panel, rng)]) for panel in matrix.candidates
    ]
    return prefix, candidates


class Matrices:
    """Batches of matrices, all candidates of each in one row; every third batch describes panels in words."""

    def __init__(self, processor: Kosmos1Processor, album: Album, seed: int, size: int) -> None:
        self.processor, self.album, self.seed, self.size = processor, album, seed, size

    def __call__(self, step: int, shard: int, num_shards: int) -> dict[str, Any]:
        rng = random.Random(f"matrices/{self.seed}/{step}/{shard}")
        if step % 3 == 2:
            return self._descriptions(rng)
        made = [raven.make_matrix(rng, 2 + step % 2, held_out=False) for _ in range(self.size)]
        return matrix_batch(self.processor, self.album, made, rng)

    def _descriptions(self, rng: random.Random) -> dict[str, Any]:
        documents = []
        for _ in range(3 * self.size):
            panel = random_panel(rng)
            words = f"{COUNTS[panel.count]} {TURNS[panel.rotation]} {SHADES[panel.shade]} {PLACES[panel.position]} ."
            documents.append([self.album.panel(panel, rng), words])
        return document_batch(self.processor, self.album, documents)


def matrix_batch(
    processor: Kosmos1Processor, album: Album, matrices: Sequence[raven.Matrix], rng: random.Random
) -> dict[str, Any]:
    """Rows ``prefix, candidate 1, candidate 2, ...`` with a branch for each candidate, Yes or No being predicted."""
    yes, no = (processor.encode(word)[0] for word in ("Yes", "No"))
    rows, branches, targets, shown = [], [], [], []
    for matrix in matrices:
        prefix, candidates = matrix_parts(matrix, album, rng)
        ids = encode(processor, prefix)
        branch, target = [0] * len(ids), [IGNORED] * len(ids)
        shown += pictures(prefix)
        for number, candidate in enumerate(candidates, start=1):
            more = encode(processor, candidate, begin=False)
            ids, branch = ids + more, branch + [number] * len(more)
            target += [IGNORED] * (len(more) - 1) + [yes if number - 1 == matrix.answer else no]
            shown += pictures(candidate)
        rows.append(ids)
        branches.append(branch)
        targets.append(target)
    batch = processor.batch(rows)
    return {
        "batch": batch,
        "branches": torch.tensor(branches),
        "targets": torch.tensor(targets),
        "features": album.features[shown],
        "yes": yes,
    }


def document_batch(
    processor: Kosmos1Processor, album: Album, documents: Sequence[list[Part]]
) -> dict[str, Any]:
    batch = processor.batch([[*encode(processor, parts), processor.tokens.eos] for parts in documents])
    shown = [index for parts in documents for index in pictures(parts)]
    return {
        "batch": batch,
        "branches": None,
        "targets": None,
        "features": album.features[shown],
        "yes": None,
    }


class MixedDocuments:
    """Pairs of a picture and text; with ``interleaved`` half of the tokens are documents that belong together."""

    def __init__(
        self, processor: Kosmos1Processor, album: Album, seed: int, tokens: int, *, interleaved: bool
    ) -> None:
        self.processor, self.album, self.seed = processor, album, seed
        self.tokens, self.interleaved = tokens, interleaved

    def __call__(self, step: int, shard: int, num_shards: int) -> dict[str, Any]:
        rng = random.Random(f"documents/{self.seed}/{step}/{shard}")
        documents, length = [], 0
        # A batch has one kind of document, or padding would take most of it.
        kind = step % 4 if self.interleaved else 2 * (step % 2)
        while length < self.tokens:
            if kind == 1:
                named, _, _ = naming(rng, 8, test=False)
                parts = [part for scene, label in named for part in (self._see(scene, rng), f"is {label} .")]
            elif kind == 3:
                parts = described(rng, self.album, test=False)[0]
            elif kind == 0:
                index, opinion = rng.choice(self.album.opinions)
                parts = [index, f"{formats.SENTIMENT_PROMPT} {opinion.sentiment}"]
            else:
                scene = random_scene(rng)
                parts = [self._see(scene, rng), scene.caption]
            documents.append(parts)
            length += len(encode(self.processor, parts)) + 1
        return document_batch(self.processor, self.album, documents)

    def _see(self, scene: Scene, rng: random.Random) -> int:
        return self.album.scene(scene, rng)


def two_labels(rng: random.Random, test: bool) -> tuple[str, str]:
    while True:
        first, second = rng.sample(LABELS, 2)
        if held_out((first, second)) == test:
            return first, second


def with_property(rng: random.Random, value: str) -> Scene:
    if value in COLOURS:
        return Scene(value, rng.choice(SHAPES))
    return Scene(rng.choice(list(COLOURS)), value)


def naming(
    rng: random.Random, length: int, test: bool
) -> tuple[list[tuple[Scene, str]], tuple[str, str], list[str]]:
    """Scenes with labels that one property decides, for this document only; the labels and the property's values."""
    labels = two_labels(rng, test)
    values = rng.sample(list(COLOURS), 2) if rng.random() < 0.5 else rng.sample(SHAPES, 2)
    named = []
    for _ in range(length):
        which = rng.randrange(2)
        named.append((with_property(rng, values[which]), labels[which]))
    return named, labels, values


def described(
    rng: random.Random, album: Album, test: bool
) -> tuple[list[Part], tuple[str, str], str, list[Part]]:
    """A classification with descriptions: solved, its names, the right one, and the prompt without descriptions."""
    labels = two_labels(rng, test)
    values = rng.sample(list(COLOURS), 2) if rng.random() < 0.5 else rng.sample(SHAPES, 2)
    which = rng.randrange(2)
    index = album.scene(with_property(rng, values[which]), rng)
    told = [
        f"{label} means {value if value in SHAPES else value + ' shape'} ."
        for label, value in zip(labels, values, strict=True)
    ]
    prompt = numbered(formats.classification(_BLANK, "thing", told), [index])
    bare = numbered(formats.classification(_BLANK, "thing"), [index])
    return [*prompt, f" {labels[which]}"], labels, labels[which], bare
