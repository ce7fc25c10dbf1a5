"""What the fine-tuning tasks differ in: model, batches, loss, held-out score, and what is written.

Shape suffixes: B rows, T tokens, C classes, E width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from multiway_blocks.contrastive import info_nce
from multiway_blocks.text_encoder import TextEncoder
from multiway_core import config, hub
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_text.data.squad import Question, exact_match, token_f1
from multiway_text.encoder import checkpoint, examples, word_tokens
from multiway_text.encoder.answerability import calibrate
from multiway_text.encoder.examples import Labelled, Pair, TaggedText
from multiway_text.encoder.heads import SequenceClassifier, SpanExtractor, TokenClassifier
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.scores import macro_f1, span_f1
from multiway_text.encoder.sentence import SentenceModel
from multiway_text.encoder.spans import Passage, Window

NO_TARGET = -100


class Batch(NamedTuple):
    """Ids (B, T), False where they are padding, token types; targets (B,) or (B, T), or the pairs' number."""

    ids_BT: Tensor
    valid_BT: Tensor
    types_BT: Tensor
    targets: Tensor


@dataclass(frozen=True)
class TaskParts:
    """What the tasks differ in.

    ``rows``: how many there are to train on, where they are not one for each example.
    """

    model: nn.Module
    objective: Callable[[Any, Batch], Loss]
    make: Callable[[Sequence[int]], Batch]
    score: Callable[[Any], dict[str, float]]
    export: Callable[[Any, Path], None]
    best: str
    facts: dict[str, Any]
    keys: Sequence[tuple[int, ...]] | None = None
    rows: int | None = None


def classifier(
    sentence: SentenceModel,
    given: Sequence[Labelled],
    scored: Sequence[Labelled],
    length: int,
    name: str,
) -> TaskParts:
    """A label of a text or a pair. ``name``: of the model, whose head is kept where it has these labels already.

    Raises InputError (one label only), DataError (a held-out label that training has not seen).
    """
    labels = examples.labels_of(given)
    examples.check_labels(scored, labels)
    tokenizer, encoder = sentence.tokenizer, sentence.encoder
    model = _continued(name, SequenceClassifier, labels) or SequenceClassifier(encoder, len(labels))
    has_types = encoder.config.num_types > 1
    numbers = {label: number for number, label in enumerate(labels)}
    targets = torch.tensor([numbers[one.label] for one in given])

    def make(rows: Sequence[int]) -> Batch:
        some = [given[row] for row in rows]
        pairs = pairs_of(some)
        found = tokenizer.batch([one.text for one in some], pairs, max_length=length)
        return Batch(found.ids_BT, found.valid_BT, found.types_BT, targets[list(rows)])

    def objective(module: nn.Module, batch: Batch) -> Loss:
        logits_BC = module(
            batch.ids_BT, batch.valid_BT, types_BT=batch.types_BT if has_types else None
        ).float()
        loss = nn.functional.cross_entropy(logits_BC, batch.targets, reduction="sum")
        right = (logits_BC.argmax(1) == batch.targets).float().mean()
        return Loss(loss, len(batch.targets), {"accuracy": right.detach()}, samples=len(batch.targets))

    def score(module: SequenceClassifier) -> dict[str, float]:
        return score_classes(pipeline_of(module, sentence, labels), scored)

    frequent = max(labels, key=lambda label: sum(one.label == label for one in given))
    facts = {
        "labels": len(labels),
        "held_out_accuracy_of_most_frequent_label": float(np.mean([one.label == frequent for one in scored])),
    }
    return TaskParts(model, objective, make, score, export_with(tokenizer, labels), "accuracy", facts)


def tagger(
    sentence: SentenceModel,
    given: Sequence[TaggedText],
    scored: Sequence[TaggedText],
    length: int,
    name: str,
) -> TaskParts:
    """A tag of each word, on its first token. As :func:`classifier`."""
    labels = examples.labels_of(given)
    examples.check_labels(scored, labels)
    tokenizer, encoder = sentence.tokenizer, sentence.encoder
    model = _continued(name, TokenClassifier, labels) or TokenClassifier(encoder, len(labels))
    numbers = {label: number for number, label in enumerate(labels)}
    room = length - len(tokenizer.add_special_tokens([])[0])

    def encoded(one: TaggedText) -> tuple[list[int], list[int]]:
        pieces = word_tokens.tokens_of(tokenizer, one.words)
        ids, firsts = word_tokens.joined(tokenizer, pieces, room)
        targets = [NO_TARGET] * len(ids)
        for piece, first, tag in zip(pieces, firsts, one.tags, strict=True):
            if piece and first < len(ids) - 1:
                targets[first] = numbers[tag]
        return ids, targets

    def make(rows: Sequence[int]) -> Batch:
        found = [encoded(given[row]) for row in rows]
        batch = padded([ids for ids, _ in found], encoder.config.pad_id)
        targets_BT = torch.full_like(batch.ids_BT, NO_TARGET)
        for row, (_, targets) in enumerate(found):
            targets_BT[row, : len(targets)] = torch.tensor(targets)
        return batch._replace(targets=targets_BT)

    def objective(module: nn.Module, batch: Batch) -> Loss:
        logits_BTC = module(batch.ids_BT, batch.valid_BT).float()
        chosen_BT = batch.targets != NO_TARGET
        loss = nn.functional.cross_entropy(logits_BTC[chosen_BT], batch.targets[chosen_BT], reduction="sum")
        return Loss(loss, chosen_BT.sum(), samples=len(batch.ids_BT))

    def score(module: TokenClassifier) -> dict[str, float]:
        return score_tags(pipeline_of(module, sentence, labels), scored)

    export = export_with(tokenizer, labels)
    return TaskParts(model, objective, make, score, export, best_of_tags(labels), {"labels": len(labels)})


