"""What a student is taught by a teacher: relations between tokens, logits, and hidden states.

A relation of two kinds of vectors A and B is ``softmax(A B^T / sqrt(width))`` over the tokens of a sequence, for each
of the relation heads that the joined heads are split into. Students and teachers may therefore differ in width and
in attention heads. Padding is left out of the keys, and a loss is the mean over relation heads and queries that are no
padding. Relations are streamed: memory is linear in the tokens. Nothing flows back to the teacher.

=========================  ================================================================================
`minilm`                   Wang et al. 2020 (arXiv 2002.10957), section 3: queries with keys, values with values
`minilm_v2`                Wang et al. 2021 (arXiv 2012.15828), section 3; AutoDistil's loss (arXiv 2201.12507)
`relation_scores`          AutoDistil's released code: squared error of the scores before the softmax
`bitdistill`               arXiv 2510.13998, section 3.3: vectors of length 1, no padding
`cross_modal_attention`    DiDE (arXiv 2112.08723), section 3.2: text over image and image over text
=========================  ================================================================================

Shape suffixes: B batch, H heads, T and S tokens, D head dim, R relation heads, W their width, N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.kernels.relation_distillation import relation_distillation, relation_divergence

States = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values inside one attention layer, (B, H, T, D) each."""


def relation_loss(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    heads: int,
    valid_BT: Tensor | None = None,
    valid_BS: Tensor | None = None,
) -> Tensor:
    """Mean over relation heads and valid queries of ``KL(teacher's relation || student's)``, ().

    Args:
        student: the vectors whose relation is taken, (B, H, T, D) and (B, H, S, D).
        teacher: the same of the teacher, (B, H', T, D') and (B, H', S, D').
        heads: relation heads; divides ``H D`` and ``H' D'``.
        valid_BT: bool, False for queries that are padding. valid_BS: the same for keys; ``valid_BT`` by default.

    Raises:
        InputError: shapes do not fit.
    """
    query_GTW, key_GSW = (_relation_heads(x, heads, "student") for x in student)
    other_query_GTW, other_key_GSW = (_relation_heads(x, heads, "teacher") for x in teacher)
    if query_GTW.shape[:2] != other_query_GTW.shape[:2] or key_GSW.shape[:2] != other_key_GSW.shape[:2]:
        raise InputError(
            f"relations: the student's vectors are {[tuple(x.shape) for x in student]} and the teacher's "
            f"{[tuple(x.shape) for x in teacher]}; batch and tokens must agree"
        )
    if valid_BT is None:
        valid_BT = _all_valid(student[0])
    if valid_BS is None:
        valid_BS = valid_BT
    valid_GS = valid_BS.repeat_interleave(heads, dim=0)
    kl_GT = relation_divergence(query_GTW, key_GSW, other_query_GTW, other_key_GSW, valid_GS)
    kl_BT = kl_GT.unflatten(0, (-1, heads)).mean(1)
    return (kl_BT * valid_BT).sum() / valid_BT.sum().clamp(min=1)


def minilm(student: States, teacher: States, heads: int, valid_BT: Tensor | None = None) -> Tensor:
    """MiniLM: attention transfer (queries with keys) plus value relation; ``heads`` are the attention heads of both."""
    attention = relation_loss(student[:2], teacher[:2], heads, valid_BT)
    return attention + relation_loss((student[2], student[2]), (teacher[2], teacher[2]), heads, valid_BT)


