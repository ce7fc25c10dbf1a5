"""VQA v2 (Goyal et al. 2017): ``v2_OpenEnded_mscoco_*_questions.json`` and ``v2_mscoco_*_annotations.json``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from multiway_core.data_files import get, get_items, read_json
from multiway_core.errors import DataError

from multiway_vision_language.datasets.files import find_picture, id_of, missing_picture
from multiway_vision_language.datasets.samples import QuestionSample


def read_vqa(
    questions: Path, annotations: Path, images: Path, *, skip_missing: bool = False
) -> Iterator[QuestionSample]:
    """One sample a question, in the file's order.

    Pictures have COCO's names, ``COCO_val2014_000000000042.jpg``, in one folder or one of the split's name.

    Raises DataError: a file is not of this layout, a question without answers, or (unless ``skip_missing``) a
    picture that is not there.
    """
    data = read_json(questions)
    subtype = get(data, "data_subtype", str, str(questions))
    answers: dict[str, tuple[tuple[str, ...], str]] = {}
    for annotation, where in get_items(read_json(annotations), "annotations", str(annotations)):
        given = tuple(
            get(item, "answer", str, place) for item, place in get_items(annotation, "answers", where)
        )
        answers[id_of(annotation, "question_id", where)] = given, get(annotation, "answer_type", str, where)
    for question, where in get_items(data, "questions", str(questions)):
        identity = id_of(question, "question_id", where)
        given, answer_type = answers.get(identity, ((), ""))
        if not given:
            raise DataError(f"{annotations}: no answer to question {identity}, which {where} asks")
        name = f"COCO_{subtype}_{id_of(question, 'image_id', where).zfill(12)}.jpg"
        path = find_picture(images, name, where)
        if path is not None:
            yield QuestionSample(identity, path, get(question, "question", str, where), given, answer_type)
        elif not skip_missing:
            raise missing_picture(images, name, where)
