"""Average precision of a detector on labelled recordings, each read at all of its label times from its beginning on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from multiway_event_vision.labels.labelled import LabelledRecording
from multiway_event_vision.metrics.average_precision import Boxes, CocoScores, coco_scores
from multiway_event_vision.ssla_det.batches import whole_recordings
from multiway_event_vision.ssla_det.detections import DetectionConfig, detect_windows
from multiway_event_vision.ssla_det.detector import Detector


@torch.no_grad()
def score_recordings(
    model: Detector,
    recordings: Sequence[LabelledRecording],
    *,
    config: DetectionConfig | None = None,
    at_once: int = 8,
) -> CocoScores:
    """COCO's average precision, every label time an image; recordings with equally many label times, of one sensor.

    The model is in evaluation mode meanwhile, and then as it was.
    """
    was_training = model.training
    model.eval()
    truth, found = [], []
    for start in range(0, len(recordings), at_once):
        batch = whole_recordings(recordings[start : start + at_once])
        outputs = model.read_outs(batch.slices)
        for detections, targets in zip(
            detect_windows(outputs, stride=model.stride, config=config), batch.targets, strict=True
        ):
            found.append(
                Boxes(
                    detections.boxes_M4.numpy().astype(np.float64),
                    detections.label_M.numpy(),
                    detections.score_M.numpy().astype(np.float64),
                )
            )
            truth.append(Boxes(targets.boxes_G4.numpy().astype(np.float64), targets.label_G.numpy(), None))
    model.train(was_training)
    return coco_scores(truth, found, num_classes=model.num_classes)
