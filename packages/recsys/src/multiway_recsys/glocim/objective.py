"""Negative sampling loss: the clicked candidate against the sampled others of its impression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from multiway_core.training import Loss

    from multiway_recsys.glocim.batch import Batch


def negative_sampling_loss(scores_BC: Tensor, mask_BC: Tensor | None = None) -> Tensor:
    """Sum over the batch of -log softmax(scores)[0]; the clicked candidate stands first. ``mask``: which count."""
    scores_BC = scores_BC.float()
    if mask_BC is not None:
        scores_BC = scores_BC.masked_fill(~mask_BC, torch.finfo(scores_BC.dtype).min)
    clicked_B = torch.zeros(len(scores_BC), dtype=torch.long, device=scores_BC.device)
    return nn.functional.cross_entropy(scores_BC, clicked_B, reduction="sum")


def negative_sampling(model: nn.Module, batch: Batch) -> Loss:
    """The objective for `multiway_core.training.Trainer`."""
    from multiway_core.training import Loss  # the trainer is an extra

    scores_BC = model(batch)
    total = negative_sampling_loss(scores_BC)
    first_B = scores_BC.detach().argmax(dim=1) == 0
    return Loss(
        total, weight=len(batch), samples=len(batch), metrics={"clicked_first": first_B.float().mean()}
    )