def extractor(
    sentence: SentenceModel, given: Sequence[Question], scored: Sequence[Question], length: int, name: str
) -> TaskParts:
    """Where a context answers a question; a window without the answer points to its first token.

    One half of the held-out contexts chooses the weights, the other calibrates the probabilities.
    """
    choosing, calibrating = _halves(scored)
    tokenizer, encoder = sentence.tokenizer, sentence.encoder
    model = _continued(name, SpanExtractor, []) or SpanExtractor(encoder)
    has_types = encoder.config.num_types > 1
    passages = (Passage(tokenizer, one.question, one.context, length) for one in given)
    found = [
        item for passage, one in zip(passages, given, strict=True) for item in answer_windows(passage, one)
    ]

    def make(rows: Sequence[int]) -> Batch:
        some = [found[row] for row in rows]
        batch = padded([window.ids for window, _ in some], encoder.config.pad_id)
        types_BT = padded([window.types for window, _ in some], 0).ids_BT
        return batch._replace(types_BT=types_BT, targets=torch.tensor([ends for _, ends in some]))

    def objective(module: nn.Module, batch: Batch) -> Loss:
        types_BT = batch.types_BT if has_types else None
        logits_BT2 = module(batch.ids_BT, batch.valid_BT, types_BT=types_BT).float()
        logits_BT2 = logits_BT2.masked_fill(~batch.valid_BT[..., None], -torch.inf)
        loss = nn.functional.cross_entropy(logits_BT2, batch.targets, reduction="sum") / 2
        return Loss(loss, len(batch.targets), samples=len(batch.targets))

    def score(module: SpanExtractor) -> dict[str, float]:
        return score_answers(pipeline_of(module, sentence, []), choosing)

    def export(module: SpanExtractor, folder: Path) -> None:
        export_with(tokenizer, [])(module, folder)
        calibrate(pipeline_of(module, sentence, []), calibrating).write(folder)

    facts = {
        "windows": len(found),
        "choosing_examples": len(choosing),
        "calibrating_examples": len(calibrating),
    }
    return TaskParts(model, objective, make, score, export, "f1", facts, rows=len(found))


