"""Evaluation of generated text: captions, region descriptions, answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from multiway_core.evaluation import Metric, Report, Sample, evaluate, mean_interval

if TYPE_CHECKING:
    from multiway_vision_language.datasets import CaptionSample, GroundingSample, QuestionSample
    from multiway_vision_language.pipeline import GroundingPipeline

OnSample = Callable[[dict[str, Any]], None]
CIDER = "CIDEr-D x 100"
_OPENING_OF_A_DESCRIPTION = "It is"


def evaluate_captions(
    pipeline: GroundingPipeline,
    samples: Iterable[CaptionSample],
    name: str,
    *,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> Report:
    """Brief captions without boxes against human references."""
    from multiway_vision_language import prompts

    opening = prompts.caption(grounded=False).tagged  # "An image of": part of the text, but of no reference
    return _against_references(
        (Sample(sample.name, sample.image_path, sample.captions) for sample in samples),
        lambda path: pipeline.caption(path, grounded=False).text.removeprefix(opening).strip(),
        name,
        seed,
        on_sample,
    )


def evaluate_descriptions(
    pipeline: GroundingPipeline,
    samples: Iterable[GroundingSample],
    name: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> Report:
    """Referring expression generation: what is at a true box, against all expressions that people gave it.

    Args:
        samples: one an expression; those of the same picture and box are put together.
        limit: at most so many boxes.
    """
    expressions: dict[Any, list[str]] = {}
    for sample in samples:
        for phrase in sample.phrases:
            left, top, right, bottom = phrase.boxes[0]
            # Published boxes reach past the edge by fractions of a pixel.
            box = (max(left, 0.0), max(top, 0.0), min(right, sample.width), min(bottom, sample.height))
            expressions.setdefault((sample.image_path, box), []).append(phrase.text)
    return _against_references(
        (
            Sample(f"{path.name}/{number}", (path, box), tuple(texts))
            for number, ((path, box), texts) in enumerate(itertools.islice(expressions.items(), limit))
        ),
        lambda place: pipeline.describe(*place).text.removeprefix(_OPENING_OF_A_DESCRIPTION).strip(),
        name,
        seed,
        on_sample,
    )


def evaluate_answers(
    pipeline: GroundingPipeline,
    samples: Iterable[QuestionSample],
    name: str,
    *,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> Report:
    """VQA accuracy by type of answer, beside always answering "yes"."""
    from multiway_vision_language.metrics import vqa_accuracy

    return evaluate(
        (Sample(sample.name, sample, sample) for sample in samples),
        lambda sample: pipeline.ask(sample.image_path, sample.question, grounded=False).text,
        {
            "accuracy": lambda answer, sample: vqa_accuracy(answer, sample.answers),
            'always "yes"': lambda answer, sample: vqa_accuracy("yes", sample.answers),
        },
        name=name,
        seed=seed,
        group=lambda sample: sample.target.answer_type,
        on_sample=on_sample,
    )


def _against_references(
    samples: Iterable[Sample],
    write: Callable[[Any], str],
    name: str,
    seed: int,
    on_sample: OnSample | None,
) -> Report:
    """CIDEr-D times 100, as papers print it, and BLEU-4 and METEOR of the corpus.

    "another one's": CIDEr-D of a person's text about the next sample, what fluent text scores blindly.
    """
    from multiway_vision_language.metrics import bleu, cider_d, has_meteor, meteor

    texts: list[str] = []
    truths: list[Sequence[str]] = []

    def words(text: str, target: Sequence[str]) -> float:
        texts.append(text)
        truths.append(target)
        return float(len(text.split()))

    report = evaluate(samples, write, {"words": words}, name=name, seed=seed, on_sample=on_sample)
    count = len(texts)
    scores = 100 * cider_d(texts, truths)
    others = 100 * cider_d([truths[(place + 1) % count][0] for place in range(count)], truths)
    found = {
        CIDER: Metric(*mean_interval(scores, seed=seed), n=count),
        "another one's": Metric(*mean_interval(others, seed=seed), n=count),
        "BLEU-4": Metric(bleu(texts, truths)[3], None, None, count),
    }
    if has_meteor():
        found["METEOR"] = Metric(meteor(texts, truths)[0], None, None, count)
    scored = iter(zip(texts, scores, strict=True))
    return replace(
        report, metrics=found | report.metrics, rows=tuple(_with_text(row, scored) for row in report.rows)
    )


def _with_text(row: dict[str, Any], scored: Iterator[tuple[str, float]]) -> dict[str, Any]:
    if "error" in row:
        return row
    text, score = next(scored)
    return {**row, "text": text, "metrics": {**row["metrics"], CIDER: float(score)}}
