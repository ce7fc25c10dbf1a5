"""Batches, losses and scores of every task.

Shape suffixes: B batch, P pictures of an example, C channels, H height, W width, T text tokens, L labels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from multiway_core.errors import DataError, InputError
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_vision_language.beit3.generation import CaptionDecoding, SpecialTokens, write_captions
from multiway_vision_language.metrics import cider_d, vqa_accuracy
from multiway_vision_language.metrics.retrieval import retrieval_recall
from multiway_vision_language.multiway.masking import mask_caption
from multiway_vision_language.multiway.objective import image_text_contrast
from multiway_vision_language.multiway.tasks import Task
from multiway_vision_language.tasks.examples import Example, answer_scores
from multiway_vision_language.tasks.model_folder import HeadedModel
from multiway_vision_language.tasks.processor import PairProcessor

CAPTION_SHARE, LABEL_SMOOTHING = 0.6, 0.1
_NO_WORD = -100


@dataclass(frozen=True)
class TaskBatch:
    """``targets``: scores of labels (B, L); of captions the hidden tokens (B, T), `_NO_WORD` elsewhere; else None."""

    pixels_BPCHW: Tensor
    tokens_BT: Tensor | None = None
    valid_BT: Tensor | None = None
    targets: Tensor | None = None


class TaskBatches:
    """Batches of examples, a pure function of (step, shard): every epoch is a permutation drawn from (seed, epoch)."""

    def __init__(
        self,
        task: Task,
        examples: Sequence[Example],
        processor: PairProcessor,
        labels: Sequence[str],
        vocab_size: int,
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        self.task, self.examples, self.processor = task, examples, processor
        self.places = {label: index for index, label in enumerate(labels)}
        self.vocab_size, self.batch_size, self.seed = vocab_size, batch_size, seed

    def __call__(self, step: int, shard: int, num_shards: int) -> TaskBatch:
        first = (step * num_shards + shard) * self.batch_size
        rng = np.random.default_rng([self.seed, first])
        return self.of([self._example(index) for index in range(first, first + self.batch_size)], rng)

    def _example(self, index: int) -> Example:
        epoch, place = divmod(index, len(self.examples))
        return self.examples[
            int(np.random.default_rng([self.seed, epoch]).permutation(len(self.examples))[place])
        ]

    def of(self, chosen: Sequence[Example], rng: np.random.Generator) -> TaskBatch:
        """The batch of some examples. Raises DataError: a picture cannot be read, a text has no words."""
        try:
            pixels = torch.stack([self.processor.pixels(example.pictures) for example in chosen])
            if self.task == "imagenet":
                return TaskBatch(pixels, targets=self._scores(chosen))
            texts = [example.texts[int(rng.integers(len(example.texts)))] for example in chosen]
            tokens, valid = self.processor.texts(texts)
        except InputError as error:
            raise DataError(f"{', '.join(example.name for example in chosen[:4])} ...: {error}") from error
        if self.task == "caption":
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            ids = self.processor.ids
            masked = mask_caption(tokens, valid, CAPTION_SHARE, ids.mask, self.vocab_size, ids.all, generator)
            hidden = tokens.masked_fill(~masked.hidden_BT, _NO_WORD)
            return TaskBatch(pixels, masked.tokens_BT, valid, hidden)
        return TaskBatch(pixels, tokens, valid, None if self.task == "retrieval" else self._scores(chosen))

    def _scores(self, chosen: Sequence[Example]) -> Tensor:
        scores = torch.zeros(len(chosen), len(self.places))
        for row, example in enumerate(chosen):
            for answer, score in answer_scores(example.answers).items():
                if answer in self.places:
                    scores[row, self.places[answer]] = score
        return scores


def task_loss(task: Task, network: Any, batch: TaskBatch) -> Loss:
    """The loss by which the released models are fine-tuned (BEiT-3, appendix; VLMo and DiDE alike)."""
    count = len(batch.pixels_BPCHW)
    if task == "retrieval":
        images = network.encode_images(batch.pixels_BPCHW[:, 0])
        texts = network.encode_texts(batch.tokens_BT, batch.valid_BT)
        total = image_text_contrast(images, texts, network.heads.logit_scale).sum()
        return Loss(total, weight=count, samples=count)
    if task == "caption":
        scores = network(batch.pixels_BPCHW[:, 0], batch.tokens_BT, batch.valid_BT)
        assert batch.targets is not None
        hidden = batch.targets != _NO_WORD
        total = nn.functional.cross_entropy(
            scores[hidden].float(), batch.targets[hidden], reduction="sum", label_smoothing=LABEL_SMOOTHING
        )
        return Loss(total, weight=hidden.sum(), samples=count)
    assert batch.targets is not None
    if task == "imagenet":
        scores = network(batch.pixels_BPCHW[:, 0])
        total = nn.functional.cross_entropy(
            scores.float(), batch.targets.argmax(1), reduction="sum", label_smoothing=LABEL_SMOOTHING
        )
        return Loss(total, weight=count, samples=count)
    scores = network(batch.pixels_BPCHW, batch.tokens_BT, batch.valid_BT).float()
    if task == "nlvr2":
        total = nn.functional.cross_entropy(scores, batch.targets.argmax(1), reduction="sum")
    else:
        total = nn.functional.binary_cross_entropy_with_logits(scores, batch.targets, reduction="sum")
    return Loss(total, weight=count, samples=count)


@torch.no_grad()
def score(model: HeadedModel, examples: Sequence[Example], *, batch_size: int = 32) -> Mapping[str, float]:
    """The exact metric of the task, 0 to 1 (CIDEr-D 0 to 10)."""
    if model.task == "retrieval":
        return retrieval_recall(*similarities(model, examples, batch_size))
    if model.task == "caption":
        written = [text for part in _parts(examples, batch_size) for text in captions(model, part)]
        return {"CIDEr-D": float(cider_d(written, [example.texts for example in examples]).mean())}
    found = [text for part in _parts(examples, batch_size) for text in answers(model, part)]
    if model.task == "vqa":
        exact = [vqa_accuracy(a, e.answers) if len(e.answers) > 1 else float(a in answer_scores(e.answers))
                 for a, e in zip(found, examples, strict=True)]  # fmt: skip
    else:
        exact = [float(answer == example.answers[0]) for answer, example in zip(found, examples, strict=True)]
    return {"accuracy": sum(exact) / len(exact)}


def answers(model: HeadedModel, examples: Sequence[Example]) -> list[str]:
    """The likeliest label of each example."""
    best = label_scores(model, examples).argmax(1)
    return [model.labels[index] for index in best.tolist()]


@torch.no_grad()
def label_scores(model: HeadedModel, examples: Sequence[Example]) -> Tensor:
    """Scores of the labels, (B, L)."""
    device = next(model.network.parameters()).device
    dtype = next(model.network.parameters()).dtype
    pixels = torch.stack([model.processor.pixels(example.pictures) for example in examples]).to(device, dtype)
    if model.task == "imagenet":
        return model.network(pixels[:, 0]).float()
    tokens, valid = model.processor.texts([example.texts[0] for example in examples])
    return model.network(pixels, tokens.to(device), valid.to(device)).float()


@torch.no_grad()
def captions(model: HeadedModel, examples: Sequence[Example]) -> list[str]:
    """A caption of each example's picture."""
    weight = next(model.network.parameters())
    pixels = model.processor.pixels([example.pictures[0] for example in examples]).to(
        weight.device, weight.dtype
    )
    ids = model.processor.ids
    longest = min(31, model.network.config.max_text - 1)
    words = write_captions(
        model.network,
        pixels,
        CaptionDecoding(max_tokens=longest),
        SpecialTokens(bos=ids.begin, pad=ids.pad, eos=ids.end, mask=ids.mask),
    )
    return [model.processor.tokenizer.decode(row).strip() for row in words]


@torch.no_grad()
def similarities(
    model: HeadedModel, examples: Sequence[Example], batch_size: int = 32
) -> tuple[Tensor, list[int]]:
    """Cosines of all pictures with all texts (I, T), and the picture of every text; each is encoded once."""
    device = next(model.network.parameters()).device
    owners = [index for index, example in enumerate(examples) for _ in example.texts]
    texts = [text for example in examples for text in example.texts]
    images = [
        model.network.encode_images(model.processor.pixels([e.pictures[0] for e in part]).to(device))
        for part in _parts(examples, batch_size)
    ]
    vectors = []
    for part in _parts(texts, batch_size):
        tokens, valid = model.processor.texts(part)
        vectors.append(model.network.encode_texts(tokens.to(device), valid.to(device)))
    return (torch.cat(images) @ torch.cat(vectors).T).float().cpu(), owners


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
