"""InfoXLM in small: what contrast of translations adds to masked language models over many languages.

    python -m benchmarks.text.infoxlm_small --data FOLDER --tatoeba FOLDER [--work FOLDER] [--minutes 9]

FOLDER holds train.jsonl, dev.jsonl and test.jsonl of `multiway_text.data.package_descriptions` in Danish, German,
English, French and Italian, split by source package. Encoders of 2 layers of 128 with one Unigram vocabulary of 8,192
pieces learn from titles of the training split and their translations (of at most 20,000 packages a language), in rows
of 32 tokens. Names and digits are taken out of what they learn from and of what is searched for: words with a digit, a
sign or a capital inside, words that English texts write with a capital inside sentences, and those of the package's own
name. (Otherwise contrast learns to find names, which are the same in all languages.) For each seed a start is trained
by MMLM alone, as the paper begins with XLM-R; every arm goes on from there with equal steps.

* body, title: accuracy@1 of finding an English text's translation and back among those of held-out packages (at most
  500 a language), by cosine of the mean state of the middle layer, less the mean of all texts of the side.
* body by <s>, title by <s>: by the state of `<s>`, on which the contrast is trained.
* Tatoeba: the same on its 1,000 sentences for each of fra, deu and ita, as they are; nothing was trained on such
  texts.
* section: a classifier of the twelve most frequent sections, fine-tuned on English bodies and tested on bodies of the
  test split in English and, zero-shot, in the other four languages.
* control: the same retrieval by TF-IDF of characters (1 to 3 in a row), which sees what translations copy.

Negatives are the batch's other keys (`queue_size=0`); "queue" has 1,024 keys of a momentum encoder at a tenth of the
rate, beside MMLM+TLM at that rate. --pilot, by which sizes and rates were chosen, has seed 99 and the dev split. All
other numbers are of the test split, which nothing else reads. Needs scikit-learn.

The work is cut in cells (an arm with a seed); what the folder --work holds is not done again, and after --minutes
none is begun: the same command goes on.
"""

from __future__ import annotations

import os
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_blocks import text_encoder
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainConfig, TrainOptions
from multiway_text.data.package_descriptions import PackageDescription, load
from multiway_text.data.vocabulary import train_unigram
from multiway_text.encoder.heads import SequenceClassifier
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.sentence import Pooling
from multiway_text.encoder.tasks import padded
from multiway_text.infoxlm.config import Contrast
from multiway_text.infoxlm.recipe import SENTENCES, Recipe
from torch import Tensor, nn

from benchmarks.text.paired_gaps import paired_gaps
from benchmarks.text.unilm_small import fit

LANGUAGES = ("da", "de", "fr", "it")
TATOEBA = {"fr": "fra", "de": "deu", "it": "ita"}
LENGTH, BATCH, VOCABULARY, TAUGHT = 32, 64, 8192, 20_000
START_STEPS, STEPS = 600, 2000
START_RATE, RATE, QUEUE_RATE = 1e-3, 2e-3, 2e-4
CONTRAST = Contrast(queue_size=0)
RETRIEVAL, SECTIONS, CLASSIFIED, EPOCHS, TESTED, SECTION_RATE = 500, 12, 2400, 3, 400, 5e-4
PILOT_SEED = 99
_WORD = re.compile(r"[^\W_]+(?:[_.+/:@&][^\W_]+)*")


@dataclass(frozen=True)
class Arm:
    """What is trained from the start on."""

    tasks: tuple[str, ...]
    steps: int = STEPS
    contrast: Contrast = CONTRAST
    rate: float = RATE


ALL = ("mmlm", "tlm", "xlco")
ARMS = {
    "+XlCo": Arm(ALL),
    "MMLM+TLM": Arm(("mmlm", "tlm")),
    "MMLM": Arm(("mmlm",)),
    "start": Arm((), 0),
    "+XlCo without mixup": Arm(ALL, contrast=replace(CONTRAST, mixup=False)),
    "+XlCo, queue": Arm(ALL, contrast=Contrast(queue_size=1024, momentum=0.999), rate=QUEUE_RATE),
    "MMLM+TLM, the queue's rate": Arm(("mmlm", "tlm"), rate=QUEUE_RATE),
}
MEASURES = (
    "body", "title", "Tatoeba", "body by <s>", "title by <s>", "Tatoeba by <s>",
    "section, English", "section, zero-shot",
)  # fmt: skip
CLAIMS = [
    ("MMLM", "MMLM+TLM"), ("MMLM+TLM", "+XlCo"), ("MMLM+TLM", "+XlCo without mixup"), ("+XlCo without mixup", "+XlCo"),
]  # fmt: skip


