"""Fine-tuning BEiT-3, VLMo or DiDE for a task, on users' files or on generated scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from multiway_core import hub
from multiway_core.errors import ConfigError, InputError
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions
from torch import nn

from multiway_vision_language.dide.model import DiDE, DiDEForRetrieval
from multiway_vision_language.dide.objective import Distillation, distillation_loss
from multiway_vision_language.multiway.experts import layer_decay
from multiway_vision_language.multiway.tasks import Task
from multiway_vision_language.tasks import model_folder
from multiway_vision_language.tasks.examples import Example, labels_of, read_examples
from multiway_vision_language.tasks.model_folder import SIZES, Arch, HeadedModel, new_network
from multiway_vision_language.tasks.objective import TaskBatch, TaskBatches, score, task_loss
from multiway_vision_language.tasks.processor import PairProcessor, train_tokenizer
from multiway_vision_language.tasks.shapes import make_examples

HELD_OUT, MAX_HELD_OUT = 20, 500
MAX_TEXT = 64
TEACHER = "teacher"
"""Where the folder of a pre-trained `dide` keeps the fusion encoder that taught it."""
_BEST: dict[Task, str] = {"retrieval": "mean recall", "caption": "CIDEr-D"}


_TRAIN = TrainConfig(
    steps=4000,
    learning_rate=5e-4,
    warmup_steps=200,
    schedule="cosine",
    betas=(0.9, 0.98),
    weight_decay=0.05,
    clip_norm=3.0,
)


@dataclass(frozen=True)
class FineTuning:
    """The numbers of a run; ``options.data`` is what `tasks.examples.read_examples` reads, or nothing.

    Without data scenes of coloured shapes are generated. One example in 20 is held out and scored by the task's metric;
    the best weights are exported. ``options.init_from`` is a folder that such a run or a pre-training wrote, with whose
    weights a network begins. `dide` trains its fusion teacher first (but for retrieval, which has none), or takes it
    from ``options.init_from``; both begin with a pre-trained `dide`'s weights.

    Attributes:
        arch, task: what is trained, and for what.
        size: of the network: "base", "large", "giant" (BEiT-3), "small" or "tiny".
        layer_decay: of the learning rate by depth (BEiT-3).
        scenes: how many are generated without data.
    """

    arch: Arch = "beit3"
    task: Task = "retrieval"
    size: str = "small"
    batch_size: int = 32
    layer_decay: float = 1.0
    scenes: int = 20_000
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """One job, or for `dide` those of teacher and student. Raises InputError, ConfigError, DataError."""
        if self.size not in SIZES[self.arch]:
            raise ConfigError(f"{self.arch} has the sizes {', '.join(SIZES[self.arch])}, not {self.size!r}")
        if self.task not in model_folder.HEADS[self.arch]:
            new_network(self.arch, self.task, None, 0)
        examples = self._examples(options)
        taught, kept = split(examples)
        start = None if options.init_from is None else model_folder.load(hub.resolve(options.init_from))
        if start is not None:
            expected = (
                (self.arch, "vilt") if self.arch == "dide" and self.task != "retrieval" else (self.arch,)
            )
            if start.arch not in expected:
                wanted = " or ".join(expected)
                raise InputError(f"--init-from {options.init_from} is {start.arch}, expected {wanted}")
            labels: Sequence[str] = start.labels if start.task == self.task else labels_of(self.task, taught)
            processor, sizes = start.processor, start.network.config
        else:
            labels = labels_of(self.task, taught)
            processor, sizes = new_processor(taught, SIZES[self.arch][self.size], options)
        batches = TaskBatches(
            self.task,
            taught,
            processor,
            labels,
            sizes.vocab_size,
            batch_size=self.batch_size,
            seed=options.seed,
        )
        facts = {
            "arch": self.arch,
            "task": self.task,
            "examples": len(taught),
            "held_out_examples": len(kept),
        }

        def job(arch: Arch, network: nn.Module, objective: Any, name: str = "") -> TrainJob:
            def headed(trained: Any) -> HeadedModel:
                return HeadedModel(arch, self.task, trained, processor, tuple(labels))

            config = options.apply(self.train)
            if self.arch == "beit3" and self.layer_decay != 1.0:
                ratios = layer_decay(sizes, self.layer_decay, backbone="backbone")
                config = replace(config, learning_rate_ratios=ratios)
            return TrainJob(
                network,
                objective,
                batches,
                config,
                export=lambda trained, folder: model_folder.save(headed(trained), folder),
                held_out=HeldOut(
                    lambda trained: score(headed(trained), kept),
                    best=_BEST.get(self.task, "accuracy"),
                    larger_is_better=True,
                ),
                name=name,
                facts=facts,
            )

        if self.arch != "dide" or self.task == "retrieval":
            network = new_network(self.arch, self.task, sizes, len(labels))
            if start is not None:
                take_weights(network, start.network)
            yield job(self.arch, network, partial(_loss, self.task))
            return
        teacher = new_network("vilt", self.task, sizes, len(labels))
        if start is not None and start.arch == "vilt" and start.task == self.task:
            teacher = start.network
        else:
            if start is not None:
                take_weights(teacher, _teacher_of(start, options))
            yield job("vilt", teacher, partial(_loss, self.task), "teacher")
        teacher.eval().requires_grad_(False)
        student = DiDE(sizes, len(labels), pictures=2 if self.task == "nlvr2" else 1)
        if start is not None and start.arch == "dide":
            source = start.network
            take_weights(student, source.student if isinstance(source, DiDEForRetrieval) else source)
        else:
            student.start_from(teacher)  # type: ignore[arg-type]
        yield job("dide", student, Taught(teacher, self.task), "student")

    def _examples(self, options: TrainOptions) -> list[Example]:
        if options.data:
            return read_examples(self.task, options.data)
        return make_examples(self.task, self.scenes, options.seed, size=96)


def split(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """(examples to train on, those held out: one in `HELD_OUT`). Raises InputError: too few."""
    kept = examples[HELD_OUT - 1 :: HELD_OUT][:MAX_HELD_OUT]
    if not kept:
        raise InputError(f"{len(examples)} examples are too few: one in {HELD_OUT} is held out")
    return [example for index, example in enumerate(examples) if index % HELD_OUT != HELD_OUT - 1], kept


def new_processor(taught: Sequence[Example], sizes: Any, options: TrainOptions) -> tuple[PairProcessor, Any]:
    """A processor with a vocabulary of these examples' texts, and the sizes with that vocabulary's."""
    texts = (text for example in taught for text in example.texts or ("a picture",))
    tokenizer = train_tokenizer(texts, sizes.vocab_size, options.output / "tokenizer")
    sizes = replace(sizes, vocab_size=tokenizer.vocab_size)
    longest = min(sizes.max_text, MAX_TEXT)
    return PairProcessor(tokenizer, image_size=sizes.image_size, max_text=longest), sizes


class Taught:
    """The objective of a student: its teacher's scores and attention, unweighted (arXiv 2112.08723, section 3)."""

    def __init__(self, teacher: Any, task: Task, how: Distillation | None = None) -> None:
        self.teacher = teacher
        self.how = how or Distillation(scores="independent" if task == "vqa" else "exclusive")

    def __call__(self, student: nn.Module, batch: TaskBatch) -> Loss:
        assert isinstance(student, DiDE)
        assert batch.tokens_BT is not None
        assert batch.valid_BT is not None
        self.teacher.to(batch.pixels_BPCHW.device)
        losses = distillation_loss(
            student, self.teacher, batch.pixels_BPCHW, batch.tokens_BT, batch.valid_BT, self.how
        )
        count = len(batch.pixels_BPCHW)
        metrics = {name: loss.detach() for name, loss in losses.items()}
        return Loss(sum(losses.values()) * count, weight=count, metrics=metrics, samples=count)  # type: ignore[arg-type]


