"""Boxes around objects, as the data sets of event cameras have them."""

from multiway_event_vision.labels.boxes import Boxes
from multiway_event_vision.labels.coco import read_coco_boxes, write_coco_boxes
from multiway_event_vision.labels.ncaltech101 import read_ncaltech101_boxes
from multiway_event_vision.labels.prophesee import (
    prophesee_box_writer,
    read_prophesee_boxes,
    write_prophesee_boxes,
)

__all__ = [
    "Boxes",
    "prophesee_box_writer",
    "read_coco_boxes",
    "read_ncaltech101_boxes",
    "read_prophesee_boxes",
    "write_coco_boxes",
    "write_prophesee_boxes",
]
