"""Kosmos-1 in small: matrices, rendered opinions, classes told in words, and examples in context.

    python -m benchmarks.vision_language.kosmos1_small [--output DIR] [--work FOLDER] [--seed 0] [--scale 1.0]

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

import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_core.training import Loss
from multiway_vision_language.kosmos1 import objective, raven
from multiway_vision_language.kosmos1 import processor as formats
from multiway_vision_language.kosmos1.inference import Kosmos1Generator
from multiway_vision_language.kosmos1.model import Kosmos1
from multiway_vision_language.kosmos1.processor import Kosmos1Processor
from multiway_vision_language.kosmos2.config import Kosmos2Config, TextConfig, TokenConfig, VisionConfig
from multiway_vision_language.kosmos2.model import ImageFeatures
from multiway_vision_language.kosmos2.objective import next_token_loss
from multiway_vision_language.kosmos2.processor import TokenBatch
from torch import Tensor, nn

from benchmarks.vision_language import small_world
from benchmarks.vision_language.kosmos1_small_data import (
    HEADS,
    IGNORED,
    Album,
    Drawings,
    Matrices,
    MixedDocuments,
    Part,
    all_words,
    described,
    encode,
    matrix_batch,
    naming,
    pictures,
)
from benchmarks.vision_language.small_world import SIDE, Stages, Words, percent, stage_table

SHOTS = (0, 1, 2, 4)
LINES = ("noun", "verb", "adjective")  # in rows of patches from the top


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


class Setup:
    """Words, configuration and processor of the run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        words = all_words()
        self.config = configuration(words)
        self.processor = Kosmos1Processor(self.config, words)

    def new_model(self) -> Kosmos1:
        model = Kosmos1(self.config)
        objective.reset_parameters(model, self.seed)
        return model


def run(stages: Stages) -> dict[str, Any]:
    seed = stages.seed
    setup = Setup(seed)
    processor = setup.processor
    base = setup.new_model()
    task = TowerTask(base)
    stages.train("tower", task, tower_loss, Drawings(processor, str(seed), 48), 900, 3e-3)
    results: dict[str, Any] = {"tower": tower_accuracy(task, Drawings(processor, "test", 600, test=True))}
    print(results, flush=True)
    tower = base.vision.state_dict()

    base.eval()
    train = Album(base, processor, str(seed), test=False, copies=2)
    test = Album(base, processor, str(seed), test=True, copies=1)

    def behind_the_tower() -> Kosmos1:
        model = setup.new_model()
        model.vision.load_state_dict(tower)
        model.vision.requires_grad_(False)
        return model

    interleaved, pairs = behind_the_tower(), behind_the_tower()
    for name, model in (("interleaved", interleaved), ("pairs", pairs)):
        data = MixedDocuments(processor, train, seed, 1500, interleaved=name == "interleaved")
        stages.train(name, model, language_loss, data, 900, 3e-3)
        results[name] = {
            "shots": shot_curve(model, processor, test, 600),
            "sentiment": sentiment_accuracy(model, processor, test),
            "descriptions": description_accuracy(model, processor, test, 600),
        }
        print(name, results[name], flush=True)

    solver = behind_the_tower()
    stages.train("matrices", solver, language_loss, Matrices(processor, train, seed, 16), 900, 3e-3)
    results["matrices"] = {
        f"{size}x{size}, {'held-out' if unseen else 'training'} values": matrix_accuracy(
            solver, processor, test, 600, size=size, test=unseen
        )
        for size in (2, 3)
        for unseen in (True, False)
    } | {"chance": 1 / raven.NUM_CANDIDATES}
    print(results["matrices"], flush=True)
    results["cache"] = cached_against_passes(solver, processor, 30)
    results["stages"] = stages.times
    return results


def markdown(record: dict[str, Any]) -> str:
    """The tables of a run."""
    arms = {"with interleaved documents": record["interleaved"], "pairs only": record["pairs"]}
    cache = record["cache"]
    lines = [
        "# Kosmos-1 in small",
        "",
        f"`python -m {__spec__.name} --seed {record['seed']} --scale {record['scale']}`, one thread.",
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
        *stage_table(record["stages"]),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    small_world.main(__doc__, "kosmos1-small", run, markdown)
