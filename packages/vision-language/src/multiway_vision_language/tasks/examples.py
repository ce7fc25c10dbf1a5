"""Examples of all tasks in one form, and readers of the files that users have of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from multiway_core.data_files import get, read_text
from multiway_core.errors import DataError, InputError
from PIL import Image

from multiway_vision_language.datasets import read_captions, read_vqa
from multiway_vision_language.datasets.files import find_picture, missing_picture, pictures_in
from multiway_vision_language.metrics import normalise
from multiway_vision_language.multiway.tasks import Task

ENTAILMENT = ("contradiction", "neutral", "entailment")
TRUTH = ("false", "true")


@dataclass(frozen=True)
class Example:
    """One example of any task.

    Attributes:
        name: where it is from.
        pictures: one, or two for NLVR2.
        texts: the question, the statement, or all captions; empty for classes of pictures.
        answers: what people answered, or the one right label; empty for retrieval and captions.
    """

    name: str
    pictures: tuple[Path | Image.Image, ...]
    texts: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


def read_examples(task: Task, data: Sequence[str | Path], *, split: str = "train") -> list[Example]:
    """The examples of a task from files as they are published.

    Args:
        data: the pictures' folder last, and before it

            retrieval, caption   COCO's ``captions_*.json`` or Karpathy's ``dataset_*.json``
            vqa                  VQA v2's questions and annotations, or SNLI-VE's ``*.jsonl``
            nlvr2                NLVR2's ``*.json`` or ``*.jsonl``
            imagenet             nothing: a folder of a folder for each class
        split: of a file with several.

    Raises InputError: the number of files is wrong; DataError: a file is, it names the place.
    """
    paths = [Path(part) for part in data]
    wanted = {"imagenet": (1,), "vqa": (2, 3)}.get(task, (2,))
    if len(paths) not in wanted:
        files = {"imagenet": "one folder", "vqa": "two files (or one of SNLI-VE) and the pictures' folder"}
        raise InputError(
            f"{task} needs --data {files.get(task, 'one file and then the folder of the pictures')}"
        )
    images = paths[-1]
    if not images.is_dir():
        raise InputError(f"--data {images}: no such folder of pictures")
    if task == "imagenet":
        found = list(_classes(images))
    elif task == "nlvr2":
        found = list(_nlvr2(paths[0], images))
    elif task == "vqa" and len(paths) == 2:
        found = list(_entailment(paths[0], images))
    elif task == "vqa":
        found = [
            Example(sample.name, (sample.image_path,), (sample.question,), sample.answers)
            for sample in read_vqa(paths[0], paths[1], images)
        ]
    else:
        found = [
            Example(sample.name, (sample.image_path,), tuple(t for t in sample.captions if t.strip()))
            for sample in read_captions(paths[0], images, split=split)
        ]
        empty = next((example.name for example in found if not example.texts), None)
        if empty is not None:
            raise DataError(f"{paths[0]}: the picture {empty} has no caption with words")
    if not found:
        raise DataError(f"{paths[0]}: holds no example of {task}")
    return found


def _classes(folder: Path) -> Iterator[Example]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    if len(classes) < 2:
        raise DataError(f"{folder}: expected a folder for each of at least two classes, found {len(classes)}")
    for of_class in classes:
        for path in pictures_in(of_class):
            yield Example(f"{of_class.name}/{path.name}", (path,), (), (of_class.name,))


def _rows(path: Path) -> Iterator[tuple[dict, str]]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: not JSON") from error
            if not isinstance(row, dict):
                raise DataError(f"{where}: expected an object")
            yield row, where


def _nlvr2(path: Path, images: Path) -> Iterator[Example]:
    """``identifier`` is split-set-pair-sentence; the pictures are named by all but the sentence."""
    for row, where in _rows(path):
        name = get(row, "identifier", str, where)
        label = str(row.get("label", "")).lower()
        if label not in TRUTH:
            raise DataError(f"{where}.label: expected True or False, got {row.get('label')!r}")
        folder = f"{row['directory']}/" if "directory" in row else ""
        pictures = []
        for side in ("img0", "img1"):
            file_name = f"{name.rpartition('-')[0]}-{side}.png"
            found = find_picture(images, folder + file_name, where) or find_picture(images, file_name, where)
            if found is None:
                raise missing_picture(images, folder + file_name, where)
            pictures.append(found)
        yield Example(name, tuple(pictures), (get(row, "sentence", str, where),), (label,))


def _entailment(path: Path, images: Path) -> Iterator[Example]:
    for row, where in _rows(path):
        label = get(row, "gold_label", str, where)
        if label not in ENTAILMENT:
            if label == "-":  # people did not agree
                continue
            raise DataError(f"{where}.gold_label: expected one of {', '.join(ENTAILMENT)}, got {label!r}")
        key = next(
            (key for key in ("Flickr30K_ID", "Flikr30kID", "Flickr30kID") if key in row), "Flickr30K_ID"
        )
        name = get(row, key, str, where)
        file_name = name if name.endswith(".jpg") else f"{name}.jpg"
        found = find_picture(images, file_name, where)
        if found is None:
            raise missing_picture(images, file_name, where)
        yield Example(f"{path.name}:{where}", (found,), (get(row, "sentence2", str, where),), (label,))


def labels_of(
    task: Task, examples: Sequence[Example], *, min_count: int = 1, max_labels: int = 3129
) -> list[str]:
    """The labels that a head chooses from: all classes; of answers to questions the most frequent, normalised."""
    if task == "nlvr2":
        return list(TRUTH)
    if task in ("retrieval", "caption"):
        return []
    if task == "imagenet":
        return sorted({answer for example in examples for answer in example.answers})
    if all(len(example.answers) == 1 and example.answers[0] in ENTAILMENT for example in examples):
        return list(ENTAILMENT)
    count = Counter(normalise(Counter(example.answers).most_common(1)[0][0]) for example in examples)
    kept = [answer for answer, times in count.most_common(max_labels) if times >= min_count]
    return sorted(kept)


def answer_scores(answers: Sequence[str]) -> dict[str, float]:
    """Soft targets of VQA: 0.3, 0.6, 0.9, 1 for an answer that one, two, three or more people gave; 1 for a label."""
    if len(answers) == 1:
        return {answers[0]: 1.0, normalise(answers[0]): 1.0}
    count = Counter(normalise(answer) for answer in answers)
    return {answer: min(0.3 * times, 1.0) for answer, times in count.items()}
