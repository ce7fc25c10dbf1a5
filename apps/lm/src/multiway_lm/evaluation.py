"""The ``evaluate`` command: perplexity of texts, multiple choice, and the quick measure of the bundled model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.data_files import get, read_text
from multiway_core.errors import DataError
from multiway_core.evaluation import Ratio, Report, Sample, evaluate

from multiway_lm.app import APP

if TYPE_CHECKING:
    from multiway_text.language_model import LanguageModel
    from multiway_text.scoring import Choice, TextScore

QUICK = [
    # (context, choices, right)
    ("The capital of France is", [" Paris", " Berlin", " Madrid", " Rome"], 0),
    ("The opposite of hot is", [" green", " cold", " round", " loud"], 1),
    ("Two plus two is", [" seven", " nine", " four", " ten"], 2),
    ("A cat is an", [" animal", " engine", " ocean", " office"], 0),
    ("In winter it often", [" sings", " reads", " cooks", " snows"], 3),
    ("The sun rises in the", [" box", " east", " song", " shoe"], 1),
    ("Fish live in the", [" water", " book", " fire", " sky"], 0),
    ("We see with our", [" knees", " teeth", " eyes", " hair"], 2),
    ("Bread is made from", [" glass", " flour", " iron", " paper"], 1),
    ("A week has seven", [" days", " years", " moons", " doors"], 0),
    ("Birds can", [" melt", " drive", " fly", " print"], 2),
    ("The colour of fresh grass is", [" blue", " black", " pink", " green"], 3),
]


def evaluate_files(
    task: str,
    paths: Sequence[str],
    options: ModelOptions,
    *,
    field: str = "text",
    window: int | None = None,
    stride: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    on_sample: Callable[[dict[str, Any]], None] | None = None,
) -> Report:
    """``perplexity`` of documents, or ``choice``: JSONL of questions. Raises InputError, DataError."""
    if task == "choice":
        return choice_report(
            load_pipeline(APP, options), _limited(read_choices(paths), limit), seed, on_sample
        )
    from multiway_text.documents import TextFiles

    source = TextFiles(paths, field=field)
    model = load_pipeline(APP, options)
    samples = (Sample(document.name, document.text, None) for document in _limited(source, limit))
    return evaluate(
        samples,
        lambda text: model.score(text, window=window, stride=stride),
        {"bits_per_byte": _bits_per_byte, "nats_per_token": _nats_per_token},
        name=f"perplexity of {options.model}",
        seed=seed,
        on_sample=on_sample,
    )


def choice_report(
    model: LanguageModel,
    rows: Any,
    seed: int,
    on_sample: Callable[[dict[str, Any]], None] | None = None,
) -> Report:
    """Accuracy by three ways to compare continuations, beside chance."""
    samples = (
        Sample(row["name"], (row["context"], row["choices"]), (row["answer"], len(row["choices"])))
        for row in rows
    )
    return evaluate(
        samples,
        lambda question: model.choose(*question),
        {
            "accuracy": lambda choice, target: float(choice.best == target[0]),
            "accuracy_by_byte": lambda choice, target: float(choice.best_by_byte == target[0]),
            "accuracy_by_token": lambda choice, target: float(choice.best_by_token == target[0]),
            "probability": _probability,
            "chance": lambda choice, target: 1 / target[1],
        },
        name=f"multiple choice of {model.name}",
        seed=seed,
        on_sample=on_sample,
    )


def read_choices(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows ``{"context": ..., "choices": [...], "answer": index}``; ``question`` and ``label`` are read as well.

    Raises DataError with file and line for anything else.
    """
    from multiway_text.documents import find_files

    for path in find_files(paths):
        for number, line in enumerate(read_text(path).split("\n"), 1):
            if line.strip():
                yield _choice(line, f"{path}:{number}")


def _choice(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where}: not JSON") from error
    if isinstance(row, dict):
        row = {"context": row.get("question"), "answer": row.get("label"), **row}
    context = get(row, "context", str, where)
    choices = get(row, "choices", list, where)
    answer = get(row, "answer", int, where)
    if not all(isinstance(choice, str) and choice for choice in choices) or len(choices) < 2:
        raise DataError(f"{where}.choices: expected at least two texts")
    if not 0 <= answer < len(choices):
        raise DataError(f"{where}.answer: {answer} is no index of {len(choices)} choices (they count from 0)")
    # A choice is a continuation: a space belongs before a word, where the context does not end with one.
    if context and not context[-1].isspace():
        choices = [choice if choice[0].isspace() else f" {choice}" for choice in choices]
    return {"name": where, "context": context, "choices": choices, "answer": answer}


def quick_rows() -> list[dict[str, Any]]:
    """A dozen questions of common knowledge with four choices."""
    return [
        {"name": context, "context": context, "choices": choices, "answer": answer}
        for context, choices, answer in QUICK
    ]


def quick_evaluation() -> Report:
    """The bundled model on them; chance is a quarter."""
    return choice_report(load_pipeline(APP, ModelOptions(device="cpu")), quick_rows(), 0)


def _limited(items: Any, limit: int | None) -> Iterator[Any]:
    for number, item in enumerate(items):
        if limit is not None and number >= limit:
            return
        yield item


def _bits_per_byte(score: TextScore, target: None) -> Ratio:
    return Ratio(-score.log_prob / math.log(2), score.num_bytes)


def _nats_per_token(score: TextScore, target: None) -> Ratio:
    return Ratio(-score.log_prob, score.num_scored)


def _probability(choice: Choice, target: tuple[int, int]) -> float:
    """Of the right answer among the choices."""
    largest = max(choice.log_probs)
    weights = [math.exp(value - largest) for value in choice.log_probs]
    return weights[target[0]] / sum(weights)
