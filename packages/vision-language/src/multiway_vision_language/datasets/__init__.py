"""Readers for data sets that users have on their disks, each in the layout it is published in.

    for sample in read_refcoco(Path("finetune_refcoco_val.json"), Path("coco/images")):
        ...

Samples come lazily and in the file's order. Reading is strict: what is wrong is a DataError that names file and
place, a picture that is named but not there included (unless ``skip_missing``).
"""

from __future__ import annotations

from multiway_vision_language.datasets.captions import read_captions
from multiway_vision_language.datasets.detection import read_coco, read_voc, read_yolo
from multiway_vision_language.datasets.flickr30k import read_flickr30k
from multiway_vision_language.datasets.phrases import absent, unambiguous
from multiway_vision_language.datasets.refcoco import read_refcoco
from multiway_vision_language.datasets.samples import (
    CaptionSample,
    DetectionSample,
    GroundingSample,
    NamedObject,
    QuestionSample,
    TruePhrase,
)
from multiway_vision_language.datasets.vqa import read_vqa

__all__ = [
    "CaptionSample",
    "DetectionSample",
    "GroundingSample",
    "NamedObject",
    "QuestionSample",
    "TruePhrase",
    "absent",
    "read_captions",
    "read_coco",
    "read_flickr30k",
    "read_refcoco",
    "read_voc",
    "read_vqa",
    "read_yolo",
    "unambiguous",
]
