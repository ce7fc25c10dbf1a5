"""MetaLM in small: does a semi-causal language model keep what it can do in context, and what does tuning cost?

    python benchmarks/metalm_small.py [--output benchmarks/results] [--work FOLDER] [--seed 0] [--scale 1.0]

Everything is trained here, on a CPU, from one seed. (1) A bidirectional encoder learns our own drawings of coloured
shapes (shape, colour, and the colour of every patch) and masked words. (2) The same decoder is trained twice on the
same documents: as a causal language model, and semi-causally with that encoder docked. The documents name things with
labels that hold for one document only, and describe pictures and ask about them. (3) Both are tuned on easy-VQA (4,000
pictures, 38,575 questions; its test pictures are only used for the result): the semi-causal model through encoder and
connector alone, the causal one through the same parts (its decoder frozen) and as a whole.

Few-shot accuracy is the right one of a document's two labels behind k examples, in text, with pairs of labels that
were not together in training. Baselines of easy-VQA see no picture: the commonest answer, and the commonest answer to
each question. A stage that the folder --work holds is not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import easy_vqa
import numpy as np
import torch
from multiway_core.training import Loss, TrainConfig, Trainer
from multiway_vision_language.metalm import objective
from multiway_vision_language.metalm.config import DecoderConfig, EncoderConfig, MetaLMConfig
from multiway_vision_language.metalm.model import MetaLM
from multiway_vision_language.metalm.processor import Document, MetaLMProcessor, Span, question
from PIL import Image, ImageDraw
from torch import nn

COLOURS = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "brown": (165, 42, 42),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
}
SHAPES = ("circle", "rectangle", "triangle")
LABELS = tuple(a + b for a in ("da", "wu", "ki", "po", "ze") for b in ("x", "g", "mo", "lu"))
SHOTS = (0, 1, 2, 4, 8)
SIDE = 64


class Words:
    """One id a word; enough for grammars of a hundred words."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = ["<pad>", "<s>", "</s>", "<mask>", *sorted(set(words))]
        self.ids = {word: index for index, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        for sign in "?:.":
            text = text.replace(sign, f" {sign} ")
        return [self.ids[word] for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.words[index] for index in ids)


def all_words() -> Words:
    text = " ".join([*easy_vqa.get_train_questions()[0], *easy_vqa.get_answers()])
    for sign in "?:.":
        text = text.replace(sign, f" {sign} ")
    return Words([*text.split(), *COLOURS, *SHAPES, *LABELS, "question", "answer", "a", ":", ".", "?"])


@dataclass(frozen=True)
class Scene:
    colour: str
    shape: str

    @property
    def caption(self) -> str:
        return f"a {self.colour} {self.shape} ."


def random_scene(rng: random.Random) -> Scene:
    return Scene(rng.choice(list(COLOURS)), rng.choice(SHAPES))


def draw(scene: Scene, rng: random.Random) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A drawing and the box of its shape, in pixels."""
    light = tuple(rng.randint(225, 255) for _ in range(3))
    picture = Image.new("RGB", (SIDE, SIDE), light)
    width = rng.randint(8, 34)
    height = rng.randint(8, 34) if scene.shape == "rectangle" else width
    left, top = rng.randint(0, SIDE - width), rng.randint(0, SIDE - height)
    box = (left, top, left + width - 1, top + height - 1)
    pen, fill = ImageDraw.Draw(picture), COLOURS[scene.colour]
    if scene.shape == "circle":
        pen.ellipse(box, fill)
    elif scene.shape == "rectangle":
        pen.rectangle(box, fill)
    else:
        pen.polygon([(left, box[3]), (box[2], box[3]), (left + width // 2, top)], fill)
    return np.array(picture), box


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


def held_out(pair: tuple[str, str]) -> bool:
    """A fifth of the pairs of labels never names things in training."""
    return (LABELS.index(pair[0]) + LABELS.index(pair[1])) % 5 == 0


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


def language_loss(model: MetaLM, batch: Any) -> Loss:
    logits = model(
        batch.tokens_BT,
        batch.valid_BT,
        batch.spans,
        pixels_PCHW=batch.pixels_PCHW,
        picture_spans=batch.picture_spans,
    )
    total, count = objective.semi_causal_loss(
        logits, objective.semi_causal_targets(batch.tokens_BT, batch.valid_BT, batch.spans)
    )
    return Loss(total, count, samples=len(batch.tokens_BT))


class EncoderTask(nn.Module):
    """The encoder with heads for its own pre-training."""

    def __init__(self, model: MetaLM) -> None:
        super().__init__()
        self.model = model
        hidden = model.config.encoder.hidden_size
        self.shape_head = nn.Linear(hidden, len(SHAPES))
        self.colour_head = nn.Linear(hidden, len(COLOURS))
        self.patch_head = nn.Linear(hidden, 1 + len(COLOURS) * len(SHAPES))
        self.word_head = nn.Linear(hidden, model.config.vocab_size)


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


def encoder_loss(task: EncoderTask, batch: Any) -> Loss:
    encoder = task.model.encoder
    size, patches = len(batch["pixels"]), encoder.config.num_patches
    placeholders = torch.zeros(size, patches, dtype=torch.long)
    seen = encoder(
        placeholders, torch.full((size,), patches), batch["pixels"], torch.ones(size, dtype=torch.bool)
    )
    mean = seen.mean(dim=1)
    shape_logits = task.shape_head(mean)
    entropy = nn.functional.cross_entropy
    loss = entropy(shape_logits, batch["shapes"]) + entropy(task.colour_head(mean), batch["colours"])
    loss = loss + entropy(task.patch_head(seen).flatten(0, 1), batch["cells"].flatten())
    hidden = torch.where(batch["masked"], 3, batch["tokens"])
    read = encoder(hidden, batch["lengths"])
    loss = loss + entropy(task.word_head(read[batch["masked"]]), batch["tokens"][batch["masked"]])
    right = (shape_logits.argmax(1) == batch["shapes"]).float().mean()
    return Loss(loss * size, size, {"shape_accuracy": right.detach()}, size)


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


def blind_baselines(train: Vqa, test: Vqa) -> dict[str, float]:
    commonest = Counter(answer for _, answer, _ in train.questions).most_common(1)[0][0]
    by_question: dict[str, Counter[str]] = defaultdict(Counter)
    for text, answer, _ in train.questions:
        by_question[text][answer] += 1
    total = len(test.questions)
    return {
        "majority": sum(answer == commonest for _, answer, _ in test.questions) / total,
        "question only": sum(
            by_question[text].most_common(1)[0][0] == answer for text, answer, _ in test.questions
        )
        / total,
    }


@torch.inference_mode()
def vqa_accuracy(model: MetaLM, processor: MetaLMProcessor, data: Vqa, limit: int) -> float:
    """Share of questions whose greedy word is the answer (of all words of the vocabulary)."""
    model.eval()
    rows = random.Random(0).sample(range(len(data.questions)), min(limit, len(data.questions)))
    right = 0
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        batch = processor.batch([data.document(row, answered=False) for row in part])
        logits = model(
            batch.tokens_BT,
            batch.valid_BT,
            batch.spans,
            pixels_PCHW=batch.pixels_PCHW,
            picture_spans=batch.picture_spans,
        )[:, -1]
        words = processor.tokenizer.decode(logits.argmax(dim=-1).tolist()).split()
        right += sum(word == data.questions[row][1] for word, row in zip(words, part, strict=True))
    return right / len(rows)


@torch.inference_mode()
def few_shot_accuracy(model: MetaLM, processor: MetaLMProcessor, number: int) -> dict[int, float]:
    """Choice between a document's two labels behind k examples, the labels being balanced."""
    model.eval()
    accuracy = {}
    for shots in SHOTS:
        rng = random.Random(f"few-shot/{shots}")
        documents: list[Document] = []
        choices: list[tuple[str, str, str]] = []
        while len(documents) < number:
            named, pair = naming(rng, shots + 1, test=True)
            examples, (thing, label) = named[:-1], named[-1]
            text = " ".join(f"{t} : {name} ." for t, name in examples)
            documents.append([f"{text} {thing} :"])
            choices.append((*pair, label))
        right = 0
        for start in range(0, number, 100):
            batch = processor.batch(documents[start : start + 100])
            logits = model(batch.tokens_BT, batch.valid_BT)[:, -1]
            for row, (first, second, label) in zip(logits, choices[start : start + 100], strict=True):
                ids = [processor.tokenizer.encode(name)[0] for name in (first, second)]
                right += (first, second)[int(row[ids].argmax())] == label
        accuracy[shots] = right / number
    return accuracy


def configuration(vocabulary: int) -> MetaLMConfig:
    return MetaLMConfig(
        vocab_size=vocabulary,
        decoder=DecoderConfig(hidden_size=96, num_layers=3, num_heads=4, inner_size=384, dropout=0.0),
        encoder=EncoderConfig(
            hidden_size=96,
            num_layers=3,
            num_heads=4,
            inner_size=256,
            max_text=80,
            image_size=SIDE,
            patch_size=16,
            fusion_layers=1,
            dropout=0.0,
        ),
    )


class Study:
    """The stages of the run, each kept in the work folder."""

    def __init__(self, work: Path, seed: int, scale: float) -> None:
        self.work, self.seed, self.scale = work, seed, scale
        self.words = all_words()
        self.config = configuration(len(self.words.words))
        self.processor = MetaLMProcessor(self.config, self.words, bos=1, pad=0)
        self.times: dict[str, dict[str, float]] = {}

    def new_model(self) -> MetaLM:
        model = MetaLM(self.config)
        objective.reset_parameters(model, self.seed)
        return model

    def stage(
        self,
        name: str,
        model: nn.Module,
        loss: Callable[..., Loss],
        data: Any,
        steps: int,
        rate: float,
        *,
        keep: nn.Module | None = None,
        optimizer: str = "muon",
    ) -> None:
        """Train ``model`` in place, or take the weights of an earlier run."""
        steps = max(2, round(steps * self.scale))
        config = TrainConfig(
            steps=steps,
            learning_rate=rate,
            warmup_steps=max(1, steps // 20),
            optimizer=optimizer,  # type: ignore[arg-type]
            weight_decay=0.01,
            log_every=25,
            seed=self.seed,
            final_learning_rate_ratio=0.05,
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
                "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            }
            record.write_text(json.dumps(self.times[name]))
        print(name, self.times[name], f"loss {result.loss:.3f}", flush=True)


def run(work: Path, seed: int, scale: float) -> dict[str, Any]:
    study = Study(work, seed, scale)
    processor = study.processor
    train, test = Vqa("train"), Vqa("test")
    results: dict[str, Any] = {"baselines": blind_baselines(train, test), "few_shot": {}, "vqa": {}}

    base = study.new_model()
    study.stage("encoder", EncoderTask(base), encoder_loss, EncoderData(processor, seed, 32), 700, 3e-3)
    encoder_state = {name: t.clone() for name, t in base.encoder.state_dict().items()}

    def with_encoder() -> MetaLM:
        model = study.new_model()
        model.encoder.load_state_dict(encoder_state)
        return model

    states = {}
    for name, semi_causal in (("causal", False), ("semi-causal", True)):
        model = with_encoder()
        if not semi_causal:
            model.encoder.requires_grad_(False)
            model.connector.requires_grad_(False)
        study.stage(name, model, language_loss, Documents(processor, seed, 24, semi_causal), 700, 3e-3)
        results["few_shot"][name] = few_shot_accuracy(model, processor, 600)
        print(name, results["few_shot"][name], flush=True)
        states[name] = {key: t.clone() for key, t in model.state_dict().items()}

    results["vqa"]["semi-causal, zero-shot"] = {"accuracy": vqa_accuracy(model, processor, test, 500)}
    print("zero-shot", results["vqa"], flush=True)
    arms = {
        "semi-causal, encoder and connector": ("semi-causal", False),
        "causal, encoder and connector": ("causal", False),
        "causal, everything": ("causal", True),
    }
    for arm, (origin, everything) in arms.items():
        model = study.new_model()
        model.load_state_dict(states[origin])
        if everything:
            model.requires_grad_(True)
        else:
            objective.train_encoder_and_connector(model)
        name = arm.replace(", ", "-").replace(" ", "-")
        study.stage(name, model, language_loss, Questions(processor, train, seed, 32), 500, 2e-3)
        results["vqa"][arm] = {
            "accuracy": vqa_accuracy(model, processor, test, 3000),
            "few_shot": few_shot_accuracy(model, processor, 600),
            **study.times[name],
        }
        print(arm, results["vqa"][arm], flush=True)
    results["stages"] = study.times
    return results


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def markdown(record: dict[str, Any]) -> str:
    """The tables of a run."""
    stages = record["stages"]
    lines = [
        "# MetaLM in small",
        "",
        f"`python benchmarks/metalm_small.py --seed {record['seed']} --scale {record['scale']}`, one thread.",
        "",
        "Few-shot accuracy in text, %, choice of two labels that were not together in training (600 documents each):",
        "",
        "| k | " + " | ".join(map(str, SHOTS)) + " |",
        "| --- |" + " --- |" * len(SHOTS),
        *(
            f"| {name} | " + " | ".join(percent(value) for value in curve.values()) + " |"
            for name, curve in record["few_shot"].items()
        ),
        "",
        "easy-VQA, test accuracy in % (3,000 questions; the greedy word of the whole vocabulary):",
        "",
        "| tuned | accuracy | few-shot behind it, k = 4 | parameters tuned | CPU s | steps |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {name}, no picture | {percent(value)} | | | | |"
            for name, value in record["baselines"].items()
        ),
    ]
    for name, arm in record["vqa"].items():
        tuned = (
            f"{percent(list(arm['few_shot'].values())[3])} | {arm['trained_parameters']:,} | {arm['cpu_seconds']} |"
            f" {arm['steps']}"
            if "steps" in arm
            else "| | |"
        )
        lines.append(f"| {name} | {percent(arm['accuracy'])} | {tuned} |")
    lines += ["", "| stage | steps | CPU s | wall s |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {name} | {s['steps']} | {s['cpu_seconds']} | {s['seconds']} |" for name, s in stages.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/metalm-small"), help="checkpoints of the stages"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all numbers of steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    results = run(options.work, options.seed, options.scale)
    machine = {"processor": platform.processor() or platform.machine(), "load": os.getloadavg(), "threads": 1}
    record = {"seed": options.seed, "scale": options.scale, "machine": machine, **results}
    (options.output / "metalm-small.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.output / "metalm-small.md").write_text(markdown(record))
    print(markdown(record))


if __name__ == "__main__":
    main()
