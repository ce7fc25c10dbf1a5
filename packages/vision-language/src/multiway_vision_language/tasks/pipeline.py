"""Questions, captions, classes and statements about pictures with BEiT-3, VLMo and DiDE: from picture to result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from multiway_core import config, hub
from multiway_core.data_files import get, read_text
from multiway_core.errors import CheckpointError, DataError, InputError
from multiway_core.tokenization import TextTokenizer

from multiway_vision_language.beit3 import checkpoint as beit3_checkpoint
from multiway_vision_language.multiway.tasks import Task
from multiway_vision_language.pictures import PictureSource, open_picture
from multiway_vision_language.pipeline import BUNDLED_MODEL, GroundingPipeline
from multiway_vision_language.result import Grounding, LabelScore
from multiway_vision_language.tasks import documents, model_folder
from multiway_vision_language.tasks.documents import DocumentPipeline
from multiway_vision_language.tasks.examples import TRUTH, Example
from multiway_vision_language.tasks.model_folder import HeadedModel, require_task
from multiway_vision_language.tasks.objective import captions, label_scores
from multiway_vision_language.tasks.processor import PairProcessor

ANSWERS_FILE = "answer2label.txt"
"""Beside a released VQA file: a row ``{"answer": TEXT, "label": NUMBER}`` for each answer, as its authors give it."""
RELEASED_TEXT = 64


class PairPipeline:
    """One model with the head of one task; all methods but that task's raise InputError that names fitting models."""

    knows_absence = False

    def __init__(self, name: str, model: HeadedModel) -> None:
        self.name, self.model = name, model

    def ask(self, picture: PictureSource, question: str, **options: Any) -> Grounding:
        """The likeliest answer. The model was taught which answers there are."""
        require_task(self.model, "vqa", self.name)
        opened = open_picture(picture)
        best = self._ranked([opened.image], question)[0]
        return Grounding(opened.source, self.name, opened.width, opened.height, best.label, ())

    def caption(self, picture: PictureSource, **options: Any) -> Grounding:
        """What the picture shows, in words, without places."""
        require_task(self.model, "caption", self.name)
        opened = open_picture(picture)
        (text,) = captions(self.model, [Example(opened.source, (opened.image,))])
        return Grounding(opened.source, self.name, opened.width, opened.height, text, ())

    def classify(
        self, picture: PictureSource, names: Sequence[str] = (), *, top: int = 5
    ) -> list[LabelScore]:
        """The likeliest classes, best first. ``names`` chooses among the model's own classes.

        Raises InputError: a name that is no class of the model.
        """
        require_task(self.model, "imagenet", self.name)
        unknown = [name for name in names if name not in self.model.labels]
        if unknown:
            shown = ", ".join(self.model.labels[:8])
            raise InputError(
                f"{unknown[0]!r} is no class of {self.name}; it has {len(self.model.labels)}: {shown} ..."
            )
        ranked = self._ranked([open_picture(picture).image], "")
        return [score for score in ranked if not names or score.label in names][:top]

    def compare(self, first: PictureSource, second: PictureSource, statement: str) -> LabelScore:
        """Whether a statement is true of two pictures (NLVR2)."""
        require_task(self.model, "nlvr2", self.name)
        return self._ranked([open_picture(first).image, open_picture(second).image], statement)[0]

    def locate(self, *arguments: Any, **options: Any) -> NoReturn:
        """Raises InputError: such models find no places."""
        raise InputError(
            f"{self.name} ({self.model.arch}, {self.model.task}) finds no places in pictures; {BUNDLED_MODEL} does"
        )

    describe = prompt = locate

    def _ranked(self, pictures: list[Any], text: str) -> list[LabelScore]:
        if self.model.task != "imagenet" and not text.strip():
            raise InputError("there are no words to read with the picture")
        (scores,) = label_scores(self.model, [Example("picture", tuple(pictures), (text,))])
        chances = scores.sigmoid() if self.model.task == "vqa" else scores.softmax(0)
        best = scores.argsort(descending=True).tolist()
        return [LabelScore(self.model.labels[index], float(chances[index])) for index in best]


def open_pipeline(
    name: str = BUNDLED_MODEL,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> GroundingPipeline | PairPipeline | DocumentPipeline:
    """The pipeline of any model here: a Kosmos-2 or the bundled one, a folder that `train --arch` wrote, a `.pth`, or
    a folder of Kosmos-1 or MetaLM (:func:`multiway_vision_language.tasks.documents.save`).

    Beside a released BEiT-3 `.pth` lies `beit3.spm`, and for VQA `answer2label.txt`. ``dtype`` is float32 by default
    on a CPU, bfloat16 on a GPU. Raises ModelNotFoundError, ConfigError, CheckpointError.
    """
    chosen = dtype or (torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16)
    path = Path(name)
    if path.suffix == ".pth" and path.is_file():
        return PairPipeline(name, load_released(path, dtype=chosen, device=device))
    folder = hub.resolve(name, allow_patterns=["config.json"])
    settings = folder / "config.json"
    kind = config.read_json(settings).get("model_type") if settings.is_file() else None
    if kind == model_folder.MODEL_TYPE:
        return PairPipeline(name, model_folder.load(hub.resolve(name), dtype=chosen, device=device))
    if kind in (documents.KOSMOS_1, documents.METALM):
        return DocumentPipeline(name, documents.load(hub.resolve(name), dtype=chosen, device=device))
    return GroundingPipeline.from_pretrained(name, device=device, dtype=dtype)


def load_released(
    path: Path,
    *,
    task: Task | None = None,
    image_size: int | None = None,
    num_heads: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> HeadedModel:
    """A released BEiT-3 file with what lies beside it. Raises CheckpointError, DataError: something is missing."""
    network: Any = beit3_checkpoint.load_published(
        path, task, image_size=image_size, num_heads=num_heads, dtype=dtype
    )
    own = beit3_checkpoint.task_of(network)
    tokenizer = TextTokenizer.from_folder(path.parent, fairseq=True)
    labels: tuple[str, ...] = ()
    if own == "vqa":
        labels = _answers(path.with_name(ANSWERS_FILE), network.head.dense2.out_features)
    elif own == "nlvr2":
        labels = TRUTH
    elif own == "imagenet":
        labels = tuple(f"class {index}" for index in range(network.head.out_features))
    text = min(RELEASED_TEXT, network.config.max_text)
    processor = PairProcessor(tokenizer, image_size=network.config.image_size, max_text=text)
    return HeadedModel("beit3", own, network.to(device), processor, labels)


def _answers(path: Path, count: int) -> tuple[str, ...]:
    if not path.is_file():
        raise CheckpointError(f"{path}: not there; a released VQA file needs the list of its {count} answers")
    found: dict[int, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not JSON") from error
        found[get(row, "label", int, f"{path}:{number}")] = get(row, "answer", str, f"{path}:{number}")
    if sorted(found) != list(range(count)):
        raise DataError(f"{path}: expected the answers 0 to {count - 1}, got {len(found)}")
    return tuple(found[index] for index in range(count))