def _halves(scored: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """Questions of every other context, and the rest; a context that is alone stands in both."""
    contexts = {
        context: number for number, context in enumerate(dict.fromkeys(one.context for one in scored))
    }
    halves = [[one for one in scored if contexts[one.context] % 2 == side] for side in (0, 1)]
    return halves[0], halves[1] or halves[0]


def answer_windows(passage: Passage, one: Question) -> list[tuple[Window, tuple[int, int]]]:
    """The windows of a question's context with the places of its first answer's ends in each; (0, 0): not in it."""
    first, last = passage.tokens(one.answers[0].start, one.answers[0].end) if one.answers else (-1, -1)
    found = []
    for window in passage.windows():
        inside = window.start <= first and last < window.stop
        shift = window.first - window.start
        found.append((window, (first + shift, last + shift) if inside else (0, 0)))
    return found


def score_classes(pipeline: EncoderPipeline, scored: Sequence[Labelled]) -> dict[str, float]:
    """Accuracy and macro F1."""
    found = pipeline.classify([one.text for one in scored], pairs_of(scored))
    pairs = [(item.label, one.label) for item, one in zip(found, scored, strict=True)]
    accuracy = float(np.mean([predicted == right for predicted, right in pairs]))
    return {"accuracy": accuracy, "macro_f1": macro_f1(pairs)}


def score_tags(pipeline: EncoderPipeline, scored: Sequence[TaggedText]) -> dict[str, float]:
    """Accuracy of words, and F1 of what BIO tags mark."""
    found = [pipeline.tag_words(one.words) for one in scored]
    right = [
        p == t for tags, one in zip(found, scored, strict=True) for p, t in zip(tags, one.tags, strict=True)
    ]
    pairs = [(tags, one.tags) for tags, one in zip(found, scored, strict=True)]
    return {"accuracy": float(np.mean(right)), "f1": span_f1(pairs)}


def score_answers(pipeline: EncoderPipeline, scored: Sequence[Question]) -> dict[str, float]:
    """SQuAD's exact match and F1; no answer is an answer where a question has none."""
    threshold = 0.0 if any(not one.answers for one in scored) else -math.inf
    readings = pipeline.read([(one.question, one.context) for one in scored])
    pairs = [(found.best(threshold).text, one.texts) for found, one in zip(readings, scored, strict=True)]
    exact, f1 = ([score(*pair) for pair in pairs] for score in (exact_match, token_f1))
    return {"exact_match": float(np.mean(exact)), "f1": float(np.mean(f1))}


def best_of_tags(labels: Sequence[str]) -> str:
    """The score that picks the best tagger: F1 of BIO tags, accuracy of others."""
    return "f1" if any(label.startswith(("B-", "I-")) for label in labels) else "accuracy"


def export_with(tokenizer: TextTokenizer, labels: Sequence[str]) -> Callable[[Any, Path], None]:
    """Writes a model with a head, its labels and its tokenizer into a folder."""

    def export(module: Any, folder: Path) -> None:
        checkpoint.save(module, folder, labels=labels)
        tokenizer.save(folder)

    return export


def sentence_pairs(
    sentence: SentenceModel, given: Sequence[Pair], scored: Sequence[Pair], length: int, scale: float
) -> TaskParts:
    """Vectors of texts that belong together are near, those of the batch's other texts are not.

    InfoNCE of cosines in both directions (``scale``: 1 / temperature); rows that share a text are in no batch together.
    """
    encoder, tokenizer = sentence.encoder, sentence.tokenizer
    settings = replace(sentence.settings, max_length=sentence.settings.max_length or length)
    numbers: dict[str, int] = {}
    keys = [
        tuple(numbers.setdefault(" ".join(text.split()), len(numbers)) for text in (one.text, one.positive))
        for one in given
    ]

    def make(rows: Sequence[int]) -> Batch:
        some = [given[row] for row in rows]
        texts = [one.text for one in some] + [one.positive for one in some]
        texts += [one.negative for one in some if one.negative]
        found = tokenizer.batch(texts, max_length=length)
        return Batch(found.ids_BT, found.valid_BT, found.types_BT, torch.tensor(len(some)))

    def objective(module: nn.Module, batch: Batch) -> Loss:
        hidden_BTE = module(batch.ids_BT, batch.valid_BT).hidden_BTE
        unit_BE = nn.functional.normalize(settings.pool(hidden_BTE, batch.valid_BT).float(), dim=1)
        count = int(batch.targets)
        text_BE, positive_BE, negative_NE = unit_BE[:count], unit_BE[count : 2 * count], unit_BE[2 * count :]
        more = negative_NE if len(negative_NE) else None
        loss_B = info_nce(text_BE, positive_BE, scale, negatives_NE=more)
        loss_B = (loss_B + info_nce(positive_BE, text_BE, scale)) / 2
        return Loss(loss_B.sum(), count, samples=count)

    def score(module: TextEncoder) -> dict[str, float]:
        pipeline = EncoderPipeline(SentenceModel(module, tokenizer, settings))
        others = list(dict.fromkeys(one.positive for one in scored))
        found = pipeline.similarity([one.text for one in scored], others).cosines.argmax(1)
        right = [others[place] == one.positive for place, one in zip(found, scored, strict=True)]
        return {"accuracy@1": float(np.mean(right))}

    def export(module: TextEncoder, folder: Path) -> None:
        SentenceModel(module, tokenizer, settings).save(folder)

    chance = 1 / len({one.positive for one in scored})
    return TaskParts(encoder, objective, make, score, export, "accuracy@1", {"chance": chance}, keys)


def pairs_of(some: Sequence[Labelled]) -> list[str] | None:
    """The second texts, where there are any."""
    return None if some[0].pair is None else [one.pair or "" for one in some]


def pipeline_of(
    module: SequenceClassifier | TokenClassifier | SpanExtractor,
    sentence: SentenceModel,
    labels: Sequence[str],
) -> EncoderPipeline:
    """The pipeline that answers with a model while it trains."""
    model = SentenceModel(module.encoder, sentence.tokenizer, sentence.settings)
    return EncoderPipeline(model, head=module, labels=labels)


def _continued(name: str, kind: Any, labels: Sequence[str]) -> Any:
    """The model of a folder that has this head for these labels already; None for any other."""
    if not name:
        return None
    folder = hub.resolve(name)
    if checkpoint.task_of(config.read_json(folder / "config.json")) is not kind:
        return None
    model, own = checkpoint.load(folder, kind)
    return model if kind is SpanExtractor or own == list(labels) else None


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> Batch:
    """Rows of ids as a batch without types and targets."""
    ids_BT = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, pad_id)
    lengths_B = torch.tensor([len(row) for row in rows])
    valid_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]
    return Batch(ids_BT, valid_BT, torch.zeros_like(ids_BT), torch.tensor(0))
