"""Scores of written texts against references, beside what needs no model."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import DataError, InputError
from multiway_core.evaluation import Report, Sample, evaluate

from multiway_summarization.app import APP
from multiway_summarization.options import DecodingOptions, Task

if TYPE_CHECKING:
    from multiway_summarization.models import Pipeline

_SENTENCES = 2
"""Of a summary that is measured."""
_LEAD_WORDS = 8
"""Of the lead baseline of titles."""


@dataclass(frozen=True)
class Case:
    """A text, the answer that a question should have, and the reference."""

    name: str
    text: str
    answer: str
    reference: str


def read_cases(paths: Sequence[str], task: Task) -> list[Case]:
    """From JSON lines with ``src``, ``tgt`` and, for questions, ``answer``. Raises InputError, DataError."""
    from multiway_text.encoder.rows import read_rows

    found = []
    for row in read_rows(paths):
        answer = row.fields.get("answer", "") if task == "ask" else ""
        case = Case(row.where, row.text("src"), answer, row.text("tgt"))
        if not case.text.strip() or not case.reference.strip():
            raise DataError(f"{row.where}: src or tgt is empty")
        if not isinstance(answer, str) or answer not in case.text:
            raise DataError(f"{row.where}: answer: expected a part of src, got {answer!r}")
        found.append(case)
    if not found:
        raise InputError(f"{', '.join(paths)}: nothing to measure")
    return found


def evaluate_files(
    paths: Sequence[str],
    task: Task,
    model: ModelOptions,
    decoding: DecodingOptions,
    language: str | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    on_progress: Callable[..., None] = lambda *_: None,
) -> Report:
    """The report of one task on files of cases; of more than ``limit`` cases a sample that the seed draws."""
    cases = read_cases(paths, task)
    if limit is not None and limit < len(cases):
        cases = random.Random(seed).sample(cases, limit)
    pipeline = load_pipeline(APP, model)
    return evaluate_cases(
        pipeline,
        cases,
        task,
        decoding,
        language,
        name=f"{task} of {', '.join(paths)}",
        seed=seed,
        on_progress=on_progress,
    )


def evaluate_cases(
    pipeline: Pipeline,
    cases: Sequence[Case],
    task: Task,
    decoding: DecodingOptions,
    language: str | None = None,
    *,
    name: str,
    seed: int = 0,
    on_progress: Callable[..., None] = lambda *_: None,
) -> Report:
    """Means of the metrics by case; a baseline's metric has its name behind a colon, such as ``rougeL:lead``."""
    baselines = _baselines(task, seed)
    scores = Scores()
    write = _writer(pipeline, task, decoding, language)
    done = 0

    def predict(case: Case) -> dict[str, str]:
        nonlocal done
        done += 1
        on_progress(done, len(cases))
        return {
            "": write(case),
            **{key: of(case) for key, of in baselines.items()},
        }

    def metric(key: str, system: str) -> Callable[[dict[str, str], Case], float]:
        return lambda texts, case: scores.of(texts[system], case.reference)[key]

    metrics = {
        f"{key}:{system}" if system else key: metric(key, system)
        for key in ("rouge1", "rouge2", "rougeL", "bleu4", "meteor")
        for system in ("", *baselines)
    }
    return evaluate([Sample(case.name, case, case) for case in cases], predict, metrics, name=name, seed=seed)


class Scores:
    """ROUGE (rouge-score, with stemming), sentence BLEU-4 (sacrebleu, lower case), METEOR (NLTK), all 0 to 1.

    METEOR matches words and stems; WordNet, which NLTK does not bring, is not asked for synonyms.
    """

    def __init__(self) -> None:
        from nltk.translate.meteor_score import single_meteor_score
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics import BLEU

        self._rouge = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
        self._bleu = BLEU(lowercase=True, effective_order=True)
        self._meteor = single_meteor_score
        self._last: tuple[tuple[str, str], dict[str, float]] = (("", ""), {})

    def of(self, text: str, reference: str) -> dict[str, float]:
        """All scores of a text by name."""
        if self._last[0] != (text, reference) or not self._last[1]:
            rouge = self._rouge.score(reference, text)
            found = {key: float(value.fmeasure) for key, value in rouge.items()}
            found["bleu4"] = self._bleu.sentence_score(text, [reference]).score / 100
            words = [self._words(reference), self._words(text)]
            found["meteor"] = float(self._meteor(*words, wordnet=_NoSynonyms())) if all(words) else 0.0
            self._last = (text, reference), found
        return self._last[1]

    @staticmethod
    def _words(text: str) -> list[str]:
        from rouge_score.tokenize import tokenize

        return tokenize(text, None)


class _NoSynonyms:
    @staticmethod
    def synsets(word: str) -> list[Any]:
        return []


def _writer(
    pipeline: Pipeline, task: Task, decoding: DecodingOptions, language: str | None
) -> Callable[[Case], str]:
    from multiway_summarization.models import title_writer

    titles = title_writer(pipeline, decoding, language)
    if task == "ask":
        return lambda case: pipeline.ask(case.text, case.answer, decoding.decoding()).question
    if task == "summarize":
        return lambda case: pipeline.summarize(case.text, _SENTENCES, decoding.decoding()).text
    return lambda case: titles([case.text])[0].title


def _baselines(task: Task, seed: int) -> dict[str, Callable[[Case], str]]:
    from multiway_text.s2s_ft.windows import sentences

    def parts(text: str) -> list[str]:
        return [text[part.start : part.end] for part in sentences(text)]

    def random_sentence(case: Case) -> str:
        return random.Random(f"{seed}:{case.name}").choice(parts(case.text))

    def of_answer(case: Case) -> str:
        return next((part for part in parts(case.text) if case.answer in part), case.text)

    def template(case: Case) -> str:
        """The answer's sentence with "what" in the answer's place."""
        return (
            of_answer(case).replace(case.answer, "what", 1).rstrip(" .!") + "?"
            if case.answer
            else "What is it?"
        )

    if task == "ask":
        return {"template": template, "sentence": of_answer}
    if task == "summarize":
        return {"lead": lambda case: " ".join(parts(case.text)[:_SENTENCES]), "random": random_sentence}
    lead = lambda case: " ".join(case.text.split()[:_LEAD_WORDS])  # noqa: E731
    return {"lead": lead, "sentence": lambda case: parts(case.text)[0], "random": random_sentence}


def quick_evaluation() -> Report:
    """Titles of descriptions that no training saw, and that come with the app."""
    import importlib.resources

    folder = importlib.resources.files("multiway_summarization") / "examples"
    with importlib.resources.as_file(folder) as path:
        report = evaluate_files([str(path / "titles.jsonl")], "title", ModelOptions(), DecodingOptions())
    return replace(report, name="titles of package descriptions")