def by_id(records: Iterable[PackageDescription]) -> list[dict[str, PackageDescription]]:
    """The descriptions of each package in English and other languages of the study."""
    found: dict[str, dict[str, PackageDescription]] = {}
    for record in records:
        if record.language in ("en", *LANGUAGES):
            found.setdefault(record.id, {})[record.language] = record
    return [group for group in found.values() if "en" in group]


def recipe_of(tasks: tuple[str, ...], steps: int, rate: float, contrast: Contrast, work: Path) -> Recipe:
    return Recipe(
        tasks=tasks,
        contrast=contrast,
        size="tiny",
        max_tokens=1_000_000,
        tokenizer=str(work / "tokenizer"),
        length=LENGTH,
        batch_size=BATCH,
        scored=64,
        train=TrainConfig(
            steps=steps,
            learning_rate=rate,
            warmup_steps=steps // 10,
            schedule="linear",
            betas=(0.9, 0.98),
            weight_decay=0.01,
            precision="bf16",
            log_every=100,
            checkpoint_every_seconds=0,
        ),
    )


def pretrain(recipe: Recipe, seed: int, work: Path, output: Path, init_from: Path | None) -> Path:
    """The model's folder. The tokens of the texts are made once, and shared."""
    output.mkdir(parents=True, exist_ok=True)
    (work / "data").mkdir(exist_ok=True)
    if not (output / "data").exists():
        (output / "data").symlink_to((work / "data").resolve())
    data = tuple(f"en-{language}={work / f'en-{language}.tsv'}" for language in LANGUAGES)
    start = None if init_from is None else str(init_from)
    options = TrainOptions(output, data, init_from=start, seed=seed, checkpoint_every=0)
    return harness.trained(recipe, options).folder


class Names:
    """Takes names and digits out of texts, by a rule that does not look at a text's translation."""

    def __init__(self, english: Iterable[str]) -> None:
        inside, capital = Counter[str](), Counter[str]()
        for text in english:
            for word in re.findall(r"(?<=[a-z,] )[^\W\d_]+", text):
                inside[word.lower()] += 1
                capital[word.lower()] += word[0].isupper()
        self.names = {word for word, count in inside.items() if 2 * capital[word] > count}

    def without(self, text: str, package: str) -> str:
        own = {part for part in re.split(r"[^a-z]+", package.lower()) if len(part) > 2}
        words = [
            word
            for word in _WORD.findall(text)
            if word.isalpha()
            and (len(word) == 1 or word[1:].islower())
            and word.lower() not in self.names
            and word.lower() not in own
        ]
        return " ".join(words)


def prepare(train: Sequence[PackageDescription], work: Path) -> None:
    """The files of translations without names, in random order, and the vocabulary."""
    names = Names(record.body for record in train[::4] if record.language == "en")
    groups = by_id(train)
    random.Random(0).shuffle(groups)
    for language in LANGUAGES:
        lines = []
        for group in [group for group in groups if language in group][:TAUGHT]:
            sides = [names.without(group[code].title, group["en"].package) for code in ("en", language)]
            if min(len(side.split()) for side in sides) > 2:
                lines.append("\t".join(sides))
        (work / f"en-{language}.tsv").write_text("\n".join(lines) + "\n")
    texts = [f"{one.title}\n{one.body}" for group in groups[:8000] for one in group.values()]
    train_unigram(texts, VOCABULARY).save(work / "tokenizer")


@dataclass(frozen=True)
class Sets:
    """What is measured on: by name pairs of texts, for each language; and rows of (body, section)."""

    retrieval: dict[str, dict[str, list[tuple[str, str]]]]
    taught: list[tuple[str, str]]
    tested: dict[str, list[tuple[str, str]]]

    @classmethod
    def of(
        cls, train: Sequence[PackageDescription], scored: Sequence[PackageDescription], tatoeba: Path
    ) -> Sets:
        names = Names(record.body for record in (*train[::4], *scored) if record.language == "en")
        groups = by_id(scored)
        random.Random(0).shuffle(groups)
        retrieval: dict[str, dict[str, list[tuple[str, str]]]] = {}
        for field in ("body", "title"):
            retrieval[field] = {
                language: _distinct(
                    tuple(names.without(getattr(group[code], field), group["en"].package) for code in ("en", language))
                    for group in groups
                    if language in group
                )
                for language in LANGUAGES
            }  # fmt: skip
        retrieval["Tatoeba"] = {
            language: list(
                zip(
                    *(
                        (tatoeba / f"tatoeba.{code}-eng.{side}").read_text().splitlines()
                        for side in ("eng", code)
                    ),
                    strict=True,
                )
            )
            for language, code in TATOEBA.items()
        }
        english = [record for record in train if record.language == "en"]
        sections = {name for name, _ in Counter(record.section for record in english).most_common(SECTIONS)}

        def rows(records: Iterable[PackageDescription], count: int) -> list[tuple[str, str]]:
            found = [(record.body, record.section) for record in records if record.section in sections]
            return random.Random(0).sample(found, count)

        tested = {
            code: rows((r for r in scored if r.language == code), TESTED) for code in ("en", *LANGUAGES)
        }
        return cls(retrieval, rows(english, CLASSIFIED), tested)


