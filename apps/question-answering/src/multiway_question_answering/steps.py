"""Steps for pipelines of ``distilabel``, whose columns are those of SQuAD's data sets on the hub.

    with Pipeline("make and check") as pipeline:
        load = LoadDataFromDicts(data=[{"text": "Ann Smith wrote it in Oslo in May 1990."}])
        load >> HarvestQuestions() >> ExtractAnswers()

``HarvestQuestions`` makes rows with question, context and answers of rows with a text, ``AddUnanswerable`` adds twins
that the context does not answer, ``ExtractAnswers`` tells which questions their context answers, and by which words.
"""

# Annotations are evaluated here: distilabel finds the parameter of the rows by its type.
from collections.abc import Iterator
from typing import Any

from distilabel.steps import Step, StepInput
from multiway_core.app import ModelOptions, load_pipeline
from multiway_text.data.squad import Question, question_of
from multiway_text.ref_qa.harvest import HarvestPipeline, HarvestSettings
from multiway_text.ref_qa.sources import Source
from multiway_text.unans_qa.augmentation import with_twins
from multiway_text.unans_qa.rules import RulePipeline
from pydantic import PrivateAttr

from multiway_question_answering.app import APP

_COLUMNS = ("id", "title", "context", "question", "answers")


class HarvestQuestions(Step):
    """Rows with ``text`` (and maybe ``title``) become rows with a question, one for each that can be made.

    Attributes:
        language, style, context, answers, per_sentence: as the options of ``harvest``.
    """

    language: str = "en"
    style: str = "reordered"
    context: str = "passage"
    answers: str = "entities"
    per_sentence: int = 3
    seed: int = 0
    _pipeline: Any = PrivateAttr(None)

    def load(self) -> None:
        """Raises InputError: no parser for the language."""
        super().load()
        settings = {
            name: getattr(self, name) for name in ("style", "context", "answers", "per_sentence", "seed")
        }
        self._pipeline = HarvestPipeline.from_pretrained(self.language, HarvestSettings(**settings))

    @property
    def inputs(self) -> list[str]:
        """Columns that are read."""
        return ["text"]

    @property
    def outputs(self) -> list[str]:
        """Columns of the new rows."""
        return list(_COLUMNS)

    def process(self, inputs: StepInput) -> Iterator[list[dict[str, Any]]]:
        """A batch of rows."""
        sources = (
            Source(row["text"], str(row.get("id", number)), row.get("title") or "")
            for number, row in enumerate(inputs)
        )
        yield [_row(pair.question) for pair in self._pipeline.harvest(sources)]


class AddUnanswerable(Step):
    """Adds behind each row with answers a twin that the context does not answer, written by rules for English."""

    @property
    def inputs(self) -> list[str]:
        """Columns that are read."""
        return list(_COLUMNS)

    @property
    def outputs(self) -> list[str]:
        """Columns of the new rows."""
        return list(_COLUMNS)

    def process(self, inputs: StepInput) -> Iterator[list[dict[str, Any]]]:
        """A batch of rows."""
        questions = [question_of(row, f"row {number}") for number, row in enumerate(inputs)]
        yield [_row(one) for one in with_twins(questions, RulePipeline()).questions]


def _row(one: Question) -> dict[str, Any]:
    answers = {"text": one.texts, "answer_start": [answer.start for answer in one.answers]}
    values = (one.id, one.title, one.context, one.question, answers)
    return dict(zip(_COLUMNS, values, strict=True))


class ExtractAnswers(Step):
    """Adds ``answers`` (``text`` and ``answer_start``, lists that are empty without an answer) and ``probability``.

    Attributes:
        model: as ``--model``.
        threshold: the probability of being right from which on a span is an answer.
    """

    model: str = APP.model
    threshold: float = 0.5
    _pipeline: Any = PrivateAttr(None)

    def load(self) -> None:
        """Raises ModelNotFoundError, CheckpointError."""
        super().load()
        self._pipeline = load_pipeline(APP, ModelOptions(self.model))

    @property
    def inputs(self) -> list[str]:
        """Columns that are read."""
        return ["question", "context"]

    @property
    def outputs(self) -> list[str]:
        """Columns that are added."""
        return ["answers", "probability"]

    def process(self, inputs: StepInput) -> Iterator[list[dict[str, Any]]]:
        """A batch of rows."""
        asked = [(self._pipeline.checked(row["question"]), row["context"]) for row in inputs]
        for row, reading in zip(inputs, self._pipeline.reader.read(asked), strict=True):
            span = reading.best()
            row["probability"] = self._pipeline.answerability.probability(span.margin) if span.text else 0.0
            found = [span] if row["probability"] >= self.threshold and span.text else []
            row["answers"] = {
                "text": [one.text for one in found],
                "answer_start": [one.start for one in found],
            }
        yield inputs
