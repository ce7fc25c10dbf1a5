"""DINO (Caron et al. 2021, arXiv 2104.14294), with which LongViT is pre-trained on crops of slides.

Shape suffixes: B slides, V views, E hidden size, K outputs of the projection.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multiway_vision_language.longvit.model import LongViT

MEAN_NORM_EPS = 1e-6


@dataclass(frozen=True)
class DinoConfig:
    """The method's numbers. ``momentum`` is the teacher's at the start; it rises to 1 by a cosine."""

    outputs: int = 65_536
    inner_size: int = 2048
    bottleneck: int = 256
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    momentum: float = 0.996
    center_momentum: float = 0.9


@dataclass(frozen=True)
class DinoBatch:
    """views: each (B, 3, side, side), the first ``num_global`` of them global. momentum: of the teacher's update."""

    views: tuple[Tensor, ...]
    momentum: float
    num_global: int = 2


class DinoHead(nn.Module):
    """Three layers, a normalised bottleneck, and a linear map of rows with length 1."""

    def __init__(self, hidden_size: int, config: DinoConfig) -> None:
        super().__init__()
        inner = config.inner_size
        self.layers = nn.Sequential(
            nn.Linear(hidden_size, inner), nn.GELU(), nn.Linear(inner, inner), nn.GELU(),
            nn.Linear(inner, config.bottleneck),
        )  # fmt: skip
        self.directions = nn.Parameter(torch.randn(config.outputs, config.bottleneck))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.02, b=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x_BE: Tensor) -> Tensor:
        """(B, E) -> (B, K)."""
        narrow = nn.functional.normalize(self.layers(x_BE), dim=-1)
        return narrow @ nn.functional.normalize(self.directions, dim=-1).T


class DinoBranch(nn.Module):
    """Student or teacher: backbone, norm of the mean, projection."""

    def __init__(self, backbone: LongViT, config: DinoConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.norm = nn.LayerNorm(backbone.config.hidden_size, eps=MEAN_NORM_EPS)
        self.projection = DinoHead(backbone.config.hidden_size, config)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K). The mean of normed patches, as released."""
        return self.projection(self.norm(self.backbone.encode(pixels_BCHW)).mean(dim=1))


class Dino(nn.Module):
    """Student, teacher (their moving average) and the centre of the teacher's outputs."""

    def __init__(self, backbone: LongViT, config: DinoConfig) -> None:
        super().__init__()
        self.config = config
        self.student = DinoBranch(backbone, config)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.center: Tensor
        self.register_buffer("center", torch.zeros(config.outputs))

    def forward(self, batch: DinoBatch) -> Tensor:
        """The loss of a batch. While training the teacher and the centre move."""
        if self.training:
            self._move_teacher(batch.momentum)
        with torch.no_grad():
            teacher = [self.teacher(view) for view in batch.views[: batch.num_global]]
        student = [self.student(view) for view in batch.views]
        loss = dino_loss(
            student, teacher, self.center, self.config.student_temperature, self.config.teacher_temperature
        )
        if self.training:
            share = self.config.center_momentum
            mean = torch.cat(teacher).float().mean(dim=0)
            self.center.copy_(share * self.center + (1 - share) * mean)
        return loss

    @torch.no_grad()
    def _move_teacher(self, momentum: float) -> None:
        for own, of_student in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            own.lerp_(of_student.to(own.dtype), 1 - momentum)


def dino_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    center_K: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy of the student's views under the teacher's, over all pairs of different views (algorithm 1)."""
    targets = [((view - center_K) / teacher_temperature).float().softmax(dim=-1) for view in teacher]
    guesses = [(view / student_temperature).float().log_softmax(dim=-1) for view in student]
    losses = [
        -(target * guess).sum(dim=-1).mean()
        for t, target in enumerate(targets)
        for s, guess in enumerate(guesses)
        if s != t
    ]
    return torch.stack(losses).mean()


def teacher_momentum(step: int, steps: int, start: float) -> float:
    """Of a step: from ``start`` to 1 by a cosine."""
    return 1 - (1 - start) * (math.cos(math.pi * step / max(1, steps)) + 1) / 2
