"""A small encoder for a domain, by one of the paper's four strategies (section 3.3); everything lies in ``output``.

==================  ===============================================================================================
scratch             a small encoder is pretrained on the domain's texts
distil-then-adapt   the general teacher is distilled into a small encoder, which is then adapted
adapt-then-distil   the teacher is adapted and distilled into a small general encoder
adapt-and-distil    teacher and small encoder are both adapted, then one is distilled into the other
==================  ===============================================================================================

To adapt is to grow the vocabulary and to go on with masked-LM pretraining on the domain's texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from multiway_blocks import text_encoder
from multiway_core import files, hub
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainConfig, TrainJob, TrainOptions

from multiway_text import pretraining
from multiway_text.adalm import vocabulary
from multiway_text.adalm.embedding import extend
from multiway_text.adalm.vocabulary import Keep
from multiway_text.documents import documents
from multiway_text.encoder import checkpoint
from multiway_text.encoder.sentence import check_tokenizer
from multiway_text.minilm import recipe as minilm

Strategy = Literal["scratch", "distil-then-adapt", "adapt-then-distil", "adapt-and-distil"]
STRATEGIES = ("scratch", "distil-then-adapt", "adapt-then-distil", "adapt-and-distil")
REPORT_FILE = "vocabulary.json"
_ADAPT = TrainConfig(
    steps=2000,
    learning_rate=1e-4,
    warmup_steps=200,
    schedule="linear",
    betas=(0.9, 0.98),
    weight_decay=0.01,
    precision="bf16",
)


@dataclass(frozen=True)
class Recipe:
    """The numbers of an adaptation.

    Attributes:
        teacher: a general text encoder with a WordPiece tokenizer: folder or hub id.
        student: a small general encoder with the same tokenizer, for the two strategies that adapt the teacher first;
            "" makes a new one. Its shape otherwise, and the distillation, are those of ``distil``.
        strategy: see above.
        interval, delta, keep: of the vocabulary's growth; see `multiway_text.adalm.vocabulary.grow`.
        vocabulary_texts: so many texts are read for it at most.
        adapt_batch: texts of a batch of the pretraining.
        field: where the text is in rows of JSONL and Parquet; it stands for that of ``distil``.
        adapt: numbers of a pretraining. distil: the distillation.
    """

    teacher: str = ""
    student: str = ""
    strategy: Strategy = "adapt-and-distil"
    interval: int = 10_000
    delta: float = 0.01
    keep: Keep = "last"
    vocabulary_texts: int = 100_000
    adapt_batch: int = 32
    field: str = "text"
    adapt: TrainConfig = _ADAPT
    distil: minilm.Recipe = minilm.RECIPES["minilm-small"]

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """The jobs of a run on ``options.data``, the domain's texts. Raises InputError, DataError, CheckpointError."""
        if not self.teacher:
            raise InputError("an adaptation needs a teacher: a general text encoder, folder or hub id")
        if self.strategy not in STRATEGIES:
            raise InputError(f"unknown strategy {self.strategy!r}; there are: {', '.join(STRATEGIES)}")
        general = hub.resolve(self.teacher)
        if self.student:
            check_same_vocabulary(general, hub.resolve(self.student))
        models = options.output / "models"
        if self.strategy == "distil-then-adapt":
            job = None
            for job in self._distilled(options, general, None):
                yield job
            assert job is not None
            _export(job, models / "small")
            grown = self._grown(options, models / "small")
            yield self._adapted(options, "adapt-student", grown)
            return
        teacher = self._grown(options, general)
        small = None if not self.student else self._grown(options, hub.resolve(self.student))
        if self.strategy == "scratch":
            yield self._adapted(options, "pretrain", self._new(options, teacher))
            return
        job = self._adapted(options, "adapt-teacher", teacher)
        yield job
        _export(job, models / "teacher")
        if self.strategy == "adapt-and-distil":
            job = self._adapted(options, "adapt-student", small or self._new(options, teacher))
            yield job
            small = _export(job, models / "student")
        yield from self._distilled(options, models / "teacher", small)

    def _grown(self, options: TrainOptions, folder: Path) -> Path:
        """The model of a folder with the domain's vocabulary; the vocabulary is learnt once a run."""
        target = options.output / "models" / f"grown-{folder.name}"
        if (target / "config.json").is_file():
            return target
        kept = options.output / REPORT_FILE
        if not kept.is_file():
            source = documents(options.data, field=self.field)
            texts = [document.text for document in islice(source, self.vocabulary_texts)]
            before = TextTokenizer.from_folder(folder)
            write_vocabulary(texts, before, kept, self.interval, self.delta, self.keep)
        write_extended(folder, kept, target)
        return target

    def _adapted(self, options: TrainOptions, name: str, folder: Path) -> TrainJob:
        """Masked-LM pretraining that goes on from a folder."""
        recipe = pretraining.Recipe(
            objective="mlm",
            length=self.distil.length,
            batch_size=self.adapt_batch,
            field=self.field,
            train=self.adapt,
        )
        job = recipe.build(replace(options, output=options.output / name, init_from=str(folder)))
        return replace(job, name=name)

    def _new(self, options: TrainOptions, like: Path) -> Path:
        """A new small encoder with the tokenizer of a folder."""
        target = options.output / "models" / "new"
        if not (target / "config.json").is_file():
            tokenizer = TextTokenizer.from_folder(like)
            checkpoint.save(self.distil.new_student(text_encoder.load(like)), target)
            tokenizer.save(target)
        return target

    def _distilled(self, options: TrainOptions, teacher: Path, student: Path | None) -> Iterator[TrainJob]:
        init_from = None if student is None else str(student)
        yield from (
            replace(self.distil, teacher=str(teacher), field=self.field).build(
                replace(options, init_from=init_from)
            )
        )


