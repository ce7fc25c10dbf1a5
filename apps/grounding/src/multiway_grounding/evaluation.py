"""Measuring a grounding model on users' own copies of the usual data sets, on photographs, and on generated scenes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from multiway_core.app import ModelLoader, ModelOptions
from multiway_core.errors import InputError
from multiway_core.evaluation import Report, Sample, evaluate

from multiway_grounding.app import APP
from multiway_grounding.metrics import presence_metrics, recall_metrics, referring_metrics, with_presence
from multiway_grounding.pair_evaluation import evaluate_pairs
from multiway_grounding.phrase_samples import (
    PhraseSample,
    from_expressions,
    from_photographs,
    from_scenes,
    from_sentences,
)
from multiway_grounding.text_evaluation import evaluate_answers, evaluate_captions, evaluate_descriptions

if TYPE_CHECKING:
    from multiway_vision_language.datasets import DetectionSample
    from multiway_vision_language.pipeline import GroundingPipeline
    from multiway_vision_language.result import Entity

Task = Literal[
    "flickr30k", "refcoco", "refcoco+", "refcocog", "describe", "caption", "vqa", "photos", "bundled",
    "retrieval", "nlvr2", "imagenet",
]  # fmt: skip
OnSample = Callable[[dict[str, Any]], None]
HELD_OUT = "held_out"
"""Folder of scenes inside a model's folder."""
PHOTOGRAPHS = Path(__file__).parent / "photographs"
"""Pictures that come with the app, with boxes in ``instances.json``; nothing was trained or tuned on them."""


@dataclass(frozen=True)
class Files:
    """Where a data set lies.

    ``annotations``: its JSON file. ``images``: the folder of the pictures, for photos the whole set (by default the
    app's own), for bundled a folder of scenes (by default the one that the model brings along). ``entities``:
    Flickr30k Entities' own files. ``questions``: of VQA. ``split``: of a caption file with several.
    """

    images: Path | None = None
    annotations: Path | None = None
    entities: Path | None = None
    questions: Path | None = None
    split: str = "test"
    skip_missing: bool = False


