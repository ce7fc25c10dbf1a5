"""Evaluation of models with the head of a task: retrieval, statements about two pictures, classes of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from multiway_core.errors import InputError
from multiway_core.evaluation import Report, Sample, evaluate

PairTask = Literal["retrieval", "nlvr2", "imagenet"]
_KS = (1, 5, 10)


def evaluate_pairs(
    task: PairTask,
    pipeline: Any,
    data: Sequence[Path],
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    on_sample: Callable[[dict[str, Any]], None] | None = None,
) -> Report:
    """Recall at 1, 5 and 10 both ways, or accuracy beside the most frequent label.

    ``data``: see `multiway_vision_language.tasks.examples.read_examples`. Raises InputError: the model's head is for
    another task; DataError: something in the data set is wrong.
    """
    from multiway_vision_language.tasks.examples import read_examples
    from multiway_vision_language.tasks.model_folder import require_task

    model = getattr(pipeline, "model", None)
    if model is None:
        raise InputError(
            f"{pipeline.name} has no head for {task}; give --model one from train --arch ... --task {task}"
        )
    require_task(model, task, pipeline.name)
    examples = read_examples(task, data, split=split)[:limit]
    name = f"{pipeline.name}, {task}, {data[0]}"
    if task == "retrieval":
        return _retrieval(model, examples, name, seed, on_sample)
    labels = [example.answers[0] for example in examples]
    frequent = max(sorted(set(labels)), key=labels.count)

    def predict(example: Any) -> str:
        if task == "nlvr2":
            return pipeline.compare(*example.pictures, example.texts[0]).label
        return pipeline.classify(example.pictures[0], top=1)[0].label

    return evaluate(
        (Sample(example.name, example, example.answers[0]) for example in examples),
        predict,
        {
            "accuracy": lambda found, label: float(found == label),
            f"always {frequent!r}": lambda found, label: float(frequent == label),
        },
        name=name,
        seed=seed,
        on_sample=on_sample,
    )


def _retrieval(model: Any, examples: Sequence[Any], name: str, seed: int, on_sample: Any) -> Report:
    from multiway_vision_language.metrics.retrieval import retrieval_ranks
    from multiway_vision_language.tasks.objective import similarities

    scores, owners = similarities(model, examples)
    text_ranks, image_ranks = retrieval_ranks(scores, owners)
    samples = [
        Sample(example.name, ("text", int(rank)), None)
        for example, rank in zip(examples, text_ranks, strict=True)
    ]
    for number, (owner, rank) in enumerate(zip(owners, image_ranks, strict=True)):
        samples.append(Sample(f"{examples[owner].name}/text {number}", ("image", int(rank)), None))

    def recall(kind: str, k: int) -> Callable[[Any, Any], float]:
        return lambda found, _: float(found[1] < k) if found[0] == kind else math.nan

    metrics = {f"{kind} R@{k}": recall(kind, k) for kind in ("text", "image") for k in _KS}
    return evaluate(samples, lambda rank: rank, metrics, name=name, seed=seed, on_sample=on_sample)
