"""The probability that the best span of some contexts is the answer, from its margin over no answer.

A margin is log-odds only as far as training makes it so, and the best of many contexts has a high one by chance:
``probability = sigmoid(scale * margin + bias + contexts * log(number of contexts))``, fitted on questions that no
training saw (Platt 1999, with a term for the number of contexts).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from multiway_core import config, files
from multiway_core.errors import ConfigError

from multiway_text.data.squad import Question, token_f1

if TYPE_CHECKING:
    from multiway_text.encoder.pipeline import EncoderPipeline

FILE = "answerability.json"
RIGHT = 0.5
"""F1 from which on a span is taken for the answer."""
_CONTEXTS, _QUESTIONS = 8, 200  # read for a question, and questions asked, to fit the numbers
_STEPS, _RIDGE = 50, 1e-2


@dataclass(frozen=True)
class Answerability:
    """The numbers of the formula above. ``questions``: how many they were fitted on; 0: they are not fitted."""

    scale: float = 1.0
    bias: float = 0.0
    contexts: float = 0.0
    questions: int = 0

    def probability(self, margin: float, contexts: int = 1) -> float:
        """That a span of this margin, the best of so many contexts, is right; -inf gives 0."""
        logit = self.scale * margin + self.bias + self.contexts * math.log(max(1, contexts))
        return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0

    @classmethod
    def read(cls, folder: Path) -> Answerability:
        """Of a model's folder; a folder without the file has the plain log-odds. Raises ConfigError."""
        path = Path(folder) / FILE
        if not path.is_file():
            return cls()
        found = config.from_dict(cls, config.read_json(path), where=str(path))
        if not found.scale > 0:
            raise ConfigError(f"{path}: scale: expected a number above 0, got {found.scale}")
        return found

    def write(self, folder: Path) -> None:
        """Raises OutputError."""
        files.write_text(Path(folder) / FILE, json.dumps(asdict(self), indent=2) + "\n")


def fit(
    margins: Sequence[float], contexts: Sequence[int], right: Sequence[bool]
) -> tuple[float, float, float]:
    """(scale, bias, contexts) of the greatest likelihood, held near (1, 0, 0) by a small ridge."""
    x_N3 = np.stack([np.asarray(margins), np.ones(len(margins)), np.log(contexts)], axis=1)
    right_N = np.asarray(right, float)
    prior = np.array([1.0, 0.0, 0.0])
    found = prior.copy()
    for _ in range(_STEPS):  # Newton's
        p_N = 1 / (1 + np.exp(-np.clip(x_N3 @ found, -50, 50)))
        gradient = x_N3.T @ (p_N - right_N) + _RIDGE * (found - prior)
        curvature = (x_N3 * (p_N * (1 - p_N))[:, None]).T @ x_N3 + _RIDGE * np.eye(3)
        step = np.linalg.solve(curvature, gradient)
        found -= step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-9))
    scale, bias, slope = (round(float(value), 6) for value in found)
    return max(scale, 1e-3), bias, slope


def calibrate(pipeline: EncoderPipeline, questions: Sequence[Question]) -> Answerability:
    """Fit on questions that the model was not trained on.

    Each is asked to its own context, to that among the contexts most like the question, and to those alone.
    """
    asked = questions[:: max(1, len(questions) // _QUESTIONS)][:_QUESTIONS]
    contexts = list(dict.fromkeys(one.context for one in questions))
    words = [_words(context) for context in contexts]
    groups = []
    for one in asked:
        own = _words(one.question)
        order = sorted(range(len(contexts)), key=lambda row, own=own: (-len(own & words[row]), row))  # type: ignore[misc]
        others = [contexts[row] for row in order if contexts[row] != one.context][: _CONTEXTS - 1]
        groups.append([one.context, *others])
    pairs = [(one.question, text) for one, group in zip(asked, groups, strict=True) for text in group]
    readings = pipeline.read(pairs)
    margins, counts, right = [], [], []
    for one, group in zip(asked, groups, strict=True):
        found = [next(readings).best() for _ in group]
        for some in (found[:1], *((found[1:], found) if len(found) > 1 else ())):
            best = max(some, key=lambda span: span.margin)
            if best.text:
                margins.append(best.margin)
                counts.append(len(some))
                right.append(bool(one.answers) and token_f1(best.text, one.texts) >= RIGHT)
    if not margins:
        return Answerability()
    return Answerability(*fit(margins, counts, right), questions=len(asked))


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
