"""Fine-tuning an encoder on labelled texts: a classifier, a tagger, answers to questions, or sentence vectors.

training.run(RECIPES["classify"], TrainOptions(output, data=("reviews.csv",), init_from="bundled:minilm-l6"))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder
from multiway_core import hub
from multiway_core.errors import ConfigError, InputError
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions

from multiway_text.data.squad import Answer, Question, read_squad
from multiway_text.documents import documents
from multiway_text.encoder import examples, tasks
from multiway_text.encoder.examples import Labelled
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings, check_length

Made = TypeVar("Made")
Task = Literal["classify", "tag", "pairs", "extract"]
MAX_HELD_OUT = 2000
"""So many held-out examples are scored at most."""
_TRAIN = TrainConfig(
    steps=1, learning_rate=1e-4, warmup_steps=0, schedule="linear", betas=(0.9, 0.999), weight_decay=0.01
)


@dataclass(frozen=True)
class Recipe:
    """What is learnt of which columns, and how.

    Attributes:
        task: ``classify`` takes rows with ``text`` and ``label`` (and ``pair``, for two texts); ``tag`` CoNLL files or
            rows of tokens and tags; ``extract`` SQuAD's JSON; ``pairs`` rows with ``text`` and ``pair`` that belong
            together (and ``negative``, a text that does not).
        text, label, pair, negative: names of the columns.
        columns: names of a table's columns, where its first line is a row already.
        held_out: files to score on; without them every tenth text is.
        base: the model that is fine-tuned where ``init_from`` names none; "" makes a small new one.
        max_length: tokens of a text; longer ones are cut in training.
        batch_size: rows of a shard; of pairs, each sees the others as negatives.
        epochs: passes over the rows, where ``steps`` are not given.
        scale: of the cosines of pairs (1 / temperature).
    """

    task: Task = "classify"
    text: str = "text"
    label: str = "label"
    pair: str | None = None
    negative: str | None = None
    columns: tuple[str, ...] | None = None
    held_out: tuple[str, ...] = ()
    base: str = "bundled:minilm-l6"
    max_length: int = 128
    batch_size: int = 32
    epochs: float = 3.0
    scale: float = 20.0
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> TrainJob | Iterator[TrainJob]:
        """The job of a run on ``options.data``.

        Raises InputError, DataError (file and line; a label that training has not seen), ModelNotFoundError,
        CheckpointError.
        """
        if self.batch_size < 2 or self.max_length < 8:
            raise ConfigError("a batch needs at least 2 rows, and a text 8 tokens")
        given, scored = self._examples(options.data)
        name = options.init_from or self.base
        sentence = (
            SentenceModel.load(hub.resolve(name), dtype=torch.float32)
            if name
            else new_encoder([one.text for one in given])
        )
        check_length(self.max_length, sentence.encoder)
        torch.manual_seed(options.seed)
        parts = self._parts(sentence, given, scored[:MAX_HELD_OUT], self.max_length, name)
        count = parts.rows or len(given)
        settings = options.apply(self.numbers(options, count))
        batches = Shuffled(parts.make, count, self.batch_size, settings.seed, parts.keys)
        facts = {
            "task": self.task,
            "base": name,
            "train_examples": len(given),
            "held_out_examples": len(scored),
        }
        return TrainJob(
            parts.model,
            parts.objective,
            batches,
            settings,
            parts.export,
            HeldOut(parts.score, best=parts.best, larger_is_better=True),
            facts=facts | parts.facts,
        )

    def numbers(self, options: TrainOptions, count: int) -> TrainConfig:
        """The trainer's numbers for so many rows: by epochs, where ``options`` has no steps."""
        if options.steps is not None:
            return self.train
        steps = max(1, round(self.epochs * count / (self.batch_size * options.num_shards())))
        return replace(self.train, steps=steps, warmup_steps=max(1, steps // 10))

    def _parts(
        self, sentence: SentenceModel, given: list[Any], scored: list[Any], length: int, name: str
    ) -> tasks.TaskParts:
        if self.task == "pairs":
            return tasks.sentence_pairs(sentence, given, scored, length, self.scale)
        makers: dict[str, Callable[..., tasks.TaskParts]] = {
            "classify": tasks.classifier,
            "tag": tasks.tagger,
            "extract": tasks.extractor,
        }
        return makers[self.task](sentence, given, scored, length, name)

    def _examples(
        self, data: Sequence[str], held_out: Sequence[str] | None = None
    ) -> tuple[list[Any], list[Any]]:
        """(to train on, held out). ``held_out``: in place of the recipe's."""
        held_out = self.held_out if held_out is None else held_out
        if not data and not self.base:
            return _split(_documentation_questions() if self.task == "extract" else _documentation(), ())
        if not data:
            raise InputError("fine-tuning needs --data: labelled texts (see --help for their form)")

        def read(paths: Sequence[str]) -> list[Any]:
            if self.task == "tag":
                return examples.read_tagged(paths)
            if self.task == "extract":
                return read_squad(paths)
            if self.task == "pairs":
                return examples.read_pairs(
                    paths,
                    text=self.text,
                    pair=self.pair or "pair",
                    negative=self.negative,
                    columns=self.columns,
                )
            return examples.read_labelled(
                paths, text=self.text, label=self.label, pair=self.pair, columns=self.columns
            )

        return _split(read(data), read(held_out) if held_out else ())


class Shuffled(Generic[Made]):
    """Batches as a pure function of the step; every epoch has an order of its own.

    ``keys``: of each row; rows that share one never meet in a batch (a text must not be its own negative).
    """

    def __init__(
        self,
        make: Callable[[Sequence[int]], Made],
        count: int,
        batch_size: int,
        seed: int,
        keys: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        self.make, self.count, self.batch_size, self.seed, self.keys = make, count, batch_size, seed, keys
        self._orders: dict[int, Any] = {}

    def __call__(self, step: int, shard: int, num_shards: int) -> Made:
        """The batch of one shard of one step."""
        place = (step * num_shards + shard) * self.batch_size
        chosen: list[int] = []
        used: set[int] = set()
        for number in range(place, place + 2 * max(self.count, self.batch_size)):
            if len(chosen) == self.batch_size:
                break
            row = self._row(number)
            if self.keys is not None:
                if used & set(self.keys[row]):
                    continue
                used |= set(self.keys[row])
            chosen.append(row)
        if self.keys is not None and len(chosen) < 2:
            raise InputError("pairs: all rows share a text, so that none is a negative of another")
        return self.make(chosen)

    def _row(self, number: int) -> int:
        epoch, place = divmod(number, self.count)
        if epoch not in self._orders:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
            self._orders = {e: o for e, o in self._orders.items() if abs(e - epoch) <= 2} | {epoch: order}
        return int(self._orders[epoch][place])


def _split(given: list[Any], held_out: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    if held_out:
        return given, list(held_out)
    return examples.split(given)


def _documentation() -> list[Labelled]:
    """Lines of the four longest pages of the documentation that comes with Python, labelled with their page."""
    pages = sorted(documents([]), key=lambda page: len(page.text))[-4:]
    return [
        Labelled(line.strip(), page.name, f"{page.name}:{number}")
        for page in pages
        for number, line in enumerate(page.text.splitlines(), 1)
        if len(re.findall(r"\w+", line)) >= 5
    ]


def _documentation_questions() -> list[Question]:
    """The words before a quoted word of the documentation ask for it; every fourth question is put to a wrong text."""
    found: list[Question] = []
    for page in documents([]):
        for paragraph in re.split(r"\n\s*\n", page.text):
            context = " ".join(paragraph.split())
            asked = re.search(r'((?:\w+ ){3,6})"(\w+)"', context)
            if asked is None or len(context) > 400:
                continue
            answers: tuple[Answer, ...] = (Answer(asked[2], asked.start(2)),)
            if len(found) % 4 == 3:
                context, answers = found[-1].context, ()
            found.append(Question(str(len(found)), asked[1].strip(), context, answers, page.name))
    return found


def new_encoder(texts: Sequence[str]) -> SentenceModel:
    """A small encoder with random weights and a vocabulary of these texts."""
    from multiway_text.data.vocabulary import train_word_piece

    tokenizer = train_word_piece(texts, 1000)
    layout = replace(
        text_encoder.PRESETS["bert-base-uncased"],
        vocab_size=tokenizer.vocab_size,
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        inner_size=128,
        num_positions=128,
    )
    return SentenceModel(TextEncoder(layout), tokenizer, SentenceSettings(normalize=True))


RECIPES: dict[str, Recipe] = {
    "classify": Recipe(),
    "tag": Recipe(task="tag", epochs=5.0, batch_size=16, train=replace(_TRAIN, learning_rate=2e-4)),
    "extract": Recipe(task="extract", epochs=2.0, max_length=384, batch_size=16),
    "pairs": Recipe(task="pairs", epochs=1.0, batch_size=64, train=replace(_TRAIN, learning_rate=5e-5)),
    # Half a minute on one core, on the documentation that comes with Python: shows that every part works.
    "smoke": Recipe(
        base="",
        max_length=32,
        batch_size=16,
        train=replace(_TRAIN, steps=60, warmup_steps=6, learning_rate=1e-3),
    ),
}
