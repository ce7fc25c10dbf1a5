"""SQuAD's scores of a model on questions with their contexts, or among all contexts of the files; and calibration."""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.evaluation import Metric, Report, Sample, evaluate
from multiway_text.data.squad import (
    Question,
    best_threshold,
    exact_match,
    normalized,
    read_squad,
    token_f1,
)
from multiway_text.encoder.answerability import RIGHT
from multiway_text.search.chunks import sentences

from multiway_question_answering.app import APP

if TYPE_CHECKING:
    from multiway_text.question_answering.pipeline import QuestionAnsweringPipeline

OnSample = Callable[[dict[str, Any]], None]
HAS, NONE = "with an answer", "without an answer"
_BINS = 10
_LANGUAGE = re.compile(r"[._-]([a-z]{2})(?=\.json)")
SCORES = {"exact match": exact_match, "f1": token_f1}


@dataclass(frozen=True)
class Prediction:
    """What a model says to a question.

    Attributes:
        text: the likeliest answer.
        answered: whether it is given, or none is.
        no_answer: minus the margin: the higher, the likelier there is none.
        probability: that the text is right.
        is_own: whether it stands in the question's own context.
    """

    text: str
    answered: bool
    no_answer: float
    probability: float
    is_own: bool = True

    @property
    def given(self) -> str:
        """The text, or nothing where no answer is given."""
        return self.text if self.answered else ""


def read_questions(paths: Sequence[str], limit: int | None, seed: int) -> list[tuple[str, Question]]:
    """(language by the file's name, or nothing; question); of more than ``limit`` a sample.

    Raises InputError, DataError (path and field).
    """
    found = []
    for path in paths:
        language = _LANGUAGE.search(Path(path).name)
        found += [("" if language is None else language[1], one) for one in read_squad([path])]
    return found if limit is None or limit >= len(found) else random.Random(seed).sample(found, limit)