def _teacher_of(start: HeadedModel, options: TrainOptions) -> nn.Module:
    """The fusion encoder to begin with. Raises InputError: a student's folder does not hold its teacher."""
    if start.arch == "vilt":
        return start.network
    folder = hub.resolve(str(options.init_from)) / TEACHER
    if not folder.is_dir():
        raise InputError(
            f"--init-from {options.init_from} holds no {TEACHER}; `--preset pretrain` writes one"
        )
    return model_folder.load(folder).network


def _loss(task: Task, network: nn.Module, batch: TaskBatch) -> Loss:
    return task_loss(task, network, batch)


def take_weights(network: nn.Module, source: nn.Module) -> None:
    """All tensors of equal name and shape; heads of other tasks stay new."""
    own = network.state_dict()
    fitting = {n: t for n, t in source.state_dict().items() if n in own and own[n].shape == t.shape}
    network.load_state_dict(fitting, strict=False)


_SMOKE = replace(_TRAIN, steps=20, warmup_steps=2, learning_rate=1e-3)
RECIPES: Final = {
    "pairs": FineTuning(),
    "pairs-smoke": FineTuning(size="tiny", batch_size=8, scenes=400, train=_SMOKE),
}
"""The presets of `train --arch`: ``pairs`` on data or generated scenes; ``pairs-smoke`` shows that every part works."""
