"""CenterNet on whole photographs: all peaks, at two sizes and both ways round, in tiles where a picture is large.

Shape suffixes: B batch, C classes, H, W cells of 4 pixels, N detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from multiway_vision_language.kosmos2_small.backbones import CenterNet

CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
    "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""Names of the 80 classes, by number."""
SIZE = 512
"""Pixels of the square that a picture, or a tile of one, is warped to: what the network was trained on."""
LONG_SIDE, _MULTIPLE = 768, 32
"""Pixels of the longer side at the second look, which keeps a picture's shape; both sides are multiples of 32."""
STRIDE = 4
MAX_OVERLAP = 0.55
"""IoU from which on two boxes of one class are one thing."""
LEAST = 0.02
_PEAKS = 200
_LARGE = 1400
"""Pixels of the longer side from which on tiles are looked at as well."""
_TILE = 0.6  # of each side
_EDGE = 0.02  # of the picture: a box that a tile cuts off ends as near to the tile's side


class Detections(NamedTuple):
    """``boxes_N4``: left, top, right, bottom in pixels; ``scores_N``; ``kinds_N``: numbers of classes; best first."""

    boxes_N4: Tensor
    scores_N: Tensor
    kinds_N: Tensor


def detect(network: CenterNet, image: Image.Image, *, dtype: torch.dtype = torch.float32) -> Detections:
    """What a picture shows of the detector's 80 classes. ``dtype``: of the convolutions."""
    width, height = image.size
    scale = LONG_SIDE / max(width, height)
    shape = tuple(max(_MULTIPLE, round(scale * side / _MULTIPLE) * _MULTIPLE) for side in image.size)
    found = [fused([_seen(network, image, size, dtype) for size in ((SIZE, SIZE), (shape[0], shape[1]))])]
    if max(width, height) < _LARGE:
        return found[0]
    across, down = int(_TILE * width), int(_TILE * height)
    for place in [(x, y, x + across, y + down) for x in (0, width - across) for y in (0, height - down)]:
        seen = _seen(network, image.crop(place), (SIZE, SIZE), dtype)
        boxes_N4 = seen.boxes_N4 + torch.tensor([place[0], place[1], place[0], place[1]])
        whole_N = _not_cut(boxes_N4, place, image.size)
        found.append(Detections(boxes_N4[whole_N], seen.scores_N[whole_N], seen.kinds_N[whole_N]))
    return suppressed(Detections(*(torch.cat(parts) for parts in zip(*found, strict=True))))


def suppressed(found: Detections) -> Detections:
    """The best of boxes of a class that overlap, best first."""
    from torchvision import ops  # imports torch._dynamo: seconds

    kept = ops.batched_nms(found.boxes_N4, found.scores_N, found.kinds_N, MAX_OVERLAP)
    return Detections(found.boxes_N4[kept], found.scores_N[kept], found.kinds_N[kept])


def fused(looks: Sequence[Detections]) -> Detections:
    """Boxes of a class that overlap as one, best first: their mean by squared score, with the looks' mean score.

    A look that does not see a thing counts as :data:`LEAST`.
    """
    from torchvision import ops  # imports torch._dynamo: seconds

    boxes_N4, scores_N, kinds_N = (torch.cat(parts) for parts in zip(*looks, strict=True))
    looks_N = torch.cat([torch.full((len(look.scores_N),), at) for at, look in enumerate(looks)])
    same_NN = (ops.box_iou(boxes_N4, boxes_N4) >= MAX_OVERLAP) & (kinds_N[:, None] == kinds_N)
    free_N = torch.ones(len(scores_N), dtype=torch.bool)
    boxes, scores, kinds = [], [], []
    for row in scores_N.argsort(descending=True).tolist():
        if not free_N[row]:
            continue
        own_N = same_NN[row] & free_N
        own_N[row] = True  # a box without an area overlaps nothing, not even itself
        free_N &= ~own_N
        weights_N = scores_N[own_N] ** 2
        boxes.append((boxes_N4[own_N] * weights_N[:, None]).sum(0) / weights_N.sum())
        best = [float(scores_N[own_N & (looks_N == at)].amax()) for at in looks_N[own_N].unique().tolist()]
        scores.append((sum(best) + LEAST * (len(looks) - len(best))) / len(looks))
        kinds.append(int(kinds_N[row]))
    if not boxes:
        return Detections(boxes_N4, scores_N, kinds_N)
    means_N = torch.tensor(scores)
    order_N = means_N.argsort(descending=True)
    return Detections(torch.stack(boxes)[order_N], means_N[order_N], torch.tensor(kinds)[order_N])


@torch.inference_mode()
def _seen(network: CenterNet, image: Image.Image, size: tuple[int, int], dtype: torch.dtype) -> Detections:
    """One look at a picture that is warped to ``size`` (across, down)."""
    square = np.asarray(image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    device = network.class_scores.weight.device
    pixels_BCHW = torch.from_numpy(square.copy()).to(device).permute(2, 0, 1)[None].float()
    pixels_BCHW = torch.cat([pixels_BCHW, pixels_BCHW.flip(3)]).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        _, scores_BCHW, sides_BCHW = network(pixels_BCHW)
    scores_CHW, sides_4HW = _both_ways(scores_BCHW.float().sigmoid(), sides_BCHW.float())
    peaks_CHW = scores_CHW * (scores_CHW == nn.functional.max_pool2d(scores_CHW[None], 3, 1, 1)[0])
    scores_N, places_N = peaks_CHW.flatten().topk(_PEAKS)
    height, width = scores_CHW.shape[-2:]
    kinds_N, cells_N = places_N // (height * width), places_N % (height * width)
    y, x = cells_N // width, cells_N % width
    left, top, right, bottom = sides_4HW[:, y, x]
    x, y = STRIDE * x, STRIDE * y
    ends_4 = torch.tensor([*size, *size], device=device)
    boxes_N4 = (
        torch.stack([x - left, y - top, x + right, y + bottom], 1).clamp(min=0).minimum(ends_4) / ends_4
    )
    boxes_N4 = boxes_N4 * torch.tensor([image.width, image.height] * 2, device=device)
    real_N = (scores_N >= LEAST) & ((boxes_N4[:, 2:] - boxes_N4[:, :2]).amin(1) >= 1)
    return Detections(boxes_N4[real_N].cpu(), scores_N[real_N].cpu(), kinds_N[real_N].cpu())


def _both_ways(scores_BCHW: Tensor, sides_B4HW: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the picture and its mirror image.

    A cell stands for its left upper corner, so the mirror image of cell x is cell W - x.
    """
    other_CHW = scores_BCHW[1].flip(2).roll(1, 2)
    left, top, right, bottom = sides_B4HW[1].flip(2).roll(1, 2)
    return (scores_BCHW[0] + other_CHW) / 2, (sides_B4HW[0] + torch.stack([right, top, left, bottom])) / 2


def _not_cut(boxes_N4: Tensor, place: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    """Which boxes do not end where a tile does and the picture goes on."""
    kept_N = torch.ones(len(boxes_N4), dtype=torch.bool)
    ends = (0, 0, *size)
    for side in range(4):
        if place[side] != ends[side]:
            kept_N &= (boxes_N4[:, side] - place[side]).abs() > _EDGE * size[side % 2]
    return kept_N
