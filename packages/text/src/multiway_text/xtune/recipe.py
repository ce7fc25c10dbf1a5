"""Fine-tuning for other languages in two stages, on rows of an encoder's tasks or the files of XTREME's.

training.run(RECIPES["xnli"], TrainOptions(output, data=("multinli.train.en.tsv",), init_from="xlm-roberta-base"))

The first stage learns D with R1. The second begins anew, learns D and an augmented copy A*(D), and stays near the first
stage's model on the copy (R2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import ConfigError, DataError, InputError
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions

from multiway_text.data.xtreme import READERS
from multiway_text.encoder import checkpoint, examples
from multiway_text.encoder import recipe as encoder_recipe
from multiway_text.encoder.recipe import MAX_HELD_OUT
from multiway_text.encoder.sentence import SentenceModel, check_length
from multiway_text.encoder.tasks import export_with, pipeline_of
from multiway_text.xtune.augmentation import Augmentation, EmbeddingNoise, Kind
from multiway_text.xtune.batches import AugmentedBatches, AugmentedRows, XTuneObjective
from multiway_text.xtune.dictionaries import Dictionary, read_dictionaries
from multiway_text.xtune.objective import Reduction
from multiway_text.xtune.tasks import Classes, Spans, Tags, Task

_TRAIN = TrainConfig(
    steps=1, learning_rate=1e-5, warmup_steps=0, schedule="linear", betas=(0.9, 0.999), weight_decay=0.0
)


@dataclass(frozen=True)
class Recipe(encoder_recipe.Recipe):
    """The fields of encoder fine-tuning, and those of xTune.

    Attributes:
        layout: of the files: a key of `multiway_text.data.xtreme.READERS`; "" for those of encoder fine-tuning.
        stages: 1 ends with the first stage's model.
        stage1: a first stage's model that is there already.
        augmentation: A, of R1. corpus_augmentation: A*, of the second stage's copy of the data; None: the same.
        ratio, alpha: see `Augmentation`. noise: standard deviation of what is added to word embeddings.
        dictionaries: files or folders, for code-switching; ``languages``: only these of them.
        translations: files with the same rows as the data, one for each language.
        lambda1, lambda2: weights of R1 and R2; with a ``lambda2`` of 0 there is no first stage.
        reduction: of divergences between classes. hard_labels: R2 by the first stage's likeliest labels.
        sum_words: tag: a word's logits are those of the sum of its tokens' states.
        stage2_steps: of the second stage, where ``epochs`` do not say it.
    """

    layout: str = ""
    stages: int = 2
    stage1: str | None = None
    augmentation: Kind = "code-switch"
    corpus_augmentation: Kind | None = None
    ratio: float = 0.3
    alpha: float = 0.3
    noise: float = 1e-5
    dictionaries: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    translations: tuple[str, ...] = ()
    lambda1: float = 5.0
    lambda2: float = 5.0
    reduction: Reduction = "element"
    hard_labels: bool = False
    sum_words: bool = False
    stage2_steps: int | None = None
    base: str = "xlm-roberta-base"
    epochs: float = 10.0
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """The jobs of a run on ``options.data``: stage-1, stage-2.

        Raises InputError, ConfigError, DataError (file and line; a label that training has not seen; files of unequal
        length), ModelNotFoundError, CheckpointError.
        """
        if self.task == "pairs" or self.stages not in (1, 2):
            raise ConfigError("xTune learns classify, tag or extract, in 1 or 2 stages")
        if min(self.lambda1, self.lambda2) < 0 or self.batch_size < 2 or self.max_length < 8:
            raise ConfigError(
                "lambda1 and lambda2 are at least 0, a batch has 2 rows or more, a text 8 tokens"
            )
        if self.augmentation == "translation" and self.task != "classify":
            raise ConfigError(
                "R1 compares words in their places; with translations only a classifier can learn it"
            )
        run = _Run(self, options)
        teacher: Any = None
        if self.stage1 is not None:
            teacher = run.first_stage(self.stage1)
        elif self.stages == 1 or self.lambda2 > 0:
            job = run.job("stage-1", None, None)
            yield job
            teacher = job.model
        if self.stages == 2:
            yield run.job("stage-2", run.augmentation(self.corpus_augmentation or self.augmentation), teacher)

    def sets(self, data: Sequence[str]) -> tuple[list[Any], Mapping[str, list[Any]]]:
        """(examples to train on, held-out ones by language or file)."""
        if not self.layout:
            given, held_out = self._examples(data)
            if len(self.held_out) > 1:
                return given, {path: self._examples(data, (path,))[1] for path in self.held_out}
            return given, {"": held_out}
        if not data:
            raise InputError("fine-tuning needs --data: the files of the task (see --help)")
        read = READERS[self.layout]
        given = [one for rows in read(data).values() for one in rows]
        if self.held_out:
            return given, read(self.held_out)
        given, held_out = examples.split(given)
        return given, {"": held_out}


class _Run:
    """What the stages share: examples, labels, dictionaries and translations."""

    def __init__(self, recipe: Recipe, options: TrainOptions) -> None:
        self.recipe, self.options = recipe, options
        self.given, self.held_out = recipe.sets(options.data)
        self.name = options.init_from or recipe.base
        self.labels = [] if recipe.task == "extract" else examples.labels_of(self.given)
        for scored in self.held_out.values():
            if recipe.task != "extract":
                examples.check_labels(scored, self.labels)
        kinds = {recipe.augmentation, recipe.corpus_augmentation}
        self.dictionaries: dict[str, Dictionary] = {}
        if "code-switch" in kinds:
            if not recipe.dictionaries:
                raise InputError(
                    "code-switching needs --dictionary: MUSE's en-de.txt, or freedict-eng-deu.index"
                )
            self.dictionaries = read_dictionaries(recipe.dictionaries, recipe.languages)
        self.translated = [self._translated(path) for path in recipe.translations if "translation" in kinds]
        if "translation" in kinds and not self.translated:
            raise InputError(
                "the translations are missing: --translations names files with the rows of --data"
            )

    def augmentation(self, kind: Kind) -> Augmentation:
        """With the recipe's numbers."""
        return Augmentation(kind, self.recipe.ratio, self.recipe.alpha, self.dictionaries)

    def first_stage(self, name: str) -> Any:
        """The model of an earlier run. Raises DataError: it has other labels."""
        kind = self._task(self._sentence()).kind
        model, labels = checkpoint.load(hub.resolve(name), kind)
        if self.labels and labels != self.labels:
            raise DataError(
                f"{name}: has the labels {', '.join(labels[:8])}; the data has {', '.join(self.labels[:8])}"
            )
        return model

    def job(self, name: str, corpus: Augmentation | None, teacher: Any) -> TrainJob:
        """A stage, from the encoder's first weights."""
        recipe, options = self.recipe, self.options
        torch.manual_seed(options.seed)
        sentence = self._sentence()
        task = self._task(sentence)
        model = task.model(sentence)
        r1 = self.augmentation(recipe.augmentation) if recipe.lambda1 > 0 else None
        for augmentation in (r1, corpus):
            if augmentation is not None:
                augmentation.check(sentence.tokenizer)
        rows, sources = self._rows(task, self.given)
        translated = []
        for language in self.translated:
            by_source: dict[int, list[Any]] = {}
            for row, source in zip(*self._rows(task, language), strict=True):
                by_source.setdefault(source, []).append(row)
            translated.append(by_source)
        augmented = AugmentedRows(task, rows, sources, translated, r1, corpus, sentence.encoder.config.pad_id)
        config = self._numbers(len(augmented), corpus is not None)

        def score(module: Any) -> dict[str, float]:
            pipeline = pipeline_of(module, sentence, self.labels)
            found = {
                key: task.score(pipeline, scored[:MAX_HELD_OUT]) for key, scored in self.held_out.items()
            }
            names = list(next(iter(found.values())))
            means = {name: float(np.mean([scores[name] for scores in found.values()])) for name in names}
            more = {f"{task.best} of {key}": scores[task.best] for key, scores in found.items()}
            return means | (more if len(found) > 1 else {})

        objective = XTuneObjective(
            task,
            EmbeddingNoise(model.encoder.token_embedding, recipe.noise),
            recipe.lambda1,
            recipe.lambda2,
            recipe.reduction,
            teacher,
            recipe.hard_labels,
        )
        return TrainJob(
            model,
            objective,
            AugmentedBatches(augmented, recipe.batch_size, config.seed),
            config,
            export_with(sentence.tokenizer, self.labels),
            HeldOut(score, best=task.best, larger_is_better=True),
            name=name,
            facts={
                "method": "xtune",
                "task": recipe.task,
                "base": self.name,
                "train_examples": len(self.given),
                "held_out_examples": sum(map(len, self.held_out.values())),
                "rows": len(augmented),
            },
        )

    def _numbers(self, count: int, second: bool) -> TrainConfig:
        recipe = self.recipe
        if second and recipe.stage2_steps is not None and self.options.steps is None:
            steps = recipe.stage2_steps
            return self.options.apply(replace(recipe.train, steps=steps, warmup_steps=steps // 10))
        return self.options.apply(recipe.numbers(self.options, count))

    def _sentence(self) -> SentenceModel:
        if not self.name:
            return encoder_recipe.new_encoder([one.text for one in self.given])
        return SentenceModel.load(hub.resolve(self.name), dtype=torch.float32)

    def _task(self, sentence: SentenceModel) -> Task:
        length = self.recipe.max_length
        check_length(length, sentence.encoder)
        if self.recipe.task == "classify":
            return Classes(sentence, self.labels, length)
        if self.recipe.task == "tag":
            return Tags(sentence, self.labels, length, self.recipe.sum_words)
        return Spans(sentence, self.labels, length)

    def _rows(self, task: Task, given: Sequence[Any]) -> tuple[list[Any], list[int]]:
        """(rows, the example of each)."""
        found = [(row, source) for source, one in enumerate(given) for row in task.rows(one)]
        return [row for row, _ in found], [source for _, source in found]

    def _translated(self, path: str) -> list[Any]:
        """The examples of one language. Raises DataError: not one for each of the data, or with another label."""
        found, _ = replace(self.recipe, held_out=(path,)).sets((path,))
        if len(found) != len(self.given):
            raise DataError(
                f"{path}: {len(found)} rows, but the data has {len(self.given)}: one is expected for each"
            )
        if self.recipe.task == "classify":
            for ours, theirs in zip(self.given, found, strict=True):
                if ours.label != theirs.label:
                    raise DataError(
                        f"{theirs.where}: the label {theirs.label!r}, but {ours.where} has {ours.label!r}"
                    )
        elif self.recipe.task == "tag":
            examples.check_labels(found, self.labels)
        return found


def _presets() -> dict[str, Recipe]:
    """Table 9.3 of XTREME's tasks for base models, trained on English: lambdas, lengths, learning rates."""

    def rate(learning_rate: float) -> TrainConfig:
        return replace(_TRAIN, learning_rate=learning_rate)

    pairs = Recipe(max_length=256)
    tags = Recipe(task="tag", augmentation="subword", train=rate(1e-5))
    answers = Recipe(
        task="extract",
        layout="squad",
        max_length=384,
        epochs=4.0,
        corpus_augmentation="subword",
        stage2_steps=24_000,
        train=rate(3e-5),
    )
    tydiqa = replace(answers, augmentation="subword", epochs=20.0, stage2_steps=5000)
    return {
        "classify": Recipe(),
        "tag": replace(tags, train=rate(2e-5)),
        "extract": replace(answers, stage2_steps=None),
        "xnli": replace(pairs, layout="xnli", train=rate(7e-6)),
        "paws-x": replace(pairs, layout="paws-x", ratio=0.5, lambda2=2.0),
        "panx": replace(tags, layout="panx", hard_labels=True),
        "udpos": replace(tags, layout="udpos", sum_words=True, lambda2=0.3, train=rate(2e-5)),
        "mlqa": answers,
        "xquad": answers,
        "tydiqa": tydiqa,
        # Half a minute on one core, on the documentation that comes with Python: shows that every part works.
        "smoke": Recipe(
            base="",
            augmentation="noise",
            noise=0.01,
            max_length=32,
            batch_size=16,
            train=replace(_TRAIN, steps=40, warmup_steps=4, learning_rate=1e-3),
        ),
    }


RECIPES = _presets()
