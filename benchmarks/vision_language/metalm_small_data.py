"""What MetaLM learns from in its small run: documents that name things, pictures with questions, easy-VQA."""

from __future__ import annotations

import os
import random
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import easy_vqa
import numpy as np
import torch
from multiway_vision_language.metalm import objective
from multiway_vision_language.metalm.processor import Document, MetaLMProcessor, Span, question
from PIL import Image

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


def all_words() -> Words:
    text = " ".join([*easy_vqa.get_train_questions()[0], *easy_vqa.get_answers()])
    for sign in "?:.":
        text = text.replace(sign, f" {sign} ")
    return Words([*text.split(), *COLOURS, *SHAPES, *LABELS, "question", "answer", "a", ":", ".", "?"])


def ask(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """A question about a scene in the words of easy-VQA, and its answer."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(["what color is the shape?", f"what color is the {scene.shape}?"]), scene.colour
    if kind == 1:
        return f"what is the color of the {scene.shape}?", scene.colour
    if kind == 2:
        return rng.choice(
            ["what shape does the image contain?", f"what is the {scene.colour} shape?"]
        ), scene.shape
    yes = rng.random() < 0.5
    if rng.random() < 0.5:
        others = [colour for colour in COLOURS if colour != scene.colour]
        thing = f"{scene.colour if yes else rng.choice(others)} shape"
    else:
        thing = scene.shape if yes else rng.choice([shape for shape in SHAPES if shape != scene.shape])
    negated = rng.random() < 0.4
    forms = (
        [
            f"is there not a {thing} in the image?",
            f"is no {thing} present?",
            f"does the image not contain a {thing}?",
        ]
        if negated
        else [f"is there a {thing}?", f"is a {thing} present?", f"does the image contain a {thing}?"]
    )
    return rng.choice(forms), "yes" if yes != negated else "no"


def naming(rng: random.Random, length: int, test: bool) -> tuple[list[tuple[str, str]], tuple[str, str]]:
    """Things with labels that one property decides, for this document only; both labels."""
    while True:
        pair = tuple(rng.sample(LABELS, 2))
        if held_out(pair) == test:  # type: ignore[arg-type]
            break
    values = rng.sample(list(COLOURS), 2) if rng.random() < 0.5 else rng.sample(SHAPES, 2)
    named = []
    for _ in range(length):
        which = rng.randrange(2)
        if values[0] in COLOURS:
            thing = f"{values[which]} {rng.choice(SHAPES)}"
        else:
            thing = f"{rng.choice(list(COLOURS))} {values[which]}"
        named.append((thing, pair[which]))
    return named, pair  # type: ignore[return-value]


class Documents:
    """Batches for the language models: the same words, plainly or with spans and pictures."""

    def __init__(self, processor: MetaLMProcessor, seed: int, size: int, semi_causal: bool) -> None:
        self.processor, self.seed, self.size, self.semi_causal = processor, seed, size, semi_causal

    def __call__(self, step: int, shard: int, num_shards: int) -> Any:
        rng = random.Random(f"{self.seed}/{step}/{shard}")
        documents: list[Document] = []
        for index in range(self.size):
            if index % 2:
                named, _ = naming(rng, 12, test=False)
                documents.append(self._with_span([f"{thing} : {label} ." for thing, label in named], rng))
            else:
                documents.append(self._about_picture(rng))
        return self.processor.batch(documents)

    def _with_span(self, sentences: list[str], rng: random.Random) -> Document:
        words = " ".join(sentences).split()
        if not self.semi_causal:
            return [" ".join(words)]
        document: list[str | Span] = []
        end = 0
        for start, stop in objective.sample_spans([(0, len(words))], rng, min_length=4, max_length=8):
            document += [" ".join(words[end:start]), Span(" ".join(words[start:stop]))]
            end = stop
        return [*(part for part in document if part), " ".join(words[end:])]

    def _about_picture(self, rng: random.Random) -> Document:
        scene = random_scene(rng)
        asked = [ask(scene, rng) for _ in range(3)]
        words = " ".join([scene.caption, *(f"question : {q} answer : {a} ." for q, a in asked)])
        picture, _ = draw(scene, rng)
        if not self.semi_causal:
            return [words]
        ids = words.replace("?", " ?").split()
        prefix = rng.choice([0, len(scene.caption.split()), rng.randrange(len(ids))])
        return [Span(" ".join(ids[:prefix]), picture), " ".join(ids[prefix:])]


class EncoderData:
    """Drawings with their labels, and sentences with masked words."""

    def __init__(self, processor: MetaLMProcessor, seed: int, size: int) -> None:
        self.processor, self.seed, self.size = processor, seed, size

    def __call__(self, step: int, shard: int, num_shards: int) -> Any:
        rng = random.Random(f"encoder/{self.seed}/{step}/{shard}")
        patch = self.processor.config.encoder.patch_size
        side = SIDE // patch
        pictures, shapes, colours = [], [], []
        cells = torch.zeros(self.size, side, side, dtype=torch.long)
        for row in range(self.size):
            scene = random_scene(rng)
            picture, (left, top, right, bottom) = draw(scene, rng)
            pictures.append(picture)
            shapes.append(SHAPES.index(scene.shape))
            colours.append(list(COLOURS).index(scene.colour))
            label = 1 + colours[-1] * len(SHAPES) + shapes[-1]
            cells[row, top // patch : bottom // patch + 1, left // patch : right // patch + 1] = label
        texts = []
        for _ in range(self.size // 2):
            scene = random_scene(rng)
            q, a = ask(scene, rng)
            texts.append(self.processor.tokenizer.encode(f"{scene.caption} question : {q} answer : {a} ."))
        lengths = torch.tensor([len(text) for text in texts])
        tokens = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = torch.tensor(text)
        generator = torch.Generator().manual_seed(rng.randrange(2**31))
        masked = (torch.rand(tokens.shape, generator=generator) < 0.2) & (tokens != 0)
        return {
            "pixels": self.processor.pixels(pictures),
            "shapes": torch.tensor(shapes),
            "colours": torch.tensor(colours),
            "cells": cells.flatten(1),
            "tokens": tokens,
            "lengths": lengths,
            "masked": masked,
        }


class Questions:
    """Batches of easy-VQA's training questions: the span is picture and question, the answer is written."""

    def __init__(self, processor: MetaLMProcessor, data: Vqa, seed: int, size: int) -> None:
        self.processor, self.data, self.seed, self.size = processor, data, seed, size

    def __call__(self, step: int, shard: int, num_shards: int) -> Any:
        rng = random.Random(f"vqa/{self.seed}/{step}/{shard}")
        rows = [rng.randrange(len(self.data.questions)) for _ in range(self.size)]
        return self.processor.batch([self.data.document(row) for row in rows])


class Vqa:
    """One part of easy-VQA in memory."""

    def __init__(self, part: str) -> None:
        texts, answers, images = getattr(easy_vqa, f"get_{part}_questions")()
        paths = getattr(easy_vqa, f"get_{part}_image_paths")()
        self.pictures = {i: np.array(Image.open(path).convert("RGB")) for i, path in paths.items()}
        self.questions = list(zip(texts, answers, images, strict=True))

    def document(self, row: int, *, answered: bool = True) -> Document:
        text, answer, image = self.questions[row]
        asked = question(self.pictures[image], text)
        return [*asked, answer] if answered else asked