def _distinct(pairs: Iterable[tuple[str, ...]]) -> list[tuple[str, str]]:
    """Pairs of three words or more on both sides, none of which has a side of an earlier one."""
    found: list[tuple[str, str]] = []
    seen: set[str] = set()
    for first, second in pairs:
        if min(len(first.split()), len(second.split())) < 3 or {first, second} & seen:
            continue
        seen |= {first, second}
        found.append((first, second))
        if len(found) == RETRIEVAL:
            break
    return found


def accuracy_at_1(scores_NN: np.ndarray) -> float:
    """Of both directions, in percent."""
    own_N = np.arange(len(scores_NN))
    return 50 * float((scores_NN.argmax(1) == own_N).mean() + (scores_NN.argmax(0) == own_N).mean())


def retrieval(
    sets: Sets, similarity: Callable[[list[str], list[str]], np.ndarray]
) -> dict[str, dict[str, float]]:
    return {
        name: {
            language: accuracy_at_1(similarity(*map(list, zip(*pairs, strict=True))))
            for language, pairs in of_language.items()
        }
        for name, of_language in sets.retrieval.items()
    }


def by_model(folder: Path, pooling: Pooling) -> Callable[[list[str], list[str]], np.ndarray]:
    pipeline = EncoderPipeline.from_pretrained(str(folder / SENTENCES))
    pipeline.sentence.settings = replace(pipeline.sentence.settings, pooling=(pooling,))

    def similarity(first: list[str], second: list[str]) -> np.ndarray:
        sides = [np.asarray(pipeline.embed(texts).vectors) for texts in (first, second)]
        sides = [side_NE - side_NE.mean(0) for side_NE in sides]
        a_NE, b_NE = (side_NE / np.linalg.norm(side_NE, axis=1, keepdims=True) for side_NE in sides)
        return a_NE @ b_NE.T

    return similarity


def by_characters(first: list[str], second: list[str]) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True)
    vectorizer.fit(first + second)
    return (vectorizer.transform(first) @ vectorizer.transform(second).T).toarray()


