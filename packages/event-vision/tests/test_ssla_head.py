"""Head, SimOTA, losses, decoding and suppression, against slow plain versions and torchvision."""

from __future__ import annotations

import math

import pytest
import torch
from multiway_core.errors import InputError
from multiway_event_vision.ssla_det import boxes
from multiway_event_vision.ssla_det.assignment import Targets, assign
from multiway_event_vision.ssla_det.detections import DetectionConfig, detect_windows
from multiway_event_vision.ssla_det.detector import SslaDetOutputs
from multiway_event_vision.ssla_det.head import HeadOutputs, YoloxHead, centres
from multiway_event_vision.ssla_det.objective import ObjectiveConfig, objective
from torch import Tensor

STRIDE = 8


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def slow_simota(
    classes: list[list[float]],
    objectness: list[float],
    predicted: list[list[float]],
    rows: int,
    columns: int,
    truth: list[list[float]],
    labels: list[int],
) -> dict[int, tuple[int, float]]:
    """{cell: (object, IoU)}, cell by cell and object by object."""

    def near(cell: int, box: list[float]) -> bool:
        x, y = (cell % columns + 0.5) * STRIDE, (cell // columns + 0.5) * STRIDE
        return max(abs(x - (box[0] + box[2]) / 2), abs(y - (box[1] + box[3]) / 2)) < 1.5 * STRIDE

    candidates = [c for c in range(rows * columns) if any(near(c, box) for box in truth)]
    wishes: dict[int, list[tuple[float, int]]] = {}
    for g, box in enumerate(truth):
        costs, overlaps = [], []
        for c in candidates:
            iou = overlap(predicted[c], box)
            cost = -3 * math.log(iou + 1e-8) + (0 if near(c, box) else 1e6)
            for k, logit in enumerate(classes[c]):
                p = math.sqrt(sigmoid(logit) * sigmoid(objectness[c]))
                cost -= math.log(p) if k == labels[g] else math.log(1 - p)
            costs.append((cost, c))
            overlaps.append(iou)
        k = max(int(sum(sorted(overlaps, reverse=True)[:10])), 1)
        for cost, c in sorted(costs)[:k]:
            wishes.setdefault(c, []).append((cost, g))
    return {c: (min(w)[1], overlap(predicted[c], truth[min(w)[1]])) for c, w in wishes.items()}


def scene(seed: int, rows: int = 7, columns: int = 9, num_classes: int = 3) -> tuple[SslaDetOutputs, Targets]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    objects = seed % 5
    low = torch.rand(objects, 2, generator=generator, dtype=torch.float64) * torch.tensor([60.0, 40.0])
    size = 4 + 30 * torch.rand(objects, 2, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (objects,), generator=generator)
    head = HeadOutputs(
        normal(1, num_classes, rows, columns), normal(1, 4, rows, columns), normal(1, 1, rows, columns)
    )
    active = torch.rand(1, rows, columns, generator=generator) < 0.5
    return SslaDetOutputs(head, normal(1, 5, rows, columns), active), Targets(
        torch.cat([low, low + size], dim=1), labels
    )


def flat(outputs: SslaDetOutputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, columns = outputs.head.classes.shape[2:]
    centre = centres(rows, columns, STRIDE).double()
    raw = outputs.head.boxes[0].flatten(1).t()
    return (
        outputs.head.classes[0].flatten(1).t(),
        outputs.head.objectness.flatten(),
        boxes.boxes_of_cells(raw, centre, STRIDE),
        centre,
    )


@pytest.mark.parametrize("seed", range(25))
def test_simota_is_the_slow_one(seed: int) -> None:
    outputs, targets = scene(seed)
    classes, objectness, predicted, centre = flat(outputs)
    found = assign(classes, objectness, predicted, centre, targets, radius=1.5 * STRIDE)
    expected = slow_simota(
        classes.tolist(),
        objectness.tolist(),
        predicted.tolist(),
        7,
        9,
        targets.boxes_G4.tolist(),
        targets.label_G.tolist(),
    )
    assert found.cell_M.tolist() == sorted(expected)
    assert found.object_M.tolist() == [expected[c][0] for c in sorted(expected)]
    assert found.overlap_M.tolist() == pytest.approx([expected[c][1] for c in sorted(expected)])


def test_simota_by_hand() -> None:
    # Two cells predict the object perfectly, the third far away does too; k = int(1 + 1 + 0...) = 2.
    centre = centres(1, 6, STRIDE).double()
    truth = torch.tensor(
        [[4.0, 0.0, 20.0, 8.0]], dtype=torch.float64
    )  # centre at 12: cells 0, 1 and 2 are near
    predicted = torch.cat([truth, truth, torch.tensor([[90.0, 90, 95, 95]]).double()] * 2)
    found = assign(
        torch.zeros(6, 2).double(),
        torch.tensor([0.0, 1, 0, 0, 0, 0]).double(),
        predicted,
        centre,
        Targets(truth, torch.tensor([1])),
        radius=1.5 * STRIDE,
    )
    assert (found.cell_M.tolist(), found.object_M.tolist()) == ([0, 1], [0, 0])
    assert found.overlap_M.tolist() == [1.0, 1.0]


def test_active_cells_only() -> None:
    centre = centres(1, 6, STRIDE).double()
    truth = torch.tensor([[4.0, 0.0, 20.0, 8.0]], dtype=torch.float64)
    arguments = (torch.zeros(6, 2).double(), torch.zeros(6).double(), truth.expand(6, 4), centre)
    targets = Targets(truth, torch.tensor([0]))
    for active, expected in (([2, 4], [2]), ([3, 5], [3]), ([5], [])):  # near; only further away; too far
        mask = torch.zeros(6, dtype=torch.bool)
        mask[active] = True
        found = assign(*arguments, targets, radius=1.5 * STRIDE, wide_radius=2.5 * STRIDE, active_A=mask)
        assert found.cell_M.tolist() == expected


@pytest.mark.parametrize("seed", range(10))
def test_losses_are_the_formulas(seed: int) -> None:
    ops = pytest.importorskip("torchvision.ops")
    scenes = [scene(seed), scene(seed + 1)]
    outputs = SslaDetOutputs(
        HeadOutputs(
            *(torch.cat([getattr(o.head, n) for o, _ in scenes]) for n in ("classes", "boxes", "objectness"))
        ),
        torch.cat([o.grid_BDHW for o, _ in scenes]),
        torch.cat([o.active_BHW for o, _ in scenes]),
    )
    losses = objective(outputs, [t for _, t in scenes], stride=STRIDE)
    box = objectness = classes = 0.0
    count = 0
    for alone, targets in scenes:
        class_logits, objectness_logits, predicted, centre = flat(alone)
        found = assign(class_logits, objectness_logits, predicted, centre, targets, radius=1.5 * STRIDE)
        wanted = torch.zeros(63).double()
        for cell, g, iou in zip(
            found.cell_M.tolist(), found.object_M.tolist(), found.overlap_M.tolist(), strict=True
        ):
            count += 1
            wanted[cell] = 1
            box += 1 - float(ops.generalized_box_iou(predicted[None, cell], targets.boxes_G4[None, g]))
            for k, logit in enumerate(class_logits[cell].tolist()):
                y = iou if k == targets.label_G[g] else 0.0
                classes -= y * math.log(sigmoid(logit)) + (1 - y) * math.log(1 - sigmoid(logit))
        p = objectness_logits.sigmoid()
        objectness -= float((wanted * p.log() + (1 - wanted) * (1 - p).log()).sum())
    n = max(count, 1)
    assert losses.assigned == count
    assert float(losses.box) == pytest.approx(box / n)
    assert float(losses.objectness) == pytest.approx(objectness / n)
    assert float(losses.classes) == pytest.approx(classes / n)
    assert float(losses.total) == pytest.approx((5 * box + objectness + classes) / n)


def test_gradient_steps_find_the_objects() -> None:
    torch.manual_seed(0)
    grid = torch.randn(2, 16, 5, 6)
    head = YoloxHead(16, 3)
    assert float(head.eval()(grid * 0).objectness.detach().sigmoid().mean()) == pytest.approx(0.01, rel=0.1)
    active = torch.ones(2, 5, 6, dtype=torch.bool)
    truth = [
        Targets(torch.tensor([[3.0, 5.0, 20.0, 30.0], [24.0, 10.0, 44.0, 22.0]]), torch.tensor([2, 0])),
        Targets(torch.empty(0, 4), torch.empty(0, dtype=torch.int64)),
    ]
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.02)
    head.train()
    for _ in range(150):
        losses = objective(
            SslaDetOutputs(head(grid), grid, active),
            truth,
            stride=STRIDE,
            config=ObjectiveConfig(active_cells_only=True),
        )
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    found, empty = detect_windows(
        SslaDetOutputs(head(grid), grid, active), stride=STRIDE, config=DetectionConfig(score=0.3)
    )
    assert len(empty.score_M) == 0
    assert sorted(found.label_M.tolist()) == [0, 2]
    for box, label in zip(found.boxes_M4, found.label_M.tolist(), strict=True):
        right = truth[0].boxes_G4[truth[0].label_G.tolist().index(label)]
        assert overlap(box.tolist(), right.tolist()) > 0.7


def test_wrong_targets_are_one_clear_line() -> None:
    outputs, targets = scene(1)
    with pytest.raises(InputError, match="0 targets for 1 streams"):
        objective(outputs, [], stride=STRIDE)
    with pytest.raises(InputError, match=r"label out of range 0 to 2: \[3\]"):
        objective(outputs, [Targets(targets.boxes_G4, torch.tensor([3]))], stride=STRIDE)


def test_suppression_is_torchvisions() -> None:
    ops = pytest.importorskip("torchvision.ops")
    generator = torch.Generator().manual_seed(0)
    for count in (0, 1, 40, 300):
        low = torch.rand(count, 2, generator=generator) * 60
        found = torch.cat([low, low + torch.rand(count, 2, generator=generator) * 40], dim=1)
        score = torch.rand(count, generator=generator)
        label = torch.randint(3, (count,), generator=generator)
        for threshold in (0.3, 0.65):
            kept = boxes.suppress(found, score, label, threshold)
            assert kept.tolist() == ops.batched_nms(found, score, label, threshold).tolist()


def test_decoding_by_hand() -> None:
    raw = torch.tensor([[0.5, 0.25, math.log(2), math.log(3)]])
    centre = centres(4, 5, STRIDE)[[1 * 5 + 3]]
    # Cell (row 1, column 3): centre ((3 + 0.5) 8, (1 + 0.25) 8) = (28, 10), size 16 x 24.
    assert boxes.boxes_of_cells(raw, centre, STRIDE).tolist() == [pytest.approx([20, -2, 36, 22])]
    assert boxes.boxes_of_cells(raw + 1e4, centre, STRIDE).isfinite().all()


def test_silent_cells_are_not_detected() -> None:
    outputs, _ = scene(3)
    found = detect_windows(
        outputs, stride=STRIDE, config=DetectionConfig(score=0, overlap=1, max_detections=1000)
    )[0]
    assert len(found.score_M) == int(outputs.active_BHW.sum())
    assert (found.score_M.diff() <= 0).all()