RECIPES = {
    "adalm-small": Recipe(),
    # A minute with a teacher of six layers: shows that every part works.
    "adalm-smoke": Recipe(
        interval=500,
        vocabulary_texts=200,
        adapt_batch=8,
        adapt=replace(_ADAPT, steps=4, warmup_steps=1),
        distil=replace(minilm.RECIPES["minilm-smoke"], sentences=None),
    ),
}


def check_same_vocabulary(teacher: Path, student: Path) -> None:
    """Raise InputError where the tokenizers of two folders have other tokens."""
    theirs, own = (TextTokenizer.from_folder(folder) for folder in (teacher, student))
    if theirs.library.get_vocab() != own.library.get_vocab():
        raise InputError(
            f"{student}: the student's tokenizer ({own.kind}, {own.vocab_size:,} tokens) is not the teacher's "
            f"({theirs.kind}, {theirs.vocab_size:,}); take a student with the teacher's tokenizer"
        )


def write_vocabulary(
    texts: Sequence[str], before: TextTokenizer, path: Path, interval: int, delta: float, keep: Keep
) -> vocabulary.Report:
    """Grow a vocabulary and write it as JSON: the new pieces, the sizes tried, and what they do to the texts."""
    growth = vocabulary.grow(texts, before, interval=interval, delta=delta, keep=keep)
    report = vocabulary.compare(texts, before, vocabulary.extended(before, growth.pieces))
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "pieces": growth.pieces,
        "steps": [asdict(step) for step in growth.steps],
        "report": asdict(report),
    }
    files.write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return report


def write_extended(folder: Path, grown: Path, target: Path) -> None:
    """The model of a folder with the pieces that :func:`write_vocabulary` wrote, ready for masked-LM pretraining."""
    before = TextTokenizer.from_folder(folder)
    after = vocabulary.extended(before, json.loads(grown.read_text(encoding="utf-8"))["pieces"])
    model = pretraining.load_with_head(folder)
    check_tokenizer(folder, before, model.encoder)
    checkpoint.save(extend(model, before, after), target)
    after.save(target)


def _export(job: TrainJob, folder: Path) -> Path:
    """The trained model of a stage, as a folder for the next one."""
    with files.replace_folder(folder, overwrite=True) as temporary:
        job.export(job.model, temporary)
    return folder
