"""MetaLM in small: does a semi-causal language model keep what it can do in context, and what does tuning cost?

    python -m benchmarks.vision_language.metalm_small [--output DIR] [--work FOLDER] [--seed 0] [--scale 1.0]

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

import os
import random
from collections import Counter, defaultdict
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_core.training import Loss
from multiway_vision_language.metalm import objective
from multiway_vision_language.metalm.config import DecoderConfig, EncoderConfig, MetaLMConfig
from multiway_vision_language.metalm.model import MetaLM
from multiway_vision_language.metalm.processor import Document, MetaLMProcessor
from torch import nn

from benchmarks.vision_language import small_world
from benchmarks.vision_language.metalm_small_data import (
    Documents,
    EncoderData,
    Questions,
    Vqa,
    all_words,
    naming,
)
from benchmarks.vision_language.small_world import COLOURS, SHAPES, SIDE, Stages, percent, stage_table

SHOTS = (0, 1, 2, 4, 8)


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


class Setup:
    """Words, configuration and processor of the run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        words = all_words()
        self.config = configuration(len(words.words))
        self.processor = MetaLMProcessor(self.config, words, bos=1, pad=0)

    def new_model(self) -> MetaLM:
        model = MetaLM(self.config)
        objective.reset_parameters(model, self.seed)
        return model


def run(stages: Stages) -> dict[str, Any]:
    seed = stages.seed
    setup = Setup(seed)
    processor = setup.processor
    train, test = Vqa("train"), Vqa("test")
    results: dict[str, Any] = {"baselines": blind_baselines(train, test), "few_shot": {}, "vqa": {}}

    base = setup.new_model()
    stages.train("encoder", EncoderTask(base), encoder_loss, EncoderData(processor, seed, 32), 700, 3e-3)
    encoder_state = {name: t.clone() for name, t in base.encoder.state_dict().items()}

    def with_encoder() -> MetaLM:
        model = setup.new_model()
        model.encoder.load_state_dict(encoder_state)
        return model

    states = {}
    for name, semi_causal in (("causal", False), ("semi-causal", True)):
        model = with_encoder()
        if not semi_causal:
            model.encoder.requires_grad_(False)
            model.connector.requires_grad_(False)
        stages.train(name, model, language_loss, Documents(processor, seed, 24, semi_causal), 700, 3e-3)
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
        model = setup.new_model()
        model.load_state_dict(states[origin])
        if everything:
            model.requires_grad_(True)
        else:
            objective.train_encoder_and_connector(model)
        name = arm.replace(", ", "-").replace(" ", "-")
        stages.train(name, model, language_loss, Questions(processor, train, seed, 32), 500, 2e-3)
        results["vqa"][arm] = {
            "accuracy": vqa_accuracy(model, processor, test, 3000),
            "few_shot": few_shot_accuracy(model, processor, 600),
            **stages.times[name],
        }
        print(arm, results["vqa"][arm], flush=True)
    results["stages"] = stages.times
    return results


def markdown(record: dict[str, Any]) -> str:
    """The tables of a run."""
    lines = [
        "# MetaLM in small",
        "",
        f"`python -m {__spec__.name} --seed {record['seed']} --scale {record['scale']}`, one thread.",
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
    lines += ["", *stage_table(record["stages"])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    small_world.main(__doc__, "metalm-small", run, markdown)
