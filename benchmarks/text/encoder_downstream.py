"""What small encoders are judged by in the studies here: sections of packages, and the body that belongs to a title.

Records are those of `multiway_text.data.package_descriptions`, split by source package: nothing that an encoder, its
teacher or its probe was trained on shares a source with what is scored.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from multiway_blocks.text_encoder import TextEncoder
from multiway_core.tokenization import TextTokenizer
from multiway_text.data.package_descriptions import PackageDescription, load
from multiway_text.encoder.engine import embed_tokens
from multiway_text.encoder.heads import SequenceClassifier
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings
from multiway_text.sequences import SequenceBatches, Sequences
from torch import Tensor, nn

LENGTH = 64
PROBE_TEXTS, FINETUNE_TEXTS, TEST_TEXTS = 4000, 1000, 1000


@dataclass(frozen=True)
class Corpus:
    """Records to learn from and to score on, in an order that does not depend on a seed."""

    train: list[PackageDescription]
    test: list[PackageDescription]

    @classmethod
    def read(cls, folder: Path) -> Corpus:
        """``train.jsonl`` and ``test.jsonl`` of a folder."""
        parts = [load(folder / f"{name}.jsonl") for name in ("train", "test")]
        for part in parts:
            random.Random(0).shuffle(part)
        return cls(*([one for one in part if one.language == "en"] for part in parts))

    @property
    def sections(self) -> list[str]:
        """Labels, sorted."""
        return sorted({one.section for one in self.train})


def vectors(encoder: TextEncoder, tokenizer: TextTokenizer, texts: Sequence[str]) -> Tensor:
    """Means of the last layer's states, of length 1, of texts cut at `LENGTH`: (N, E)."""
    settings = SentenceSettings(normalize=True, max_length=LENGTH)
    rows = [tokenizer.add_special_tokens(ids[: LENGTH - 2])[0] for ids in tokenizer.encode_batch(texts)]
    with torch.autocast("cpu", torch.bfloat16):
        return embed_tokens(SentenceModel(encoder.eval(), tokenizer, settings), rows)


def retrieval(encoder: TextEncoder, tokenizer: TextTokenizer, corpus: Corpus) -> float:
    """Share of test titles whose own body is the nearest of all test bodies."""
    test = corpus.test[:TEST_TEXTS]
    titles, bodies = (
        vectors(encoder, tokenizer, [getattr(one, part) for one in test]) for part in ("title", "body")
    )
    return float(((titles @ bodies.T).argmax(1) == torch.arange(len(test))).float().mean())


def probe(encoder: TextEncoder, tokenizer: TextTokenizer, corpus: Corpus) -> float:
    """Accuracy of sections by ridge regression on frozen vectors."""
    train, test = corpus.train[-PROBE_TEXTS:], corpus.test[:TEST_TEXTS]
    x, held = (vectors(encoder, tokenizer, [one.body for one in part]) for part in (train, test))
    return ridge_probe(x, [one.section for one in train], held, [one.section for one in test])


def ridge_probe(
    x_NE: Tensor, labels: Sequence[str], held_ME: Tensor, truth: Sequence[str], ridge: float = 0.01
) -> float:
    """Accuracy on held-out vectors of ridge regression to one number a label, on standardised vectors."""
    names = {name: number for number, name in enumerate(sorted(set(labels)))}
    mean_E, deviation_E = x_NE.double().mean(0), x_NE.double().std(0)
    x, held = ((part.double() - mean_E) / deviation_E for part in (x_NE, held_ME))
    y = nn.functional.one_hot(torch.tensor([names[label] for label in labels]), len(names)).double()
    weights = torch.linalg.solve(x.T @ x + ridge * len(x) * torch.eye(x.shape[1]), x.T @ (y - y.mean(0)))
    found = (held @ weights + y.mean(0)).argmax(1)
    return float((found == torch.tensor([names.get(label, -1) for label in truth])).float().mean())


def finetuned(
    encoder: TextEncoder,
    tokenizer: TextTokenizer,
    corpus: Corpus,
    seed: int,
    *,
    epochs: int = 3,
    rate: float = 5e-4,
) -> float:
    """Accuracy of sections after fine-tuning all weights on `FINETUNE_TEXTS` texts."""
    torch.manual_seed(seed)
    sections = {name: number for number, name in enumerate(corpus.sections)}
    model = SequenceClassifier(encoder, len(sections))

    def rows(part: Sequence[PackageDescription]) -> tuple[Sequences, Tensor]:
        texts = [
            tokenizer.decode(ids[: LENGTH - 2]) for ids in tokenizer.encode_batch([one.body for one in part])
        ]
        return Sequences.encode(texts, tokenizer, 2 * LENGTH), torch.tensor(
            [sections.get(one.section, -1) for one in part]
        )

    train, labels = rows(corpus.train[-FINETUNE_TEXTS:])
    batches = SequenceBatches(train, 2048, pad=encoder.config.pad_id, seed=seed)
    steps = epochs * len(batches.all())
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    model.train()
    for step in range(steps):
        batch = batches(step, 0, 1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch.ids_BT, batch.valid_BT)
        nn.functional.cross_entropy(logits.float(), labels[batch.index_B]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    test, truth = rows(corpus.test[:TEST_TEXTS])
    right = 0
    with torch.inference_mode():
        for batch in SequenceBatches(test, 4096, pad=encoder.config.pad_id).all():
            found = model.eval()(batch.ids_BT, batch.valid_BT).argmax(1)
            right += int((found == truth[batch.index_B]).sum())
    return right / len(truth)
