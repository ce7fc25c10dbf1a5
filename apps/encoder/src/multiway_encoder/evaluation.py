"""The ``evaluate`` command: each task is measured beside a simple baseline in the same run."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.data_files import number
from multiway_core.errors import InputError
from multiway_core.evaluation import Metric, Report, Sample, evaluate

from multiway_encoder.app import APP

if TYPE_CHECKING:
    from multiway_text.encoder.examples import TaggedText
    from multiway_text.encoder.pipeline import EncoderPipeline

OnSample = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Columns:
    """Names of the columns of rows; ``names``: of a table whose first line is a row already."""

    text: str = "text"
    pair: str = "pair"
    label: str = "label"
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Question:
    """A text, the one that it belongs to, and where it stands."""

    text: str
    target: str
    where: str


@dataclass(frozen=True)
class Ranking:
    """How far down the right text stands, from 1: by the model, and by BM25."""

    model: int
    bm25: int


class Corpus:
    """The texts that are searched: by cosine of the model's vectors, and by BM25."""

    def __init__(self, pipeline: EncoderPipeline, texts: Sequence[str]) -> None:
        self.pipeline, self.texts = pipeline, list(texts)
        self.unit_NE = _unit(pipeline.embed(self.texts, windows=True).vectors)

    @cached_property
    def bm25(self) -> Any:
        """Of the `rank-bm25` package, on lower-case words."""
        from rank_bm25 import BM25Okapi

        return BM25Okapi([_words(text) for text in self.texts])

    def rank(self, question: Question) -> Ranking:
        """Of the question's own text. Equal scores count as a place in their middle, rounded up."""
        right = self.texts.index(question.target)
        cosines = self.unit_NE @ _unit(self.pipeline.embed([question.text]).vectors)[0]
        return Ranking(_place(cosines, right), _place(self.bm25.get_scores(_words(question.text)), right))


