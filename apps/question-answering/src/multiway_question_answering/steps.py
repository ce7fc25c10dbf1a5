"""A step for pipelines of ``distilabel``: rows with questions and contexts in, answers as in SQuAD's data sets out.

    with Pipeline("check") as pipeline:
        load = LoadDataFromDicts(data=[{"question": "Who?", "context": "Ann wrote it."}])
        load >> ExtractAnswers()

Between generating questions and training on them it tells which ones their context answers, and by which words.
"""

# Annotations are evaluated here: distilabel finds the parameter of the rows by its type.
from collections.abc import Iterator
from typing import Any

from distilabel.steps import Step, StepInput
from multiway_core.app import ModelOptions, load_pipeline
from pydantic import PrivateAttr

from multiway_question_answering.app import APP


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