def evaluate_questions(
    pipeline: QuestionAnsweringPipeline,
    asked: Sequence[tuple[str, Question]],
    *,
    dev: Sequence[Question] = (),
    among_all: bool = False,
    name: str,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> Report:
    """Exact match and F1, also of the questions with and without an answer, by language, beside a sentence baseline.

    Args:
        dev: other questions: the threshold that is best for their F1 decides; without, a probability of a half.
        among_all: search finds the passages, in all contexts of the files; only questions with an answer are asked.

    Raises InputError: no question is left.
    """
    if among_all:
        asked = [(language, one) for language, one in asked if one.answers]
    or_none = any(not one.answers for _, one in asked)
    threshold = None
    if dev:
        with _asked_to(pipeline, []) as ask:
            threshold = best_on([(ask(one), one) for one in dev], token_f1)[1]
    said: dict[int, Prediction] = {}

    def decided(found: Prediction) -> Prediction:
        answered = found.probability >= 0.5 if threshold is None else found.no_answer <= threshold
        return dataclasses.replace(found, answered=answered or not (or_none or dev))

    with _asked_to(pipeline, [one for _, one in asked] if among_all else []) as ask:
        report = evaluate(
            (Sample(one.where, (row, one), one) for row, (_, one) in enumerate(asked)),
            lambda pair: said.setdefault(pair[0], decided(ask(pair[1]))),
            _metrics(or_none, among_all),
            name=name if threshold is None else f"{name}, threshold {-threshold:.2f} of {len(dev)} others",
            seed=seed,
            group=_groups(asked, or_none),
            on_sample=on_sample,
        )
    rows = [(found, asked[row][1]) for row, found in said.items()]
    more = {"calibration error": calibration_error([(p.probability, _is_right(p, one)) for p, one in rows])}
    if or_none:
        more |= {f"best {key}": best_on(rows, score)[0] for key, score in SCORES.items()}
    metrics = report.metrics | {key: Metric(value, None, None, len(rows)) for key, value in more.items()}
    return dataclasses.replace(report, metrics=metrics)


def best_on(
    rows: Sequence[tuple[Prediction, Question]], score: Callable[[str, list[str]], float]
) -> tuple[float, float]:
    """(mean score, threshold of ``no_answer``) of the threshold that is best on these questions themselves."""
    return best_threshold(
        [score(found.text, one.texts) if one.answers else 0.0 for found, one in rows],
        [found.no_answer for found, _ in rows],
        [bool(one.answers) for _, one in rows],
    )


def calibration_error(pairs: Sequence[tuple[float, bool]]) -> float:
    """Of (probability, whether right): the mean distance of both in ten bins of probability, weighted by their size."""
    total = 0.0
    for number in range(_BINS):
        some = [pair for pair in pairs if min(int(pair[0] * _BINS), _BINS - 1) == number]
        total += abs(sum(p - right for p, right in some))
    return total / len(pairs)


def _metrics(or_none: bool, among_all: bool) -> dict[str, Any]:
    def of(score: Any, has: bool | None) -> Any:
        return lambda found, one: (
            score(found.given, one.texts) if has is None or bool(one.answers) == has else None
        )

    metrics: dict[str, Any] = {key: of(score, None) for key, score in SCORES.items()}
    if or_none:
        metrics |= {f"HasAns {key}": of(score, True) for key, score in SCORES.items()}
        metrics["NoAns accuracy"] = of(exact_match, False)
    metrics["brier"] = lambda found, one: (found.probability - _is_right(found, one)) ** 2
    if among_all:
        metrics["right context"] = lambda found, _: float(found.is_own)
    else:
        metrics["sentence f1"] = lambda _, one: token_f1(_sentence(one), one.texts)
    return metrics


@contextmanager
def _asked_to(
    pipeline: QuestionAnsweringPipeline, together: Sequence[Question]
) -> Iterator[Callable[[Question], Prediction]]:
    """The function that asks a question: in its own context, or in those of all questions ``together``."""
    if not together:

        def ask(one: Question) -> Prediction:
            found = next(pipeline.reader.read([(one.question, one.context)]))
            probability = pipeline.answerability.probability(found.margin)
            return Prediction(found.best().text, True, -found.margin, probability)

        yield ask
        return
    names = {text: str(number) for number, text in enumerate(dict.fromkeys(one.context for one in together))}
    with pipeline.texts({name: text for text, name in names.items()}) as collection:

        def search(one: Question) -> Prediction:
            found = pipeline.ask(collection, one.question, top=1)
            if not found.answers:
                return Prediction("", False, math.inf, 0.0, False)
            best = found.answers[0]
            own = best.source == names[one.context]
            return Prediction(best.text, True, -best.margin, best.probability, own)

        yield search


def _groups(asked: Sequence[tuple[str, Question]], or_none: bool) -> Callable[[Sample], list[str]] | None:
    """By language, where the files name several, and by whether there is an answer."""
    languages = len({language for language, _ in asked}) > 1

    def groups(sample: Sample) -> list[str]:
        language, one = asked[sample.input[0]]
        return [
            *([language or "other"] if languages else []),
            *([HAS if one.answers else NONE] if or_none else []),
        ]

    return groups if languages or or_none else None


def _is_right(found: Prediction, one: Question) -> bool:
    return bool(one.answers) and token_f1(found.text, one.texts) >= RIGHT


def _sentence(one: Question) -> str:
    """The baseline: the sentence of the context that has most of the question's words."""
    asked = set(normalized(one.question).split())
    spans = [one.context[start:end] for start, end in sentences(one.context)] or [one.context]
    return max(
        spans, key=lambda text: len(asked & set(normalized(text).split())) / (1 + math.log1p(len(text)))
    )


def quick_evaluation() -> Report:
    """The bundled model on the questions that come with the app; see :func:`own_questions`."""
    return own_questions(load_pipeline(APP, ModelOptions(device="cpu")))


def own_questions(
    pipeline: QuestionAnsweringPipeline, *, seed: int = 0, on_sample: OnSample | None = None
) -> Report:
    """Questions that we wrote about texts that we wrote: they show that all works, and are no measure in general."""
    asked = [("", one) for one in _own()]
    name = f"answers of {pipeline.name} to {len(asked)} questions of our own"
    return evaluate_questions(pipeline, asked, name=name, seed=seed, on_sample=on_sample)


def own_texts() -> dict[str, tuple[str, list[str]]]:
    """By title the texts that come with the app, with questions of which the last has no answer."""
    found: dict[str, tuple[str, list[str]]] = {}
    for one in _own():
        questions = found.setdefault(one.title, (one.context, []))[1]
        questions.append(one.question)
    return {title: (text, [*questions[:4], questions[-1]]) for title, (text, questions) in found.items()}


def _own() -> list[Question]:
    folder = importlib.resources.files("multiway_question_answering")
    with importlib.resources.as_file(folder / "own.json") as path:
        return read_squad([str(path)])
