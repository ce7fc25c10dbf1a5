"""Losses of the small network: boxes and classes of cells, tokens, and locations.

* cells: those in the middle of a thing know its box (generalised IoU, Rezatofighi et al. 2019) and its name;
* words: cross entropy of the next token, where ``<object>`` behind a phrase says that the picture shows it;
* locations: cross entropy against a distribution that also gives the neighbouring cells something, and, for the state
  that points, the probability mass on cells in the middle of the right thing.

Shape suffixes: B pictures, N cells (by rows), T tokens, P pointing states of a picture, E hidden size, K key width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_vision_language.kosmos2_small.batches import IGNORED, GroundingBatch, PackedTasks
from multiway_vision_language.kosmos2_small.model import Kosmos2Small
from multiway_vision_language.locations import NormalBox
from multiway_vision_language.scenes.scene import Scene

_MIDDLE = 0.6  # of a thing's width and height: the cells that stand for it
_BACKGROUND_SHARE = 0.12
_NEIGHBOUR_DECAY = 2.2


class NameTable(nn.Module):
    """Names as directions in the space of keys; training only. The last row is the background."""

    def __init__(self, names: Sequence[str], key_size: int) -> None:
        super().__init__()
        self.numbers = {name: number for number, name in enumerate(names)}
        self.rows = nn.Parameter(torch.randn(len(names) + 1, key_size) * key_size**-0.5)
        self.scale = nn.Parameter(torch.tensor(12.0))

    def forward(self, keys: Tensor) -> Tensor:
        """(..., K) -> logits (..., names + 1)."""
        return (
            self.scale * nn.functional.normalize(keys, dim=-1) @ nn.functional.normalize(self.rows, dim=-1).T
        )


class Training(nn.Module):
    """The network and what is thrown away after training."""

    def __init__(self, model: Kosmos2Small, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = NameTable(names, model.config.cells.key_size)


def middle_cells(box: NormalBox, grid_size: int) -> Tensor:
    """The cells in the middle of a box, at least one: (N,) bool."""
    left, top, right, bottom = (side * grid_size for side in box)
    middles = torch.arange(grid_size) + 0.5
    columns = (middles - (left + right) / 2).abs() <= max((right - left) * _MIDDLE, 1.01) / 2
    rows = (middles - (top + bottom) / 2).abs() <= max((bottom - top) * _MIDDLE, 1.01) / 2
    return (rows[:, None] & columns[None, :]).flatten()


class CellTargets(NamedTuple):
    """What cells stand for: box in grid units, number of the name (-1: none), weight as background."""

    boxes_BN4: Tensor
    names_BN: Tensor
    background_BN: Tensor


def cell_targets(scenes: Sequence[Scene], names: NameTable, grid_size: int) -> CellTargets:
    """Small things win over large ones. Photographs whose things are not all named have no background."""
    count = grid_size**2
    boxes_BN4 = torch.zeros(len(scenes), count, 4)
    names_BN = torch.full((len(scenes), count), -1)
    background_BN = torch.zeros(len(scenes), count)
    middles = (torch.arange(grid_size) + 0.5) / grid_size
    for row, scene in enumerate(scenes):
        inside = torch.zeros(count, dtype=torch.bool)
        for thing in sorted(scene.things, key=lambda thing: -thing.area):
            left, top, right, bottom = thing.box
            columns, rows = (middles > left) & (middles < right), (middles > top) & (middles < bottom)
            inside |= (rows[:, None] & columns[None, :]).flatten()
            own = middle_cells(thing.box, grid_size)
            boxes_BN4[row, own] = torch.tensor(thing.box) * grid_size
            names_BN[row, own] = names.numbers[thing.name]
        weight = 1.0 if not scene.is_photo else 0.15 if scene.complete else 0.0
        background_BN[row] = weight * ~inside
    return CellTargets(boxes_BN4, names_BN, background_BN)


def cell_losses(
    keys_BNK: Tensor, boxes_BN4: Tensor, names: NameTable, scenes: Sequence[Scene], grid_size: int
) -> dict[str, Tensor]:
    """Losses "box", "name" and "background"."""
    from torchvision import ops  # imports torch._dynamo: seconds

    targets = cell_targets(scenes, names, grid_size)
    things = targets.names_BN >= 0
    empty = (targets.background_BN > 0) & (torch.rand_like(targets.background_BN) < _BACKGROUND_SHARE)
    weights = targets.background_BN[empty]
    background = nn.functional.cross_entropy(
        names(keys_BNK[empty]), torch.full((len(weights),), len(names.numbers)), reduction="none"
    )
    return {
        "box": ops.generalized_box_iou_loss(boxes_BN4[things], targets.boxes_BN4[things], reduction="mean"),
        "name": nn.functional.cross_entropy(names(keys_BNK[things]), targets.names_BN[things]),
        "background": (background * weights).sum() / weights.sum().clamp(min=1.0),
    }


class Pointing(NamedTuple):
    """States that point, padded to the most of any picture: behind a phrase, before each corner."""

    places_BP: Tensor
    """Where among the tokens."""
    behind_phrase_BP: Tensor
    upper_left_BP: Tensor
    lower_right_BP: Tensor
    cells_BPN: Tensor
    """The cells that may be pointed at; none where the picture does not show the phrase."""


def pointing(packed: PackedTasks, model: Kosmos2Small) -> Pointing:
    """Find the pointing states of packed tasks and the cells that they mean."""
    tokens, grid = model.config.tokens, model.config.tokens.grid
    first = tokens.first_location
    counted_BT = packed.targets_BT != IGNORED
    phrase_BT = counted_BT & (packed.tokens_BT == tokens.phrase_end)
    corner_BT = packed.targets_BT >= first
    second_BT = corner_BT & (packed.tokens_BT >= first)
    pointing_BT = phrase_BT | corner_BT
    most = max(1, int(pointing_BT.sum(1).max()))
    places_BP = torch.zeros(len(pointing_BT), most, dtype=torch.long)
    real_BP = torch.zeros(len(pointing_BT), most, dtype=torch.bool)
    cells_BPN = torch.zeros(len(pointing_BT), most, grid.num_cells, dtype=torch.bool)
    known: dict[tuple[int, int], Tensor] = {}

    def cells(upper_left: int, lower_right: int) -> Tensor:
        pair = (upper_left - first, lower_right - first)
        if pair not in known:
            (row, column), (last_row, last_column) = (divmod(cell, grid.size) for cell in pair)
            box = (column, row, last_column + 1, last_row + 1)
            known[pair] = middle_cells(tuple(side / grid.size for side in box), grid.size)
        return known[pair]

    for row, (inputs, targets) in enumerate(
        zip(packed.tokens_BT.tolist(), packed.targets_BT.tolist(), strict=True)
    ):
        for number, place in enumerate(pointing_BT[row].nonzero()[:, 0].tolist()):
            places_BP[row, number], real_BP[row, number] = place, True
            if inputs[place] != tokens.phrase_end:
                pair = (
                    (inputs[place], targets[place]) if second_BT[row, place] else targets[place : place + 2]
                )
                cells_BPN[row, number] = cells(*pair)
            elif targets[place] == tokens.object:
                end = place + 1
                while True:
                    cells_BPN[row, number] |= cells(*targets[end : end + 2])
                    if targets[end + 2 : end + 3] != [tokens.delimiter]:
                        break
                    end += 3
    chosen = [
        kind_BT.gather(1, places_BP) & real_BP for kind_BT in (phrase_BT, corner_BT & ~second_BT, second_BT)
    ]
    return Pointing(places_BP, chosen[0], chosen[1], chosen[2], cells_BPN)


def word_losses(
    model: Kosmos2Small, keys_BNK: Tensor, boxes_BN4: Tensor, slots_BQE: Tensor, packed: PackedTasks
) -> dict[str, Tensor]:
    """Losses of words, presence and locations."""
    tokens, pointer = model.config.tokens, model.pointer
    first = tokens.first_location
    # On CPUs without fast bfloat16 units the decoder still gains by it; the convolutions do not.
    with torch.autocast(slots_BQE.device.type, torch.bfloat16, enabled=model.training):
        states_BTE = model.text.hidden(
            packed.tokens_BT,
            packed.valid_BT,
            image_embeddings_BQE=slots_BQE,
            image_slots_BT=packed.image_slots_BT,
            branches_BT=packed.branches_BT,
        ).float()
    corners = pointer.corners(boxes_BN4.detach())
    points = pointing(packed, model)
    picked_BPE = states_BTE.gather(1, points.places_BP[..., None].expand(-1, -1, states_BTE.shape[-1]))
    scores_BPN = pointer.scores(picked_BPE, pointer.keys(keys_BNK, corners))
    weight, bias = pointer.presence

    # Words, and <object> against </s> behind a phrase, which the best cell's score raises or lowers.
    is_word_BT = (packed.targets_BT != IGNORED) & (packed.targets_BT < first)
    behind_BT = is_word_BT & (packed.tokens_BT == tokens.phrase_end)
    logits_BT = model.text.logits(states_BTE[is_word_BT])
    behind = behind_BT[is_word_BT]
    best_BT = torch.zeros(is_word_BT.shape, dtype=scores_BPN.dtype)
    best_BT = best_BT.masked_scatter(behind_BT, scores_BPN.amax(-1)[points.behind_phrase_BP])
    shown = nn.functional.one_hot(torch.tensor(tokens.object), first)
    raised = (weight * best_BT[is_word_BT] + bias) * behind
    words = nn.functional.cross_entropy(
        logits_BT[:, :first] + raised[:, None] * shown, packed.targets_BT[is_word_BT], reduction="none"
    )
    # The first location's logit says whether a location is due; which one is the pointer's.
    is_corner_BT = packed.targets_BT >= first
    due = model.text.logits(states_BTE[is_corner_BT])[:, : first + 1]
    losses = {
        "words": _mean(words[~behind]),
        "presence": _mean(words[behind]),
        "due": _mean(nn.functional.cross_entropy(due, torch.full((len(due),), first), reduction="none"))
        + 0.2 * nn.functional.softplus(logits_BT[:, first]).mean(),
    }

    phrase, corner_BP = points.behind_phrase_BP, points.upper_left_BP | points.lower_right_BP
    log_cells_BPN = scores_BPN.log_softmax(-1)
    on_thing_BP = -log_cells_BPN.masked_fill(~points.cells_BPN, -1e4).logsumexp(-1)
    losses["pointing"] = _mean(on_thing_BP[corner_BP])
    losses["phrase_pointing"] = _mean(on_thing_BP[phrase & points.cells_BPN.any(-1)])
    losses["phrase_cells"] = _focal(weight * scores_BPN[phrase] + bias, points.cells_BPN[phrase].float())
    which = pointer.which(picked_BPE)[..., 0]
    losses["which"] = _mean(
        nn.functional.binary_cross_entropy_with_logits(
            which[corner_BP], points.upper_left_BP[corner_BP].float(), reduction="none"
        )
    )
    targets_BP = packed.targets_BT.gather(1, points.places_BP) - first
    cells_BPN = log_cells_BPN.exp()
    wrong = []
    for chosen_BP, rows_BNG, columns_BNG in (
        (points.upper_left_BP, corners.top_BNG, corners.left_BNG),
        (points.lower_right_BP, corners.bottom_BNG, corners.right_BNG),
    ):
        for row in range(len(chosen_BP)):
            here = chosen_BP[row]
            if here.any():
                one = slice(row, row + 1)
                mixture = pointer.mixture(cells_BPN[one, here], rows_BNG[one], columns_BNG[one])
                soft = near_cells(targets_BP[row, here], tokens.grid_size)
                wrong.append(-(soft * (mixture[0].flatten(1) + 1e-8).log()).sum(1))
    losses["locations"] = _mean(torch.cat(wrong)) if wrong else states_BTE.new_zeros(())
    return losses


def near_cells(cells_P: Tensor, grid_size: int) -> Tensor:
    """A distribution around each cell, most of it on the cell itself: (P, N)."""
    sides = torch.arange(grid_size)
    rows, columns = cells_P // grid_size, cells_P % grid_size
    near = [
        (-_NEIGHBOUR_DECAY * (sides[None] - middle[:, None]).abs().float()).softmax(-1)
        for middle in (rows, columns)
    ]
    return (near[0][:, :, None] * near[1][:, None, :]).flatten(1)


# How much each loss counts: alone with cells, and with words.
_CELLS_ONLY = {"box": 2.0, "name": 1.0, "background": 0.5}
_WITH_WORDS = {
    "box": 1.5, "name": 0.5, "background": 0.3, "words": 1.0, "presence": 1.0, "due": 0.3, "locations": 0.5,
    "pointing": 1.0, "phrase_pointing": 0.5, "phrase_cells": 0.05, "which": 0.2,
}  # fmt: skip


def training_loss(training: nn.Module, batch: GroundingBatch) -> Loss:
    """The objective of the trainer, for both stages."""
    assert isinstance(training, Training)
    model = training.model
    features, keys_BNK, boxes_BN4 = model.encode(batch.features.backbones)
    losses = cell_losses(keys_BNK, boxes_BN4, training.names, batch.features.scenes, model.grid_size)
    weights = _CELLS_ONLY
    if batch.packed is not None:
        losses |= word_losses(model, keys_BNK, boxes_BN4, features.embeddings_BQE, batch.packed)
        weights = _WITH_WORDS
    total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
    metrics = {name: loss.detach() for name, loss in losses.items()}
    return Loss(total, 1.0, metrics, samples=len(batch.features.scenes))


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(1, values.numel())


def _focal(logits_PN: Tensor, targets_PN: Tensor) -> Tensor:
    """Cross entropy of each cell, less where it is right already (Lin et al. 2017, gamma 2), things four times more."""
    wrong = nn.functional.binary_cross_entropy_with_logits(logits_PN, targets_PN, reduction="none")
    harder = (logits_PN.sigmoid() - targets_PN).square()
    return _mean((harder * wrong * (4 * targets_PN + 1)).sum(1))
