"""The teacher of the people-and-vehicles set: YOLOX on the pictures of videos, as COCO json with times and scores.

    python -m benchmarks.event_vision.street_teacher VIDEOS BOXES --weights yolox_nano.onnx [--per-second 12]
        [--tiles 2]

The weights are YOLOX-nano as its authors export it (one input of 416 x 416 pixels, blue first, 0 to 255; 85 numbers a
cell, not yet decoded); they are not part of this repository. Besides the whole picture, `--tiles` x `--tiles`
overlapping parts of it are looked at, since far objects are small; boxes that a part's inner edge cuts are left out.
Cars, motor cycles, buses and lorries are vehicles. `multiway-event-detection street-dataset` takes what comes
out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from multiway_event_vision.labels import Boxes, write_coco_boxes
from multiway_event_vision.street.recording import CLASS_NAMES

from benchmarks import harness

CLASS_OF_COCO = {0: 0, 2: 1, 3: 1, 5: 1, 7: 1}
MIN_SCORE = 0.12
OVERLAP, COVERED = 0.5, 0.85  # of a better box of the class: the worse one goes
STRIDES = (8, 16, 32)


class Yolox:
    """One picture -> rows of x1, y1, x2, y2, score, class."""

    def __init__(self, weights: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(weights), options, providers=["CPUExecutionProvider"]
        )
        self._name = self._session.get_inputs()[0].name
        self._size = self._session.get_inputs()[0].shape[2]
        cells = []
        for stride in STRIDES:
            y, x = np.mgrid[: self._size // stride, : self._size // stride].reshape(2, -1)
            cells.append(np.stack([x, y, np.full_like(x, stride)], 1))
        self._cell_A3 = np.concatenate(cells).astype(np.float32)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        scale = self._size / max(height, width)
        size = round(width * scale), round(height * scale)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        padded = np.full((self._size, self._size, 3), 114, np.uint8)
        padded[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=how)
        found = self._session.run(None, {self._name: padded.transpose(2, 0, 1)[None].astype(np.float32)})[0][
            0
        ]
        score_AC = found[:, 4:5] * found[:, 5:]
        label = score_AC.argmax(1)
        keep = (score_AC.max(1) >= MIN_SCORE) & np.isin(label, list(CLASS_OF_COCO))
        found, cell, label, score = found[keep], self._cell_A3[keep], label[keep], score_AC.max(1)[keep]
        middle, half = (found[:, :2] + cell[:, :2]) * cell[:, 2:], np.exp(found[:, 2:4]) * cell[:, 2:] / 2
        corners = np.concatenate([middle - half, middle + half], 1) / scale
        own = np.array([CLASS_OF_COCO[int(c)] for c in label])
        return np.concatenate([corners, score[:, None], own.reshape(-1, 1)], 1)


def parts(height: int, width: int, tiles: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (x, y, width, height): the whole picture, then parts that overlap by a quarter."""
    yield 0, 0, width, height
    if tiles > 1:
        w, h = int(width / tiles * 1.25), int(height / tiles * 1.25)
        for column in range(tiles):
            for row in range(tiles):
                yield round(column * (width - w) / (tiles - 1)), round(row * (height - h) / (tiles - 1)), w, h


def look(teacher: Yolox, picture: np.ndarray, tiles: int) -> list[np.ndarray]:
    """Rows of x1, y1, x2, y2, score, class, each object once."""
    height, width = picture.shape[:2]
    rows = []
    for x, y, w, h in parts(height, width, tiles):
        margin = 0.01 * w
        for x1, y1, x2, y2, score, label in teacher(picture[y : y + h, x : x + w]):
            cut = (x and x1 < margin) or (x + w < width and x2 > w - margin)
            cut = cut or (y and y1 < margin) or (y + h < height and y2 > h - margin)
            box = [max(x1 + x, 0), max(y1 + y, 0), min(x2 + x, width), min(y2 + y, height)]
            if not cut and box[2] - box[0] > 2 and box[3] - box[1] > 2:
                rows.append(np.array([*box, score, label]))
    rows.sort(key=lambda row: -row[4])
    kept: list[np.ndarray] = []
    for row in rows:
        if not any(is_same(row, better) for better in kept):
            kept.append(row)
    return kept


def is_same(a: np.ndarray, b: np.ndarray) -> bool:
    sides = np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2])
    if a[5] != b[5] or sides.min() <= 0:
        return False
    areas = [np.prod(box[2:4] - box[:2]) for box in (a, b)]
    shared = sides.prod()
    return bool(shared / (sum(areas) - shared) > OVERLAP or shared / min(areas) > COVERED)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("videos", type=Path)
    parser.add_argument("boxes", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--per-second", type=float, default=12, help="pictures looked at, at most")
    parser.add_argument("--tiles", type=int, default=2)
    given = parser.parse_args()
    teacher = Yolox(given.weights)
    for video in sorted(path for path in given.videos.iterdir() if path.is_file()):
        capture = cv2.VideoCapture(str(video))
        rate = capture.get(cv2.CAP_PROP_FPS)
        every = max(1, round(rate / given.per_second))
        rows, number = [np.zeros((0, 8))], 0
        size = (0, 0)
        while (read := capture.read())[0]:
            picture = read[1]
            size = picture.shape[1], picture.shape[0]
            if number % every == 0:
                for x1, y1, x2, y2, score, label in look(teacher, picture, given.tiles):
                    t = round(number * 1e6 / rate)
                    rows.append(np.array([[t, x1, y1, x2 - x1, y2 - y1, label, -1, score]]))
            number += 1
        boxes = Boxes.from_arrays(*np.concatenate(rows).T)
        write_coco_boxes(given.boxes / f"{video.stem}.json", boxes, list(CLASS_NAMES), size)
        print(f"{video.name}: {number} pictures, every {every}, {len(boxes)} boxes", flush=True)


if __name__ == "__main__":
    main()
