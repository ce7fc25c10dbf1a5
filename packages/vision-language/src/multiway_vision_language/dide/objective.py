"""DiDE's two losses: the teacher's scores, and the attention between text and image that the student never computes.

Shape suffixes: B batch, P pictures of an example, C channels, H height, W width, T text tokens, K chosen patches,
L labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from multiway_blocks.distillation import cross_modal_attention, logits_loss
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_vision_language.dide.model import DiDE, StudentRead
from multiway_vision_language.multiway.fusion import FusionClassifier
from multiway_vision_language.multiway.text_first import Read

Scores = Literal["independent", "exclusive"]
"""Answers that are right each for itself (VQA), or of which one is right (NLVR2, SNLI-VE)."""


@dataclass(frozen=True)
class Distillation:
    """How a student learns.

    scores: what kind the teacher's are. attention: whether its attention is taught too.
    legacy_query_mean: padded queries count in the mean of the attention's divergence, as in the released code.
    """

    scores: Scores = "exclusive"
    attention: bool = True
    legacy_query_mean: bool = False


def soft_label_loss(student_BL: Tensor, teacher_BL: Tensor, kind: Scores) -> Tensor:
    """The teacher's scores as soft labels, at temperature 1, a mean over examples, ().

    Independent: binary cross-entropy with the teacher's probabilities, summed over labels. Exclusive: KL divergence.
    """
    if kind == "independent":
        precision = torch.promote_types(student_BL.dtype, torch.float32)
        targets = teacher_BL.detach().to(precision).sigmoid()
        loss = nn.functional.binary_cross_entropy_with_logits(student_BL.to(precision), targets)
        return loss * student_BL.shape[1]
    return logits_loss(student_BL, teacher_BL) / len(student_BL)


def attention_loss(
    student: DiDE,
    read: StudentRead,
    teacher: FusionClassifier,
    fused: list[Read],
    valid_BT: Tensor | None,
    *,
    legacy_query_mean: bool = False,
) -> Tensor:
    """Cross-modal attention of the last layer in both directions, summed over an example's pictures, ().

    Raises InputError: student and teacher did not read the same number of patches.
    """
    text = student.text_encoder.queries_and_keys(read.text)
    losses = []
    for image, pair in zip(read.images, fused, strict=True):
        query, key = teacher.backbone.queries_and_keys(pair)
        split = pair.split
        given, taught = image.hidden_BSE.shape[1], pair.hidden_BSE.shape[1] - split
        if given != taught:
            raise InputError(
                f"the student read {given} image tokens and the teacher {taught}; both must see the same patches"
            )
        losses.append(
            cross_modal_attention(
                text,
                student.image_encoder.queries_and_keys(image),
                (query[:, :, :split], key[:, :, :split]),
                (query[:, :, split:], key[:, :, split:]),
                valid_BT,
                legacy_query_mean=legacy_query_mean,
            )
        )
    return torch.stack(losses).sum()


def distillation_loss(
    student: DiDE,
    teacher: FusionClassifier,
    pixels_BPCHW: Tensor,
    tokens_BT: Tensor,
    valid_BT: Tensor,
    how: Distillation,
    chosen_BPK: Tensor | None = None,
) -> dict[str, Tensor]:
    """The losses of a batch by name, unweighted: ``soft`` and, where it is taught, ``attention``.

    ``chosen_BPK``: the patches that both see (:func:`choose_patches`). The teacher must be in evaluation mode.
    """
    with torch.no_grad():
        targets_BL, fused = teacher.read(pixels_BPCHW, tokens_BT, valid_BT, chosen_BPK)
    read = student.read(pixels_BPCHW, tokens_BT, valid_BT, chosen_BPK)
    losses = {"soft": soft_label_loss(read.scores_BL, targets_BL, how.scores)}
    if how.attention:
        losses["attention"] = attention_loss(
            student, read, teacher, fused, valid_BT, legacy_query_mean=how.legacy_query_mean
        )
    return losses


def choose_patches(batch: int, pictures: int, patches: int, kept: int, generator: torch.Generator) -> Tensor:
    """``kept`` patches of every picture in random order, (B, P, K) int64; student and teacher get the same."""
    return torch.rand(batch, pictures, patches, generator=generator).argsort(-1)[..., :kept]