def minilm_v2(
    student: States,
    teacher: States,
    heads: int,
    valid_BT: Tensor | None = None,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """MiniLMv2: the relations of queries, keys and values, each with themselves, weighted; AutoDistil uses it too."""
    pairs = zip(weights, student, teacher, strict=True)
    losses = [weight * relation_loss((a, a), (b, b), heads, valid_BT) for weight, a, b in pairs if weight]
    return torch.stack(losses).sum()


def relation_scores(student: States, teacher: States, heads: int, valid_BT: Tensor | None = None) -> Tensor:
    """AutoDistil's released loss: squared error of ``A A^T / sqrt(width)``, summed over queries, keys and values.

    The mean over relation heads and pairs of valid tokens. A width that ``heads`` does not divide is cut, as there.
    """
    total = student[0].new_zeros(())
    for own, other in zip(student, teacher, strict=True):
        valid = _all_valid(own) if valid_BT is None else valid_BT
        cut = [
            _relation_heads(x, heads, "", cut=True).unflatten(0, (-1, heads)) for x in (own, other.detach())
        ]
        a, b = (x * valid[:, None, :, None] * x.shape[-1] ** -0.25 for x in cut)
        # |A A^T - B B^T|^2 without the products of tokens.
        squared = (a.mT @ a).square().sum() - 2 * (a.mT @ b).square().sum() + (b.mT @ b).square().sum()
        total = total + squared / (heads * valid.sum(1).square().sum())
    return total


def bitdistill(student: States, teacher: States, splits: int, *, temperature: float = 1.0) -> Tensor:
    """BitDistill: relations of queries, keys and values as unit vectors; the sum of the three means over rows."""
    losses = [
        relation_distillation(a, b, splits, temperature=temperature)
        for a, b in zip(student, teacher, strict=True)
    ]
    return torch.stack(losses).sum()


def cross_modal_attention(
    student_text: tuple[Tensor, Tensor],
    student_image: tuple[Tensor, Tensor],
    teacher_text: tuple[Tensor, Tensor],
    teacher_image: tuple[Tensor, Tensor],
    text_valid_BT: Tensor | None = None,
    image_valid_BS: Tensor | None = None,
    *,
    legacy_query_mean: bool = False,
) -> Tensor:
    """DiDE: a dual encoder's text queries over image keys, and image queries over text keys, as the fusion teacher's.

    Each pair is (queries, keys), (B, H, T, D) for text and (B, H, S, D) for the image. The teacher's attention is
    normalised anew over the keys of the other modality. Queries that are padding do not count, but with
    ``legacy_query_mean``, as in the released code.
    """
    heads = student_text[0].shape[1]
    text_to_image = relation_loss(
        (student_text[0], student_image[1]),
        (teacher_text[0], teacher_image[1]),
        heads,
        None if legacy_query_mean else text_valid_BT,
        _all_valid(student_image[1]) if image_valid_BS is None else image_valid_BS,
    )
    return text_to_image + relation_loss(
        (student_image[0], student_text[1]),
        (teacher_image[0], teacher_text[1]),
        heads,
        None if legacy_query_mean else image_valid_BS,
        _all_valid(student_text[1]) if text_valid_BT is None else text_valid_BT,
    )


def logits_loss(student_NV: Tensor, teacher_NV: Tensor, temperature: float = 1.0) -> Tensor:
    """Sum over rows of ``temperature^2 KL(teacher || student)`` of the softened distributions (Hinton et al. 2015)."""
    wide = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (student_NV, teacher_NV.detach()))
    student, teacher = ((x / temperature).log_softmax(-1) for x in wide)
    return nn.functional.kl_div(student, teacher, log_target=True, reduction="sum") * temperature**2


def hidden_loss(student_BTE: Tensor, teacher_BTE: Tensor, valid_BT: Tensor | None = None) -> Tensor:
    """Mean squared error of hidden states over valid tokens; a narrower student is projected by the caller, ()."""
    squared_BT = (student_BTE - teacher_BTE.detach()).square().mean(-1)
    if valid_BT is None:
        return squared_BT.mean()
    return (squared_BT * valid_BT).sum() / valid_BT.sum().clamp(min=1)


def _all_valid(x_BHSD: Tensor) -> Tensor:
    return x_BHSD.new_ones(x_BHSD.shape[0], x_BHSD.shape[2], dtype=torch.bool)


def _relation_heads(x_BHTD: Tensor, heads: int, name: str, *, cut: bool = False) -> Tensor:
    """(B x R, T, W)."""
    width = x_BHTD.shape[1] * x_BHTD.shape[3]
    if heads < 1 or (width % heads and not cut) or width < heads:
        raise InputError(f"relations: {heads} relation heads do not divide the {name}'s width {width}")
    x_BTE = x_BHTD.transpose(1, 2).flatten(2)[..., : width - width % heads]
    return x_BTE.unflatten(2, (heads, -1)).transpose(1, 2).flatten(0, 1)
