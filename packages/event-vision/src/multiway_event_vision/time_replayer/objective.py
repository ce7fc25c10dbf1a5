"""The cycle-consistency losses: a frame is reconstructed from frames that were interpolated from it.

Weights follow Reda et al., "Unsupervised Video Interpolation Using Cycle Consistency" (2019), and Super SloMo. Shape
letters: B batch, C channels, N bins, H W rows and columns; 2 is (x, y).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from multiway_core.training import Loss
from torch import Tensor, cat
from torch.nn.functional import avg_pool2d, smooth_l1_loss

from multiway_event_vision.time_replayer.model import TimeReplayer
from multiway_event_vision.time_replayer.samples import Pairs, Triplets
from multiway_event_vision.time_replayer.warp import warp

_SCALES = (1, 4)  # on frames shrunk so, a flow that is far off still learns which way to go


@dataclass(frozen=True)
class Weights:
    """Of the losses on frames of 0 to 1 and flows in pixels.

    cycle, warping, smoothness: as Reda et al. endpoint, agreement: ours, see `unsupervised`. teacher: see `taught`.
    """

    teacher: float = 0.2
    cycle: float = 1.0
    warping: float = 0.5
    endpoint: float = 0.5
    agreement: float = 0.5
    smoothness: float = 0.002


def taught(model: TimeReplayer, batch: Pairs, weights: Weights) -> Loss:
    """The first stage, flows alone: what a teacher says, and either frame warped is the other one.

    Only the network for events ahead learns, from both directions of time; its twin starts from its weights. Errors
    count in parts of a sample's mean motion, or half a pixel: slow clips would teach nothing beside fast ones.
    """
    first, second = _frames(batch.frames_B2CHW)
    flow_B2HW = model.flow_ahead(cat((batch.grid_BNHW, _reversed(batch.grid_BNHW))))
    taught_B2HW = cat((batch.ahead_B2HW, batch.back_B2HW))
    scale_B111 = taught_B2HW.abs().mean((1, 2, 3), keepdim=True).clamp(min=0.5)
    teaching = smooth_l1_loss(flow_B2HW / scale_B111, taught_B2HW / scale_B111)
    terms = {
        "teacher": weights.teacher * teaching,
        "endpoint": weights.endpoint * _photometric(cat((second, first)), flow_B2HW, cat((first, second))),
        "smoothness": weights.smoothness * _roughness(flow_B2HW),
    }
    return _loss(terms, len(first))


def unsupervised(model: TimeReplayer, batch: Triplets, weights: Weights) -> Loss:
    """Frames t and 1+t are made from 0, 1 and 2, and frame 1 from those two again.

    cycle: the frame made again is frame 1. warping: so are the two frames, warped by the flows that it was made with.
    endpoint: frames 0 and 2, warped by the flows of all events up to frame 1, are frame 1. Without it, two frames equal
    to frame 1 and no flow would do. agreement: at t, both neighbours warped look alike. smoothness: of all flows.
    """
    flows = _Flows(model, batch)
    to_past, to_first, to_made_first, _ = flows.back
    to_next, to_second, to_made_second, _ = flows.ahead
    first, middle, last = flows.frames
    made_B3HW = model.synthesize(
        cat((first, middle)),
        cat((middle, last)),
        cat((to_past, to_first)),
        cat((to_next, to_second)),
        batch.position_B.repeat(2),
        batch.has_second_B.repeat(2),
    ).frame_B3HW
    made_first, made_second = made_B3HW.chunk(2)
    again = model.synthesize(made_first, made_second, to_made_first, to_made_second, 1 - batch.position_B)
    warping = _difference(warp(made_first, to_made_first), middle)
    warping = warping + _difference(warp(made_second, to_made_second), middle)
    terms = {
        "cycle": weights.cycle * _difference(again.frame_B3HW, middle),
        "warping": weights.warping * warping,
        "endpoint": weights.endpoint * flows.endpoint(),
        "agreement": weights.agreement * flows.agreement(),
        "smoothness": weights.smoothness * _roughness(*flows.back, *flows.ahead),
    }
    return _loss(terms, len(batch.position_B))


def supervised(model: TimeReplayer, batch: Triplets, weights: Weights) -> Loss:
    """Super SloMo's losses, with the frames between as truth: an upper bound for what can be learned without them."""
    assert batch.truth_B2CHW is not None
    first, middle, last = _frames(batch.frames_B3CHW)
    truth_B3HW = cat(_frames(batch.truth_B2CHW))
    before, after, before_last, after_last, *_ = batch.grids_BSNHW.unbind(1)
    made = model(
        cat((first, middle)),
        cat((middle, last)),
        _reversed(cat((before, before_last))),
        cat((after, after_last)),
        batch.position_B.repeat(2),
        batch.has_second_B.repeat(2),
    )
    warping = _difference(warp(cat((first, middle)), made.to_first_B2HW), truth_B3HW)
    warping = warping + _difference(warp(cat((middle, last)), made.to_second_B2HW), truth_B3HW)
    terms = {
        "truth": weights.cycle * _difference(made.frame_B3HW, truth_B3HW),
        "warping": weights.warping * warping,
        "smoothness": weights.smoothness * _roughness(made.to_first_B2HW, made.to_second_B2HW),
    }
    return _loss(terms, len(batch.position_B))