def sections(folder: Path, sets: Sets, seed: int) -> dict[str, float]:
    """Accuracy by language of a classifier that learnt from English bodies, in percent."""
    encoder = text_encoder.load(folder)
    tokenizer = TextTokenizer.from_folder(folder)
    numbers = {name: index for index, name in enumerate(sorted({name for _, name in sets.taught}))}
    torch.manual_seed(seed)
    model = SequenceClassifier(encoder, len(numbers))

    def logits(model: nn.Module, rows: Sequence[tuple[str, str]]) -> Tensor:
        encoded = tokenizer.encode_batch([body for body, _ in rows])
        batch = padded(
            [tokenizer.add_special_tokens(ids, max_length=LENGTH)[0] for ids in encoded], tokenizer.pad_id
        )
        return model(batch.ids_BT, batch.valid_BT).float()

    def loss(model: nn.Module, rows: Sequence[tuple[str, str]]) -> Tensor:
        targets = torch.tensor([numbers[name] for _, name in rows])
        return nn.functional.cross_entropy(logits(model, rows), targets)

    batches = []
    for epoch in range(EPOCHS):
        rows = random.Random(f"{seed} {epoch}").sample(sets.taught, CLASSIFIED)
        batches += [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    fit(model, batches, loss, SECTION_RATE)
    found = {}
    with torch.no_grad():
        for language, tested in sets.tested.items():
            best = torch.cat([logits(model, tested[i : i + 100]).argmax(1) for i in range(0, TESTED, 100)])
            right = [numbers[name] == one for (_, name), one in zip(tested, best.tolist(), strict=True)]
            found[language] = 100 * statistics.mean(right)
    return found


def cell(name: str, seed: int, sets: Sets, work: Path) -> dict[str, Any]:
    """An arm's numbers; the start of its seed is trained first where it is not there."""
    arm = ARMS[name]
    start = recipe_of(("mmlm",), START_STEPS, START_RATE, CONTRAST, work)
    folder = pretrain(start, seed, work, work / f"start-{seed}", None)
    started = time.process_time()
    if arm.steps:
        recipe = recipe_of(arm.tasks, arm.steps, arm.rate, arm.contrast, work)
        folder = pretrain(recipe, seed, work, work / f"{name.replace(' ', '-')}-{seed}", folder)
    found: dict[str, Any] = {"pretrain_cpu_seconds": time.process_time() - started}
    by_mean = retrieval(sets, by_model(folder, "mean"))
    by_first = retrieval(sets, by_model(folder, "cls"))
    found["retrieval"] = by_mean | {f"{kind} by <s>": one for kind, one in by_first.items()}
    for measure, of_language in found["retrieval"].items():
        found[measure] = statistics.mean(of_language.values())
    found["sections"] = sections(folder, sets, seed)
    found["section, English"] = found["sections"]["en"]
    found["section, zero-shot"] = statistics.mean(found["sections"][code] for code in LANGUAGES)
    return found


def markdown(report: dict[str, Any], sets: Sets) -> str:
    by_arm: dict[str, dict[int, dict[str, Any]]] = report["cells"]
    rows, languages = [], []
    kinds = [(kind, code) for kind, pairs in sets.retrieval.items() for code in pairs]
    for name, by_seed in by_arm.items():
        if not by_seed:
            continue
        found = list(by_seed.values())
        seconds = statistics.mean(one["pretrain_cpu_seconds"] for one in found)
        numbers = (harness.spread([one[measure] for one in found]) for measure in MEASURES)
        rows.append([name, len(found), ARMS[name].steps, f"{seconds:.0f}", *numbers])
        languages.append(
            [
                name,
                *(
                    f"{statistics.mean(one['retrieval'][kind][code] for one in found):.1f}"
                    for kind, code in kinds
                ),
            ]
        )
    control = report["control"]
    rows.append(
        ["control: characters", "", "", "", *(f"{control[m]:.1f}" if m in control else "" for m in MEASURES)]
    )
    languages.append(
        ["control: characters", *(f"{control['retrieval'][kind][code]:.1f}" for kind, code in kinds)]
    )
    gaps = [
        f"{measure}, points by which the second is better:\n\n"
        + paired_gaps(
            {name: {seed: -one[measure] for seed, one in found.items()} for name, found in by_arm.items()},
            CLAIMS,
        )
        for measure in MEASURES
    ]
    counts = ", ".join(f"{kind} {code} {len(sets.retrieval[kind][code])}" for kind, code in kinds)
    machine = report["machine"]
    text = [
        "# InfoXLM in small",
        f"Percent, mean ± standard deviation over seeds; zero-shot is the mean of {', '.join(LANGUAGES)}. CPU seconds "
        f"are those of the arm's own steps. One thread of {machine['cpu']} at a load of {machine['load_average']:.0f}; "
        f"`{report['command']}`.",
        harness.table(["arm", "seeds", "steps", "CPU s", *MEASURES], rows),
        *gaps,
        f"Retrieval by language, mean over seeds (pairs: {counts}):\n\n"
        + harness.table(["arm", *(f"{kind} {code}" for kind, code in kinds)], languages),
    ]
    return "\n\n".join(text) + "\n"


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tatoeba", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/infoxlm-small"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no cell begins")
    parser.add_argument("--pilot", action="store_true", help="seed 99 on the dev split; writes no page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    train = [r for r in load(options.data / "train.jsonl") if r.language in ("en", *LANGUAGES)]
    scored = load(options.data / ("dev.jsonl" if options.pilot else "test.jsonl"))
    if not (options.work / "tokenizer").exists():
        prepare(train, options.work)
    sets = Sets.of(train, scored, options.tatoeba)
    seeds = [PILOT_SEED] if options.pilot else range(options.seeds)
    cells: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in ARMS}
    for name, seed in product(ARMS, seeds):
        path = options.work / f"{name.replace(' ', '-')}-{seed}.json"
        found = harness.kept(path, partial(cell, name, seed, sets, options.work), options.minutes)
        if found is not None:
            cells[name][seed] = found
    control: dict[str, Any] = {"retrieval": retrieval(sets, by_characters)}
    control |= {kind: statistics.mean(found.values()) for kind, found in control["retrieval"].items()}
    report = {**harness.provenance("infoxlm-small"), "cells": cells, "control": control}
    if options.pilot:
        print(markdown(report, sets))
    else:
        harness.save(options.output, "infoxlm-small", report, markdown(report, sets))


if __name__ == "__main__":
    main()
