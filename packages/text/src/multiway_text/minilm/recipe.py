"""A small encoder from any large one and any texts: relations first, then, if asked, sentence vectors.

Texts are cut into tokens once, into ``output/data``; one row in 20 is held out. A teacher assistant, if there is one,
is a stage of its own: the teacher's layers in the student's width, which then teaches the student.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions, loss_on
from torch import nn

from multiway_text.documents import documents
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings, check_length
from multiway_text.minilm import sentences
from multiway_text.minilm.objective import Distillation, Method, Student, check
from multiway_text.minilm.sentences import Alignment
from multiway_text.sequences import IDS_FILE, SequenceBatches, Sequences

HELD_OUT, MAX_HELD_OUT = 20, 128
"""One row in so many is held out, and at most so many are scored."""

_RELATIONS = TrainConfig(
    steps=4000,
    learning_rate=6e-4,
    warmup_steps=400,
    schedule="linear",
    betas=(0.9, 0.999),
    weight_decay=0.01,
    precision="bf16",
)
_SENTENCES = replace(_RELATIONS, steps=6000, learning_rate=1e-3)


@dataclass(frozen=True)
class Recipe:
    """The numbers of a distillation.

    Attributes:
        teacher: a text encoder of the BERT family with its tokenizer: folder or hub id.
        method: see :mod:`multiway_text.minilm.objective`.
        relation_heads: of MiniLMv2; divides both widths.
        teacher_layer: whose relations are learnt, from 1; 0 is the last.
        layers, hidden_size, heads: of the student. inner_size: 0 is four times its width.
        assistant: whether an encoder with the teacher's layers and the student's width learns first and then teaches.
        principal_embedding: whether the student's embeddings begin as the teacher's, turned onto their principal
            components, and not at random.
        copy_layers: whether the student begins as the teacher's embeddings and every so-manieth of its layers; it has
            the teacher's width then, and ``hidden`` needs no projection.
        length: tokens of the longest row; longer texts become several.
        batch_tokens: of a batch, with padding.
        max_rows: of the texts, no more than so many rows; 0 takes all.
        field: where the text is in rows of JSONL and Parquet.
        train: the numbers of the relations' stage, and of the assistant's.
        sentences: the numbers of the stage that aligns sentence vectors; None leaves it out.
        contrast: scale of a contrast with the teacher's vectors of the batch, beside the alignment; 0 leaves it out.

    A teacher with prompts (E5) reads them before the texts, one after the other; the student keeps them.
    """

    teacher: str = ""
    method: Method = "minilmv2"
    relation_heads: int = 12
    teacher_layer: int = 0
    layers: int = 3
    hidden_size: int = 192
    heads: int = 12
    inner_size: int = 0
    assistant: bool = False
    principal_embedding: bool = False
    copy_layers: bool = False
    length: int = 128
    batch_tokens: int = 4096
    max_rows: int = 0
    field: str = "text"
    train: TrainConfig = _RELATIONS
    sentences: TrainConfig | None = None
    contrast: float = 0.0

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """The jobs of a run on ``options.data`` (without any: the documentation that comes with Python).

        ``options.init_from``: an encoder whose weights the student begins with, in place of the shape given here.
        Raises InputError, DataError, CheckpointError, ConfigError.
        """
        if not self.teacher:
            raise InputError("a distillation needs a teacher: a text encoder, folder or hub id")
        folder = hub.resolve(self.teacher)
        sentence = SentenceModel.load(folder)
        teacher, tokenizer = sentence.encoder, sentence.tokenizer
        if options.init_from is None:
            student = self.new_student(teacher)
        else:
            student = text_encoder.load(hub.resolve(options.init_from))
        for encoder in (teacher, student):
            check_length(self.length, encoder)
        layer = self.teacher_layer or teacher.config.num_layers
        check(student.config, teacher.config, self.method, self.relation_heads, layer)
        taught_by: TextEncoder | MaskedLM = teacher
        if self.method == "logits":
            taught_by, _ = checkpoint.load(folder, MaskedLM)  # type: ignore[assignment]
        settings = replace(sentence.settings, pooling=("mean",), normalize=True, max_length=self.length)
        prompts = tuple(settings.prompts.values())
        rows = read_or_encode(options, tokenizer, self.length, self.max_rows, self.field, prompts)
        run = _Run(self, options, tokenizer, rows, settings)
        if self.assistant:
            shape = replace(student.config, num_layers=teacher.config.num_layers)
            assistant = self._new(shape, teacher)
            yield run.relations(
                "assistant", Student(assistant, self.method, teacher.config.hidden_size), taught_by, layer
            )
            taught_by, layer = assistant, shape.num_layers
        width = student.config.hidden_size if self.assistant else teacher.config.hidden_size
        width = 0 if self.copy_layers else width
        module = Student(student, self.method, width)
        yield run.relations("relations", module, taught_by, layer)
        if self.sentences is not None:
            yield run.sentences(module, sentence)

    def new_student(self, teacher: TextEncoder) -> TextEncoder:
        """An encoder of the student's shape with the teacher's vocabulary and conventions. Raises InputError."""
        if self.hidden_size < 1 or self.heads < 1 or self.hidden_size % self.heads:
            raise InputError(f"{self.heads} attention heads do not divide a width of {self.hidden_size}")
        shape = self._shape(teacher.config, self.layers)
        return self._copy(shape, teacher) if self.copy_layers else self._new(shape, teacher)

    def _shape(self, teacher: TextEncoderConfig, layers: int) -> TextEncoderConfig:
        return replace(
            teacher,
            num_layers=layers,
            hidden_size=self.hidden_size,
            num_heads=self.heads,
            head_size=0,
            inner_size=self.inner_size or (teacher.inner_size if self.copy_layers else 4 * self.hidden_size),
            pooler=False,
            dropout=0.0,
            attention_dropout=0.0,
        )

    def _copy(self, shape: TextEncoderConfig, teacher: TextEncoder) -> TextEncoder:
        """The teacher with some of its layers, the last one among them."""
        full = replace(shape, num_layers=teacher.config.num_layers)
        if full != replace(teacher.config, pooler=False, dropout=0.0, attention_dropout=0.0):
            raise InputError(
                f"copy_layers: the student's width, heads and inner size are not the teacher's "
                f"({teacher.config.hidden_size}, {teacher.config.num_heads}, {teacher.config.inner_size})"
            )
        if not 1 <= shape.num_layers <= full.num_layers:
            raise InputError(f"copy_layers: the teacher has {full.num_layers} layers, not {shape.num_layers}")
        encoder = TextEncoder(full)
        own = {k: v for k, v in teacher.state_dict().items() if not k.startswith("pooler.")}
        encoder.load_state_dict(own)
        chosen = [(i + 1) * full.num_layers // shape.num_layers - 1 for i in range(shape.num_layers)]
        encoder.stack.layers = nn.ModuleList(encoder.stack.layers[i] for i in chosen)
        encoder.config = shape
        return encoder

    def _new(self, shape: TextEncoderConfig, teacher: TextEncoder) -> TextEncoder:
        encoder = TextEncoder(shape)
        if self.principal_embedding:
            reduce_embeddings(encoder, teacher)
        return encoder


RECIPES = {
    "minilm-small": Recipe(),
    # Learns sentence vectors too; with these numbers `bundled:minilm-l3-h192` was made in 49 minutes (its card).
    "minilm-sentences": Recipe(
        principal_embedding=True,
        length=256,
        max_rows=130_000,
        train=replace(_RELATIONS, steps=150, learning_rate=1e-3, warmup_steps=15),
        sentences=replace(_SENTENCES, steps=2000, learning_rate=1.5e-3, warmup_steps=100),
    ),
    # Of the teacher's own layers, by its states and then its vectors; `benchmarks/text/multilingual_small.py` measures
    # one of a multilingual teacher.
    "minilm-copied": Recipe(
        method="hidden",
        layers=6,
        hidden_size=384,
        copy_layers=True,
        length=96,
        batch_tokens=2048,
        max_rows=24_000,
        contrast=50.0,
        train=replace(_RELATIONS, steps=120, learning_rate=3e-4, warmup_steps=12),
        sentences=replace(_SENTENCES, steps=700, learning_rate=3e-4, warmup_steps=25),
    ),
    # Half a minute with a teacher of six layers: shows that every part works.
    "minilm-smoke": Recipe(
        length=64,
        batch_tokens=1024,
        max_rows=600,
        train=replace(_RELATIONS, steps=10, warmup_steps=2),
        sentences=replace(_SENTENCES, steps=10, warmup_steps=2),
    ),
}


@dataclass(frozen=True)
class _Run:
    """What the stages of a run share."""

    recipe: Recipe
    options: TrainOptions
    tokenizer: TextTokenizer
    rows: Sequences
    settings: SentenceSettings

    def relations(self, name: str, module: Student, teacher: TextEncoder | MaskedLM, layer: int) -> TrainJob:
        recipe = self.recipe
        objective = Distillation(
            teacher,
            module.encoder.config,
            recipe.method,
            relation_heads=recipe.relation_heads,
            layer=layer,
            mask_id=self.tokenizer.special.get("[MASK]", self.tokenizer.special.get("<mask>", 0)),
        )
        return self._job(name, module, objective, recipe.train)

    def sentences(self, module: Student, teacher: SentenceModel) -> TrainJob:
        assert self.recipe.sentences is not None
        vectors_NF = sentences.teacher_vectors(teacher, self.rows, self.options.output / "data" / "vectors")
        targets_NE = vectors_NF
        if not self.recipe.copy_layers:  # a copy has the teacher's axes already
            width = module.encoder.config.hidden_size
            targets_NE = vectors_NF @ sentences.principal(vectors_NF[split_rows(self.rows)[0]], width)
        module.projection = module.head = None
        objective = Alignment(targets_NE, self.recipe.contrast)
        return self._job("sentences", module, objective, self.recipe.sentences)

    def _job(
        self, name: str, module: Student, objective: Distillation | Alignment, config: TrainConfig
    ) -> TrainJob:
        train, held_out = split_rows(self.rows)
        pad, tokens = module.encoder.config.pad_id, self.recipe.batch_tokens
        config = self.options.apply(config)
        scored = SequenceBatches(self.rows, tokens, pad=pad, index=held_out[:MAX_HELD_OUT]).all()

        def export(trained: Student, folder: Path) -> None:
            SentenceModel(trained.encoder, self.tokenizer, self.settings).save(folder)

        return TrainJob(
            module,
            objective,
            SequenceBatches(self.rows, tokens, pad=pad, seed=config.seed, index=train),
            config,
            export,
            HeldOut(loss_on(objective, scored)),
            name=name,
            facts={"rows": len(self.rows), "tokens": len(self.rows.ids_N), "method": self.recipe.method},
        )


def read_or_encode(
    options: TrainOptions,
    tokenizer: TextTokenizer,
    length: int,
    max_rows: int,
    field: str,
    prompts: Sequence[str] = (),
) -> Sequences:
    """The texts of a run as rows, made once, in ``output/data``; each with one of ``prompts`` before it, in turn.

    Raises InputError, DataError.
    """
    folder = options.output / "data"
    if not (folder / IDS_FILE).is_file():
        before = cycle(prompts or ("",))
        texts = (next(before) + document.text for document in documents(options.data, field=field))
        Sequences.encode(texts, tokenizer, length, max_rows=max_rows).save(folder)
    return Sequences.load(folder)


def split_rows(rows: Sequences) -> tuple[list[int], list[int]]:
    """Rows to train on, and every `HELD_OUT`-th, which is held out. InputError: there is one row only."""
    every = range(len(rows))
    if len(every) < 2:
        raise InputError("the texts are one row of tokens; give more, so that some can be held out")
    held_out = list(every[HELD_OUT - 1 :: HELD_OUT]) or [len(every) - 1]
    return sorted(set(every) - set(held_out)), held_out


def reduce_embeddings(student: TextEncoder, teacher: TextEncoder) -> None:
    """The teacher's tables of words, positions and types, turned onto the principal components of its words."""
    with torch.no_grad():
        axes_FE = sentences.principal(teacher.token_embedding.weight, student.config.hidden_size)
        for name in ("token_embedding", "position_embedding", "type_embedding"):
            own, theirs = getattr(student, name), getattr(teacher, name)
            if own is not None and theirs is not None:
                own.weight.copy_(theirs.weight @ axes_FE)