def evaluate_task(
    task: Task,
    pipeline: GroundingPipeline,
    files: Files,
    *,
    limit: int | None = None,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> Report:
    """Run a model over a data set and score it by the protocol of its task.

    Args:
        task: ``flickr30k`` (R@1/5/10), ``refcoco``, ``refcoco+``, ``refcocog`` and ``photos`` (Acc@0.5 of the first
            box, IoU, by size, beside ceiling and baselines), ``bundled`` (all of these, on held-out scenes; it and
            photos also "present"), ``describe`` and ``caption`` (CIDEr-D, BLEU-4, and METEOR where Java and
            ``pycocoevalcap`` are there; describe says what is at RefCOCO's boxes), ``vqa`` (accuracy), ``retrieval``
            (R@1/5/10 both ways), ``nlvr2`` and ``imagenet`` (accuracy), these three of models with such a head.
        pipeline: the model. It must place every phrase: boxes are not refused by ``present`` here.
        files: where the data set lies.
        limit: at most so many phrases, pictures or questions; for bundled scenes of each set.
        seed: of phrases that are not in the picture, and of the bootstrap.
        on_sample: called with each finished row.

    Raises:
        InputError: an option is missing, or no sample could be read.
        DataError: something in the data set is wrong; names the file.
    """
    from multiway_vision_language import datasets

    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: must be at least 1")
    if task == "bundled":
        folder = files.images or held_out_scenes(pipeline.name)
        return evaluate_scenes(pipeline, folder, limit=limit, seed=seed, on_sample=on_sample)
    if task == "photos" and files.images is None and files.annotations is None:
        return _own_photographs(pipeline, limit=limit, seed=seed, on_sample=on_sample)
    images = _folder(files.images, task)
    name = f"{pipeline.name}, {task}, {images if task == 'photos' else files.annotations}"
    if task == "photos":
        cases = from_photographs(_detection_set(images, files), seed)
        return evaluate_phrases(
            pipeline, itertools.islice(cases, limit), name, seed=seed, on_sample=on_sample
        )
    if task == "imagenet":
        return evaluate_pairs(task, pipeline, [images], limit=limit, seed=seed, on_sample=on_sample)
    annotations = _given(files.annotations, "--annotations", task)
    if task in ("retrieval", "nlvr2"):
        data = [annotations, images]
        return evaluate_pairs(
            task, pipeline, data, split=files.split, limit=limit, seed=seed, on_sample=on_sample
        )
    if task == "caption":
        captions = datasets.read_captions(
            annotations, images, split=files.split, skip_missing=files.skip_missing
        )
        return evaluate_captions(
            pipeline, itertools.islice(captions, limit), name, seed=seed, on_sample=on_sample
        )
    if task == "vqa":
        questions = _given(files.questions, "--questions", task)
        asked = datasets.read_vqa(questions, annotations, images, skip_missing=files.skip_missing)
        return evaluate_answers(
            pipeline, itertools.islice(asked, limit), name, seed=seed, on_sample=on_sample
        )
    if task == "describe":
        expressions = datasets.read_refcoco(annotations, images, skip_missing=files.skip_missing)
        return evaluate_descriptions(pipeline, expressions, name, limit=limit, seed=seed, on_sample=on_sample)
    if task == "flickr30k":
        sentences = datasets.read_flickr30k(
            annotations, images, entities=files.entities, skip_missing=files.skip_missing
        )
        cases = from_sentences(sentences)
    else:
        cases = from_expressions(datasets.read_refcoco(annotations, images, skip_missing=files.skip_missing))
    return evaluate_phrases(
        pipeline,
        itertools.islice(cases, limit),
        name,
        recall=task == "flickr30k",
        seed=seed,
        on_sample=on_sample,
    )


def evaluate_scenes(
    pipeline: GroundingPipeline,
    folder: Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> Report:
    """Look for the expressions of held-out scenes, a group for each set and kind of expression, and for absent things.

    Args:
        folder: what ``multiway_vision_language.scenes.folder.save_scenes`` wrote.
        limit: at most so many scenes of each set.

    Raises InputError or DataError: the folder does not hold scenes.
    """
    from multiway_vision_language.scenes.folder import open_scenes

    opened = open_scenes(folder)
    cases = itertools.chain.from_iterable(
        from_scenes(itertools.islice(opened.scenes(name), limit), opened.names, seed, name)
        for name in opened.sets
    )
    return evaluate_phrases(
        pipeline, cases, f"{pipeline.name}, held-out scenes", recall=True, seed=seed, on_sample=on_sample
    )


def held_out_scenes(model: str) -> Path:
    """The folder of scenes that a model brings along. Raises InputError: it has none."""
    from multiway_core import hub

    folder = hub.resolve(model, offline=True) / HELD_OUT
    if not folder.is_dir():
        raise InputError(f"{model} brings no scenes to be measured on; give a folder of them with --images")
    return folder


def quick_evaluation() -> Report:
    """The bundled model on the photographs that come with the app."""
    return _own_photographs(ModelLoader(APP, ModelOptions(device="cpu"))())


def _own_photographs(
    pipeline: GroundingPipeline,
    *,
    limit: int | None = None,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> Report:
    found = _detection_set(PHOTOGRAPHS, Files(annotations=PHOTOGRAPHS / "instances.json"))
    cases = itertools.islice(from_photographs(found, seed), limit)
    name = f"{pipeline.name}, {len(found)} photographs"
    return evaluate_phrases(pipeline, cases, name, seed=seed, on_sample=on_sample)


def evaluate_phrases(
    pipeline: GroundingPipeline,
    cases: Iterable[PhraseSample],
    name: str,
    *,
    recall: bool = False,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> Report:
    """Look for every phrase; groups are the objects' sizes and the samples' own labels.

    ``recall`` adds R@1/5/10. Phrases that are not in the picture, where there are any, give the "present" numbers.
    """
    from multiway_vision_language.metrics import size_group
    from multiway_vision_language.pictures import open_picture

    last: tuple[Any, Any] = (None, None)
    phrases: dict[str, str] = {}

    def predict(case: PhraseSample) -> Entity:
        nonlocal last
        phrases[case.name] = case.phrase
        if last[0] is not case.picture and last[0] != case.picture:
            last = (case.picture, open_picture(case.picture))
        return pipeline.locate(last[1], [case.phrase], threshold=0.0, before=case.before).entities[0]

    def groups(sample: Sample) -> list[str]:
        case: PhraseSample = sample.target
        sizes = [size_group(case.truths[0], case.width, case.height)] if case.truths else []
        return [*case.labels, *sizes]

    report = evaluate(
        (Sample(case.name, case, case) for case in cases),
        predict,
        {
            **(recall_metrics() if recall else {}),
            **referring_metrics(pipeline.grid),
            **presence_metrics(),
        },
        name=name,
        seed=seed,
        group=groups,
        on_sample=on_sample,
    )
    return with_presence(report, phrases)


def _detection_set(images: Path, files: Files) -> list[DetectionSample]:
    """The photographs of a COCO, VOC or YOLO set, known by its files."""
    from multiway_vision_language import datasets

    if files.annotations is not None:
        return list(datasets.read_coco(files.annotations, images, skip_missing=files.skip_missing))
    annotations = images / "Annotations"
    if any((annotations if annotations.is_dir() else images).glob("*.xml")):
        return list(datasets.read_voc(images))
    return list(datasets.read_yolo(images))


def _given(path: Path | None, option: str, task: str) -> Path:
    if path is None:
        raise InputError(f"{task} needs {option} FILE")
    if not path.is_file():
        raise InputError(f"{option} {path}: no such file")
    return path


def _folder(path: Path | None, task: str) -> Path:
    if path is None:
        raise InputError(f"{task} needs --images DIR")
    if not path.is_dir():
        raise InputError(f"--images {path}: no such folder")
    return path