class _Flows:
    """All flows of a batch of triplets, each network called once.

    back: t to 0, 1+t to 1, 1 to t, 1 to 0. ahead: t to 1, 1+t to 2, 1 to 1+t, 1 to 2.
    """

    def __init__(self, model: TimeReplayer, batch: Triplets) -> None:
        self.frames = _frames(batch.frames_B3CHW)
        past, next_, first, second, whole_past, whole_next = batch.grids_BSNHW.unbind(1)
        self.back = model.flow_back(_reversed(cat((past, first, next_, whole_past)))).chunk(4)
        self.ahead = model.flow_ahead(cat((next_, second, first, whole_next))).chunk(4)

    def endpoint(self) -> Tensor:
        first, middle, last = self.frames
        return _photometric(cat((first, last)), cat((self.back[3], self.ahead[3])), cat((middle, middle)))

    def agreement(self) -> Tensor:
        first, middle, last = self.frames
        lefts, rights = cat((first, middle)), cat((middle, last))
        backs, aheads = cat(self.back[:2]), cat(self.ahead[:2])
        return sum(
            (
                _difference(_warp_at(lefts, backs, scale), _warp_at(rights, aheads, scale))
                for scale in _SCALES
            ),
            start=torch.zeros(()),
        )


def _photometric(image_BCHW: Tensor, flow_B2HW: Tensor, target_BCHW: Tensor) -> Tensor:
    return sum(
        (
            _difference(_warp_at(image_BCHW, flow_B2HW, scale), avg_pool2d(target_BCHW, scale))
            for scale in _SCALES
        ),
        start=torch.zeros(()),
    )


def _warp_at(image_BCHW: Tensor, flow_B2HW: Tensor, scale: int) -> Tensor:
    return warp(avg_pool2d(image_BCHW, scale), avg_pool2d(flow_B2HW, scale) / scale)


def _frames(frames_BTCHW: Tensor) -> tuple[Tensor, ...]:
    return (frames_BTCHW.float() / 255).unbind(1)


def _reversed(grid_BNHW: Tensor) -> Tensor:
    """As `reversed_grid`."""
    return -grid_BNHW.flip(1)


def _difference(a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
    return (a_BCHW - b_BCHW).abs().mean()


def _roughness(*flows_B2HW: Tensor) -> Tensor:
    flow_B2HW = cat(flows_B2HW)
    across = (flow_B2HW[..., 1:] - flow_B2HW[..., :-1]).abs().mean()
    return across + (flow_B2HW[..., 1:, :] - flow_B2HW[..., :-1, :]).abs().mean()


def _loss(terms: Mapping[str, Tensor], count: int) -> Loss:
    total = sum(terms.values(), start=torch.zeros(()))
    return Loss(total * count, count, {name: term.detach() for name, term in terms.items()}, samples=count)
