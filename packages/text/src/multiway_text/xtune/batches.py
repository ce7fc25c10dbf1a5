"""Batches of plain and augmented rows, and the objective on them.

Shape suffixes: B rows, M rows with their augmentations behind them, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from multiway_core.training import Loss
from multiway_core.training.trainer import shard_seed
from torch import nn

from multiway_text.encoder.recipe import Shuffled
from multiway_text.xtune.augmentation import Augmentation, EmbeddingNoise
from multiway_text.xtune.objective import Reduction
from multiway_text.xtune.tasks import Batch, Task, View, collate


@dataclass(frozen=True)
class AugmentedRows:
    """The examples D and, in the second stage, their augmented copies A*(D), as rows.

    Attributes:
        rows: of D; sources: the example of each. translated: by language, rows of each example's translation.
        augmentation: of R1; None leaves R1 out. corpus: that of A*(D); None leaves it out.
        pad_id: of the encoder.
    """

    task: Task
    rows: Sequence[Any]
    sources: Sequence[int]
    translated: Sequence[Mapping[int, Sequence[Any]]]
    augmentation: Augmentation | None
    corpus: Augmentation | None
    pad_id: int

    def __len__(self) -> int:
        return len(self.rows) * (1 if self.corpus is None else 2)

    def batch(self, numbers: Sequence[int], generator: torch.Generator) -> Batch:
        """The rows of these numbers, those from ``len(rows)`` on augmented, and their augmentations for R1."""
        copies = [number >= len(self.rows) for number in numbers]
        plain: list[View] = []
        augmented: list[View] = []
        for number, is_copy in zip(numbers, copies, strict=True):
            number %= len(self.rows)
            row = self.rows[number]
            if is_copy and self._translates(self.corpus):
                row = self._translation(number, generator)
            change = self.corpus if is_copy else None
            plain.append(self.task.view(row, change, generator, corpus=True))
            if self.augmentation is not None:
                other = self._translation(number, generator) if self._translates(self.augmentation) else row
                augmented.append(self.task.view(other, self.augmentation, generator, corpus=False))
        noisy = [is_copy and self._is_noise(self.corpus) for is_copy in copies]
        noisy += [self._is_noise(self.augmentation)] * len(augmented)
        return collate(plain, augmented, noisy, copies, self.pad_id)

    def _translation(self, number: int, generator: torch.Generator) -> Any:
        """A row of the example's translation into a language drawn at random."""
        by_source = self.translated[int(torch.randint(len(self.translated), (), generator=generator))]
        found = by_source[self.sources[number]]
        return found[int(torch.randint(len(found), (), generator=generator))]

    @staticmethod
    def _translates(augmentation: Augmentation | None) -> bool:
        return augmentation is not None and augmentation.kind == "translation"

    @staticmethod
    def _is_noise(augmentation: Augmentation | None) -> bool:
        return augmentation is not None and augmentation.kind == "noise"


class AugmentedBatches:
    """A pure function of the step: the order of an epoch, and augmentations that are drawn anew in each."""

    def __init__(self, rows: AugmentedRows, batch_size: int, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self.order: Shuffled[list[int]] = Shuffled(list, len(rows), batch_size, seed)

    def __call__(self, step: int, shard: int, num_shards: int) -> Batch:
        """The batch of one shard of one step."""
        numbers = self.order(step, shard, num_shards)
        generator = torch.Generator().manual_seed(shard_seed(self.seed, step, shard))
        return self.rows.batch(numbers, generator)


@dataclass(frozen=True)
class XTuneObjective:
    """Cross-entropy + lambda1 R1 + lambda2 R2.

    Attributes:
        teacher: the model of the first stage, for R2 on the rows of the augmented corpus; None leaves R2 out.
        hard_labels: R2 is the cross-entropy with the teacher's likeliest labels.
        noise: of the model's word embeddings.
    """

    task: Task
    noise: EmbeddingNoise
    lambda1: float
    lambda2: float
    reduction: Reduction = "element"
    teacher: nn.Module | None = None
    hard_labels: bool = False

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        """The loss of a batch, times its rows."""
        count = len(batch.augmented_B)
        self.noise.rows_M = batch.noisy_M
        try:
            logits = self.task.logits(module, batch)
        finally:
            self.noise.rows_M = None
        valid_BT = batch.valid_MT[:count]
        total = self.task.supervised(logits[:count], batch.targets, valid_BT)
        metrics = {"cross_entropy": total.detach()}
        if len(logits) > count:
            r1 = self.task.r1(logits, batch, self.reduction)
            total = total + self.lambda1 * r1
            metrics["r1"] = r1.detach()
        if self.teacher is not None and bool(batch.augmented_B.any()):
            r2 = self._r2(self.teacher, logits[:count][batch.augmented_B], batch)
            total = total + self.lambda2 * r2
            metrics["r2"] = r2.detach()
        return Loss(total * count, count, metrics, samples=count)

    def _r2(self, teacher: nn.Module, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        chosen_B = batch.augmented_B
        count = len(chosen_B)
        some = batch._replace(
            ids_MT=batch.ids_MT[:count][chosen_B],
            valid_MT=batch.valid_MT[:count][chosen_B],
            types_MT=batch.types_MT[:count][chosen_B],
            firsts_MT=batch.firsts_MT[:count][chosen_B],
        )
        with torch.no_grad():
            target = self.task.logits(teacher.to(logits.device).eval(), some)
        if not self.hard_labels:
            return self.task.r2(target, logits, batch, self.reduction)
        labels = self.task.hard(target, batch.targets[chosen_B], some.valid_MT)
        return self.task.supervised(logits, labels, some.valid_MT)