def evaluate_files(
    task: str,
    paths: Sequence[str],
    model: ModelOptions,
    columns: Columns,
    *,
    limit: int | None = None,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> Report:
    """Raises InputError, DataError (file and line; a label that the model was not taught)."""
    from multiway_encoder.inputs import pipeline_of

    if task == "retrieval":
        questions = read_questions(paths, columns)
        return retrieval(pipeline_of(model), questions, limit, seed, on_sample)
    if task == "extraction":
        return extraction(pipeline_of(model), paths, limit, seed, on_sample)
    if task == "tagging":
        return tagging(pipeline_of(model), paths, limit, seed, on_sample)
    if task == "classification":
        return classification(pipeline_of(model), paths, columns, limit, seed, on_sample)
    return similarity(pipeline_of(model), paths, columns, limit, seed, on_sample)


def retrieval(
    pipeline: EncoderPipeline,
    questions: Sequence[Question],
    limit: int | None = None,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> Report:
    """Accuracy@1 and reciprocal rank of finding each question's text among all of them, beside BM25."""
    corpus = Corpus(pipeline, list(dict.fromkeys(one.target for one in questions)))
    return evaluate(
        (Sample(one.where, one, None) for one in questions[:limit]),
        corpus.rank,
        {
            "accuracy@1": lambda found, _: float(found.model == 1),
            "mrr@10": lambda found, _: _reciprocal(found.model),
            "bm25 accuracy@1": lambda found, _: float(found.bm25 == 1),
            "bm25 mrr@10": lambda found, _: _reciprocal(found.bm25),
            "chance": lambda found, _: 1 / len(corpus.texts),
        },
        name=f"retrieval of {pipeline.name} among {len(corpus.texts)} texts",
        seed=seed,
        on_sample=on_sample,
    )


def classification(
    pipeline: EncoderPipeline,
    paths: Sequence[str],
    columns: Columns,
    limit: int | None,
    seed: int,
    on_sample: OnSample | None,
) -> Report:
    """Accuracy, by label too, beside always taking the label that is most frequent in the file."""
    from multiway_text.encoder.examples import check_labels, read_labelled

    rows = read_labelled(paths, text=columns.text, label=columns.label, pair=None, columns=columns.names)
    check_labels(rows, pipeline.labels)
    frequent = Counter(row.label for row in rows).most_common(1)[0][0]
    return evaluate(
        (Sample(row.where, row.text, row.label) for row in rows[:limit]),
        lambda text: pipeline.classify([text])[0],
        {
            "accuracy": lambda found, label: float(found.label == label),
            "most frequent label": lambda found, label: float(label == frequent),
        },
        name=f"classification by {pipeline.name}",
        seed=seed,
        group=lambda sample: str(sample.target),
        on_sample=on_sample,
    )


def tagging(
    pipeline: EncoderPipeline,
    paths: Sequence[str],
    limit: int | None,
    seed: int,
    on_sample: OnSample | None,
) -> Report:
    """Accuracy of words, beside always taking the file's most frequent tag; of BIO tags the F1 of what they mark."""
    from multiway_text.encoder.examples import check_labels, read_tagged
    from multiway_text.encoder.scores import span_f1

    rows = read_tagged(paths)
    check_labels(rows, pipeline.labels)
    found_tags: dict[str, list[str]] = {}
    frequent = Counter(tag for row in rows for tag in row.tags).most_common(1)[0][0]

    def tags_of(row: TaggedText) -> list[str]:
        found_tags[row.where] = pipeline.tag_words(row.words)
        return found_tags[row.where]

    found = evaluate(
        (Sample(row.where, row, row) for row in rows[:limit]),
        tags_of,
        {
            "accuracy": lambda tags, row: _share(tags, row.tags),
            "most frequent tag": lambda tags, row: _share([frequent] * len(row.tags), row.tags),
        },
        name=f"tags by {pipeline.name}",
        seed=seed,
        on_sample=on_sample,
    )
    if not any(label.startswith(("B-", "I-")) for label in pipeline.labels):
        return found
    pairs = [(found_tags[row.where], row.tags) for row in rows if row.where in found_tags]
    return dataclasses.replace(
        found, metrics={"f1": Metric(span_f1(pairs), None, None, len(pairs))} | found.metrics
    )


def extraction(
    pipeline: EncoderPipeline,
    paths: Sequence[str],
    limit: int | None,
    seed: int,
    on_sample: OnSample | None,
) -> Report:
    """SQuAD's exact match and F1, beside the F1 of taking the whole context."""
    from multiway_text.data.squad import exact_match, read_squad, token_f1

    rows = read_squad(paths)
    or_none = any(not row.answers for row in rows)
    return evaluate(
        (Sample(row.where, row, row) for row in rows[:limit]),
        lambda row: pipeline.answer(row.question, row.context, or_none=or_none),
        {
            "exact match": lambda found, row: exact_match(found.text, row.texts),
            "f1": lambda found, row: token_f1(found.text, row.texts),
            "whole context f1": lambda found, row: token_f1(row.context, row.texts),
        },
        name=f"answers of {pipeline.name} to {len(rows)} questions",
        seed=seed,
        on_sample=on_sample,
    )


def similarity(
    pipeline: EncoderPipeline,
    paths: Sequence[str],
    columns: Columns,
    limit: int | None,
    seed: int,
    on_sample: OnSample | None,
) -> Report:
    """Rank correlation of cosines with human scores of pairs, beside the share of common words."""
    from multiway_text.encoder.rows import read_rows
    from multiway_text.encoder.scores import spearman

    samples = [
        Sample(
            row.where,
            (row.text(columns.text, "--text-column"), row.text(columns.pair, "--pair-column")),
            number(row.fields.get(columns.label), f"{row.where}.{columns.label}"),
        )
        for row in islice(read_rows(paths, columns=columns.names), limit)
    ]
    if len({sample.target for sample in samples}) < 2:
        raise InputError(f"{', '.join(paths)}: a rank correlation needs pairs with different scores")
    found = evaluate(
        samples,
        lambda pair: float(pipeline.similarity([pair[0]], [pair[1]]).cosines[0, 0]),
        {"cosine": lambda cosine, score: cosine},
        name=f"similarity by {pipeline.name}",
        seed=seed,
        on_sample=on_sample,
    )
    done = {row["name"]: row["metrics"]["cosine"] for row in found.rows if "error" not in row}
    kept = [sample for sample in samples if sample.name in done]
    scores = np.array([sample.target for sample in kept])
    by_words = np.array([_common_words(*sample.input) for sample in kept])
    cosines = np.array([done[sample.name] for sample in kept])
    metrics = {
        "spearman": Metric(spearman(cosines, scores), None, None, len(kept)),
        "common words spearman": Metric(spearman(by_words, scores), None, None, len(kept)),
    }
    return dataclasses.replace(found, metrics=metrics | found.metrics)


def read_questions(paths: Sequence[str], columns: Columns) -> list[Question]:
    """SQuAD's JSON (XQuAD; a question belongs to its paragraph), or rows of two texts. Raises InputError, DataError."""
    from multiway_text.data.squad import read_squad
    from multiway_text.encoder.examples import read_pairs

    found: list[Question] = []
    for path in paths:
        if path.removesuffix(".gz").endswith(".json"):
            found += [Question(one.question, one.context, one.where) for one in read_squad([path])]
        else:
            rows = read_pairs(
                [path], text=columns.text, pair=columns.pair, negative=None, columns=columns.names
            )
            found += [Question(row.text, row.positive, row.where) for row in rows]
    if not found:
        raise InputError(f"{', '.join(paths)}: no question")
    return found


QUICK = [
    ("Which animal carries its young in a pouch?", "Kangaroos raise their joeys in a fold of skin on the belly."),
    ("Why is the sky blue?", "Air scatters short waves of sunlight more than long ones, which colours the heavens."),
    ("How do planes stay up?", "A wing moving forward pushes air downwards, and the reaction is called lift."),
    ("What should I do when my laptop gets too hot?", "Clean the computer's fan and vents; keep it off cushions."),
    ("Who looks after sick pets?", "A veterinarian treats ill or injured cats, dogs and other animals."),
    ("How can I fall asleep faster?", "A dark, cool bedroom and no screens in the evening help against insomnia."),
    ("What do I need to bake bread?", "Flour, water, yeast and salt are kneaded into a dough for a loaf."),
    ("When does the shop open?", "Our store hours are nine to six on weekdays; it is closed on Sundays."),
    ("I lost my password, what now?", "Use the link for forgotten credentials to log in again."),
    ("Where does rain come from?", "Vapour rises from seas, cools into droplets in clouds, and falls to the ground."),
    ("How do I get rid of ants?", "Seal cracks and keep sugar in jars; bait kills the insects in their nest."),
    ("What is a leap year for?", "An extra day in February keeps the calendar in step with the seasons."),
    ("Can I give the jacket back?", "Unworn clothes may be returned within thirty days for a refund."),
    ("What makes dough rise?", "Yeast eats sugar and gives off gas, whose bubbles the gluten holds."),
    ("How is paper made?", "Wood is ground and boiled to a pulp of fibres, which is pressed into sheets and dried."),
    ("Do bees sleep?", "At night workers in the hive stop moving, lower their antennae and rest for hours."),
]  # fmt: skip
"""Written to share few words: BM25 finds two of these answers (0.125). No measure of retrieval in general."""


def bundled_questions(
    pipeline: EncoderPipeline,
    limit: int | None = None,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> Report:
    """Retrieval of the answers to the questions above. Its name says that they favour vectors over words."""
    questions = [Question(question, answer, question) for question, answer in QUICK]
    found = retrieval(pipeline, questions, limit, seed, on_sample)
    name = f"retrieval of {pipeline.name} on {len(QUICK)} questions that we wrote to share few words with their answers"
    return dataclasses.replace(found, name=name)


def quick_evaluation() -> Report:
    """The bundled model on them, beside BM25; chance is 1 in 16."""
    return bundled_questions(load_pipeline(APP, ModelOptions(device="cpu")))


def _share(tags: Sequence[str], right: Sequence[str]) -> float:
    return float(np.mean([one == other for one, other in zip(tags, right, strict=True)]))


def _unit(vectors_NE: Any) -> Any:
    return vectors_NE / np.maximum(np.linalg.norm(vectors_NE, axis=-1, keepdims=True), 1e-12)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _place(scores: Any, right: int) -> int:
    better, equal = int((scores > scores[right]).sum()), int((scores == scores[right]).sum())
    return better + (equal + 2) // 2


def _reciprocal(place: int) -> float:
    return 1 / place if place <= 10 else 0.0


def _common_words(one: str, other: str) -> float:
    first, second = set(_words(one)), set(_words(other))
    return len(first & second) / max(1, len(first | second))
