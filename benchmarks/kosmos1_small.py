"""Kosmos-1 in small: matrices, rendered opinions, classes told in words, and examples in context.

    python benchmarks/kosmos1_small.py [--output benchmarks/results] [--work FOLDER] [--seed 0] [--scale 1.0]

Everything is trained here, on a CPU, from one seed. A vision tower learns to name what drawings show (arrows, coloured
shapes, three lines of rendered words) and is then fixed, as Kosmos-1 fixes CLIP. Three language models of the same size
learn behind it: one on matrices, one on documents with several pictures beside pairs of a picture and text, and one on
pairs only, with as many tokens.

Measured, each beside what is right by chance: matrices whose rules take values that no training matrix had (argmax of
P("Yes") over six candidates that are balanced, so that candidates alone tell nothing); the sentiment of opinions in a
font and in combinations of words that were not in training; one of two made-up names with and without their
descriptions; one of two names behind k examples. A stage that the folder --work holds is not trained again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import matplotlib
import numpy as np
import torch
from metalm_small import COLOURS, LABELS, SHAPES, Scene, Words, draw, held_out, random_scene
from multiway_core.training import Loss, TrainConfig, Trainer
from multiway_vision_language.kosmos1 import objective, raven
from multiway_vision_language.kosmos1 import processor as formats
from multiway_vision_language.kosmos1.inference import Kosmos1Generator
from multiway_vision_language.kosmos1.model import Kosmos1
from multiway_vision_language.kosmos1.processor import Kosmos1Processor
from multiway_vision_language.kosmos2.config import Kosmos2Config, TextConfig, TokenConfig, VisionConfig
from multiway_vision_language.kosmos2.model import ImageFeatures
from multiway_vision_language.kosmos2.objective import next_token_loss
from multiway_vision_language.kosmos2.processor import TokenBatch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

SIDE = 64
IGNORED = -100  # a property that a drawing has not, a place where nothing is predicted
SHOTS = (0, 1, 2, 4)
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
LINES = ("noun", "verb", "adjective")  # in rows of patches from the top


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


# --- the tower ---------------------------------------------------------------------------------------------------


class TowerTask(nn.Module):
    """The vision tower with a head for every property."""

    def __init__(self, model: Kosmos1) -> None:
        super().__init__()
        self.vision = model.vision
        width = model.config.vision.hidden_size
        self.heads = nn.ModuleDict(
            {f"{name}_head": nn.Linear(width, number) for name, number in HEADS.items()}
        )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        seen = self.vision(pixels)
        rows = seen[:, 1:].unflatten(1, (4, 4)).mean(dim=2)
        where = {name: rows[:, index] for index, name in enumerate(LINES)}
        return {name: self.heads[f"{name}_head"](where.get(name, seen[:, 0])) for name in HEADS}


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


def tower_loss(task: TowerTask, batch: dict[str, Tensor]) -> Loss:
    total = torch.tensor(0.0)
    metrics = {}
    for name, logits in task(batch["pixels"]).items():
        kept = batch[name] != IGNORED
        total = total + nn.functional.cross_entropy(logits[kept], batch[name][kept])
        metrics[name] = (logits[kept].argmax(1) == batch[name][kept]).float().mean().detach()
    size = len(batch["pixels"])
    return Loss(total * size, size, metrics, size)


@torch.inference_mode()
def tower_accuracy(task: TowerTask, data: Drawings) -> dict[str, float]:
    batch = data(0, 0, 1)
    task.eval()
    accuracy = {}
    for name, logits in task(batch["pixels"]).items():
        kept = batch[name] != IGNORED
        accuracy[name] = round(float((logits[kept].argmax(1) == batch[name][kept]).float().mean()), 3)
    return accuracy


# --- pictures seen once by the fixed tower ---------------------------------------------------------------------


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


# --- documents: text, and numbers that stand for pictures of an album --------------------------------------------

Part = str | int


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


def logits_of(model: Kosmos1, batch: TokenBatch, features: Tensor, branches: Tensor | None = None) -> Tensor:
    images = ImageFeatures(model.resampler(features))
    hidden = model.hidden(
        batch.tokens_BT,
        batch.valid_BT,
        images=images,
        image_slots_BT=batch.image_slots_BT,
        branches_BT=branches,
    )
    return model.logits(hidden)


def language_loss(model: Kosmos1, data: dict[str, Any]) -> Loss:
    if data["yes"] is None:
        images = ImageFeatures(model.resampler(data["features"]))
        total, count = next_token_loss(model, data["batch"], images)
        return Loss(total, count, {"text_loss": total.detach() / count}, len(data["batch"].tokens_BT))
    logits = logits_of(model, data["batch"], data["features"], data["branches"])
    targets = data["targets"]
    # One candidate of six is right: its answer counts five times, so that Yes and No weigh the same.
    right, wrong = targets == data["yes"], (targets != data["yes"]) & (targets != IGNORED)
    entropy = nn.functional.cross_entropy
    yes = entropy(logits[right], targets[right], reduction="sum")
    no = entropy(logits[wrong], targets[wrong], reduction="sum")
    count = int(wrong.sum())
    return Loss(
        (5 * yes + no) / 2, count, {"matrix_loss": (5 * yes + no).detach() / (2 * count)}, len(targets)
    )


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


# --- measures ----------------------------------------------------------------------------------------------------


@torch.inference_mode()
def choose(
    model: Kosmos1,
    processor: Kosmos1Processor,
    album: Album,
    prompts: Sequence[list[Part]],
    choices: Sequence[Sequence[str]],
) -> list[str]:
    """The likelier of one-word choices behind each prompt."""
    model.eval()
    chosen: list[str] = []
    for start in range(0, len(prompts), 100):
        part = prompts[start : start + 100]
        batch = processor.batch([encode(processor, parts) for parts in part])
        shown = [index for parts in part for index in pictures(parts)]
        logits = logits_of(model, batch, album.features[shown])[:, -1]
        for row, words in zip(logits, choices[start : start + 100], strict=True):
            ids = [processor.encode(word)[0] for word in words]
            chosen.append(words[int(row[ids].argmax())])
    return chosen


@torch.inference_mode()
def matrix_accuracy(
    model: Kosmos1, processor: Kosmos1Processor, album: Album, number: int, *, size: int, test: bool
) -> float:
    model.eval()
    rng = random.Random(f"matrix-test/{size}/{test}")
    made = [raven.make_matrix(rng, size, held_out=test) for _ in range(number)]
    scores = []
    for start in range(0, number, 25):
        data = matrix_batch(processor, album, made[start : start + 25], rng)
        logits = logits_of(model, data["batch"], data["features"], data["branches"])
        asked = data["targets"] != IGNORED
        scores += (
            logits[asked].softmax(dim=-1)[:, data["yes"]].unflatten(0, (-1, raven.NUM_CANDIDATES)).tolist()
        )
    return raven.accuracy(scores, made)


def shot_curve(model: Kosmos1, processor: Kosmos1Processor, album: Album, number: int) -> dict[int, float]:
    curve = {}
    for shots in SHOTS:
        rng = random.Random(f"shots/{shots}")
        prompts, choices, answers = [], [], []
        for _ in range(number):
            named, labels, _ = naming(rng, shots + 1, test=True)
            examples = [
                part for scene, label in named[:-1] for part in (album.scene(scene, rng), f"is {label} .")
            ]
            prompts.append([*examples, album.scene(named[-1][0], rng), "is"])
            choices.append(labels)
            answers.append(named[-1][1])
        chosen = choose(model, processor, album, prompts, choices)
        curve[shots] = sum(a == b for a, b in zip(chosen, answers, strict=True)) / number
    return curve


def description_accuracy(
    model: Kosmos1, processor: Kosmos1Processor, album: Album, number: int
) -> dict[str, float]:
    rng = random.Random("descriptions")
    told, bare, choices, answers = [], [], [], []
    for _ in range(number):
        solved, labels, answer, without = described(rng, album, test=True)
        told.append(solved[:-1])
        bare.append(without)
        choices.append(labels)
        answers.append(answer)
    result = {}
    for name, prompts in (("with", told), ("without", bare)):
        chosen = choose(model, processor, album, prompts, choices)
        result[name] = sum(a == b for a, b in zip(chosen, answers, strict=True)) / number
    return result


def sentiment_accuracy(model: Kosmos1, processor: Kosmos1Processor, album: Album) -> dict[str, float]:
    prompts: list[list[Part]] = [[index, formats.SENTIMENT_PROMPT] for index, _ in album.opinions]
    answers = [opinion.sentiment for _, opinion in album.opinions]
    chosen = choose(model, processor, album, prompts, [formats.SENTIMENTS] * len(prompts))
    majority = Counter(answers).most_common(1)[0][1] / len(answers)
    return {
        "accuracy": sum(a == b for a, b in zip(chosen, answers, strict=True)) / len(answers),
        "majority": majority,
        "chance": 0.5,
    }


def cached_against_passes(model: Kosmos1, processor: Kosmos1Processor, number: int) -> dict[str, Any]:
    """The six candidates behind one cached prefix and as six whole prompts, in turn; CPU time of each."""
    generator = Kosmos1Generator(model.eval(), processor)
    rng = random.Random("cache")
    times: dict[str, list[float]] = {"cached": [], "passes": []}
    same, largest = 0, 0.0
    for _ in range(number):
        matrix = raven.make_matrix(rng, 3, held_out=True)
        given, candidates = ([p.draw(SIDE) for p in panels] for panels in (matrix.given, matrix.candidates))
        started = time.process_time()
        cached = generator.solve_matrix(given, candidates)
        times["cached"].append(time.process_time() - started)
        started = time.process_time()
        passes = [
            generator.read_documents([[*formats.raven_prefix(given), *formats.raven_candidate(candidate)]])
            for candidate in candidates
        ]
        alone = [float(p.logits_BV.softmax(dim=-1)[0, generator.yes_token()]) for p in passes]
        times["passes"].append(time.process_time() - started)
        same += int(np.argmax(cached) == np.argmax(alone))
        largest = max(largest, float(np.abs(np.array(cached) - alone).max()))
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {
        "problems": number,
        "same answers": same,
        "largest difference of P(Yes)": largest,
        "cached, CPU ms": round(1000 * medians["cached"], 1),
        "six passes, CPU ms": round(1000 * medians["passes"], 1),
        "ratio": round(medians["passes"] / medians["cached"], 2),
    }


# --- the run -----------------------------------------------------------------------------------------------------


def configuration(words: Words) -> Kosmos2Config:
    tokens = TokenConfig(num_text_tokens=len(words.words) - 4, grid_size=1)
    return Kosmos2Config(
        vision=VisionConfig(
            hidden_size=96, num_layers=3, num_heads=4, inner_size=256, patch_size=16, image_size=SIDE
        ),
        text=TextConfig(
            hidden_size=96,
            num_layers=3,
            num_heads=4,
            inner_size=384,
            vocab_size=tokens.vocab_size,
            max_positions=256,
            dropout=0.0,
            position_code="xpos",
        ),
        tokens=tokens,
        num_queries=3,
    )


class Study:
    """The stages of the run, each kept in the work folder."""

    def __init__(self, work: Path, seed: int, scale: float) -> None:
        self.work, self.seed, self.scale = work, seed, scale
        words = all_words()
        self.config = configuration(words)
        self.processor = Kosmos1Processor(self.config, words)
        self.times: dict[str, Any] = {}

    def new_model(self) -> Kosmos1:
        model = Kosmos1(self.config)
        objective.reset_parameters(model, self.seed)
        return model

    def stage(
        self, name: str, model: nn.Module, loss: Callable[..., Loss], data: Any, steps: int, rate: float
    ) -> None:
        """Train ``model`` in place, or take the weights of an earlier run."""
        steps = max(2, round(steps * self.scale))
        config = TrainConfig(
            steps=steps,
            learning_rate=rate,
            warmup_steps=max(1, steps // 20),
            optimizer="muon",
            weight_decay=0.01,
            final_learning_rate_ratio=0.05,
            log_every=30,
            seed=self.seed,
            checkpoint_every_seconds=120,
            keep_checkpoints=1,
        )
        record, started = self.work / f"{name}.json", time.process_time()
        result = Trainer(model, loss, data, config, self.work / name).fit()
        if record.is_file():
            self.times[name] = json.loads(record.read_text())
        else:
            self.times[name] = {
                "steps": steps,
                "seconds": round(result.seconds, 1),
                "cpu_seconds": round(time.process_time() - started, 1),
            }
            record.write_text(json.dumps(self.times[name]))
        print(name, self.times[name], f"loss {result.loss:.3f}", flush=True)


def run(work: Path, seed: int, scale: float) -> dict[str, Any]:
    study = Study(work, seed, scale)
    processor = study.processor
    base = study.new_model()
    task = TowerTask(base)
    study.stage("tower", task, tower_loss, Drawings(processor, str(seed), 48), 900, 3e-3)
    results: dict[str, Any] = {"tower": tower_accuracy(task, Drawings(processor, "test", 600, test=True))}
    print(results, flush=True)
    tower = base.vision.state_dict()

    base.eval()
    train = Album(base, processor, str(seed), test=False, copies=2)
    test = Album(base, processor, str(seed), test=True, copies=1)

    def behind_the_tower() -> Kosmos1:
        model = study.new_model()
        model.vision.load_state_dict(tower)
        model.vision.requires_grad_(False)
        return model

    interleaved, pairs = behind_the_tower(), behind_the_tower()
    for name, model in (("interleaved", interleaved), ("pairs", pairs)):
        data = MixedDocuments(processor, train, seed, 1500, interleaved=name == "interleaved")
        study.stage(name, model, language_loss, data, 900, 3e-3)
        results[name] = {
            "shots": shot_curve(model, processor, test, 600),
            "sentiment": sentiment_accuracy(model, processor, test),
            "descriptions": description_accuracy(model, processor, test, 600),
        }
        print(name, results[name], flush=True)

    solver = behind_the_tower()
    study.stage("matrices", solver, language_loss, Matrices(processor, train, seed, 16), 900, 3e-3)
    results["matrices"] = {
        f"{size}x{size}, {'held-out' if unseen else 'training'} values": matrix_accuracy(
            solver, processor, test, 600, size=size, test=unseen
        )
        for size in (2, 3)
        for unseen in (True, False)
    } | {"chance": 1 / raven.NUM_CANDIDATES}
    print(results["matrices"], flush=True)
    results["cache"] = cached_against_passes(solver, processor, 30)
    results["stages"] = study.times
    return results


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def markdown(record: dict[str, Any]) -> str:
    """The tables of a run."""
    arms = {"with interleaved documents": record["interleaved"], "pairs only": record["pairs"]}
    cache = record["cache"]
    lines = [
        "# Kosmos-1 in small",
        "",
        f"`python benchmarks/kosmos1_small.py --seed {record['seed']} --scale {record['scale']}`, one thread.",
        "",
        "What the tower names in drawings it has not seen (words: held-out combinations in a held-out font), %: "
        + ", ".join(f"{name} {percent(value)}" for name, value in record["tower"].items())
        + ".",
        "",
        'Matrices, argmax of P("Yes") over six candidates, 600 each, %:',
        "",
        "| | accuracy |",
        "| --- | --- |",
        *(f"| {name} | {percent(value)} |" for name, value in record["matrices"].items()),
        "",
        "Two models, the same tokens, accuracy in % (chance 50; 600 problems a cell, 400 opinions):",
        "",
        "| | "
        + " | ".join(f"k = {shots}" for shots in SHOTS)
        + " | names with descriptions | without | sentiment |",
        "| --- |" + " --- |" * (len(SHOTS) + 3),
    ]
    for name, arm in arms.items():
        cells = [*arm["shots"].values(), arm["descriptions"]["with"], arm["descriptions"]["without"]]
        cells.append(arm["sentiment"]["accuracy"])
        lines.append(f"| {name} | " + " | ".join(map(percent, cells)) + " |")
    lines += [
        "",
        f"Sentiment: the commoner answer is right for {percent(arms['pairs only']['sentiment']['majority'])} %.",
        "",
        f"Six candidates of a 3 x 3 matrix behind one cached prefix: {cache['cached, CPU ms']} ms of CPU time, as six"
        f" passes {cache['six passes, CPU ms']} ms, {cache['ratio']} times as much; the same answer to"
        f" {cache['same answers']} of {cache['problems']} problems.",
        "",
        "| stage | steps | CPU s | wall s |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {s['steps']} | {s['cpu_seconds']} | {s['seconds']} |"
        for name, s in record["stages"].items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/kosmos1-small"), help="checkpoints of the stages"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all numbers of steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    results = run(options.work, options.seed, options.scale)
    machine = {"processor": platform.processor() or platform.machine(), "load": os.getloadavg(), "threads": 1}
    record = {"seed": options.seed, "scale": options.scale, "machine": machine, **results}
    (options.output / "kosmos1-small.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.output / "kosmos1-small.md").write_text(markdown(record))
    print(markdown(record))


if __name__ == "__main__":
    main()
