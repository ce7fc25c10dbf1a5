"""Relations of queries with keys, of any length and with padding: MiniLM's attention transfer and its successors.

`reference.py` has the relations of unit vectors with themselves (BitDistill). Here rows have any norm, the two sides
may differ, and keys may be padding, so both sides of the student have gradients. Computed by chunks of rows that stay
in a cache; the (G, L, S) relations are never stored.

Shape suffixes: G groups (sequences x relation heads), L queries, S keys, D width of the student, F of the teacher.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from multiway_blocks.kernels.relation_distillation.chunks import PRODUCTS_AT_ONCE, row_chunks

HIDDEN = -1e9  # the score of padding: its share is exactly 0, and the difference of two such scores is no NaN


def relation_divergence(
    query_GLD: Tensor, key_GSD: Tensor, teacher_query_GLF: Tensor, teacher_key_GSF: Tensor, valid_GS: Tensor
) -> Tensor:
    """``KL(softmax(teacher) || softmax(student))`` of each row of ``query key^T / sqrt(width)``, (G, L).

    In float32, or float64 for float64 input. ``valid_GS``: bool, False for keys to leave out; each group needs one.
    Nothing flows back to the teacher.
    """
    return _Divergence.apply(
        query_GLD, key_GSD, teacher_query_GLF.detach(), teacher_key_GSF.detach(), valid_GS
    )


def definition(
    query_GLD: Tensor, key_GSD: Tensor, teacher_query_GLF: Tensor, teacher_key_GSF: Tensor, valid_GS: Tensor
) -> Tensor:
    """`relation_divergence` in plain PyTorch: what it is tested against."""
    logs = []
    for query, key in ((query_GLD, key_GSD), (teacher_query_GLF.detach(), teacher_key_GSF.detach())):
        scores_GLS = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
        logs.append(scores_GLS.masked_fill(~valid_GS[:, None], HIDDEN).log_softmax(-1))
    return (logs[1].exp() * (logs[1] - logs[0])).sum(-1)


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, other_query: Tensor, other_key: Tensor, valid: Tensor
    ) -> Tensor:
        sides = _sides(query, key, other_query, other_key)
        kl_GL, student_GL, teacher_GL = sides[0].new_empty((3, *query.shape[:2])).unbind()
        with torch.autocast(query.device.type, enabled=False):
            for groups, rows in _chunks(query, key):
                s_GRS, t_GRS = _scores(sides, valid, groups, rows)
                for scores_GRS, lse_GL in ((s_GRS, student_GL), (t_GRS, teacher_GL)):
                    lse_GL[groups, rows] = scores_GRS.logsumexp(-1)
                    scores_GRS -= lse_GL[groups, rows, None]
                kl_GL[groups, rows] = s_GRS.neg_().add_(t_GRS).mul_(t_GRS.exp_()).sum(-1)
        ctx.save_for_backward(query, key, other_query, other_key, valid, student_GL, teacher_GL)
        return kl_GL.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_GL: Tensor) -> tuple[Tensor | None, ...]:
        query, key, other_query, other_key, valid, student_GL, teacher_GL = ctx.saved_tensors
        sides = _sides(query, key, other_query, other_key)
        grad_query, grad_key = torch.empty_like(sides[0]), torch.zeros_like(sides[1])
        with torch.autocast(query.device.type, enabled=False):
            for groups, rows in _chunks(query, key):
                s_GRS, t_GRS = _scores(sides, valid, groups, rows)
                s_GRS.sub_(student_GL[groups, rows, None]).exp_()
                s_GRS.sub_(t_GRS.sub_(teacher_GL[groups, rows, None]).exp_()).mul_(
                    grad_GL[groups, rows, None]
                )
                grad_query[groups, rows] = s_GRS @ sides[1][groups]
                grad_key[groups] += s_GRS.transpose(1, 2) @ sides[0][groups, rows]
        grad_query *= query.shape[-1] ** -0.5  # the scaled queries are what keys have met
        return grad_query.to(query.dtype), grad_key.to(key.dtype), None, None, None


def _sides(*vectors: Tensor) -> list[Tensor]:
    """Student's queries and keys, teacher's queries and keys, wide; queries scaled."""
    wide = [x.detach().to(torch.promote_types(x.dtype, torch.float32)) for x in vectors]
    return [x * x.shape[-1] ** -0.5 if side % 2 == 0 else x for side, x in enumerate(wide)]


def _scores(sides: list[Tensor], valid_GS: Tensor, groups: slice, rows: slice) -> tuple[Tensor, Tensor]:
    query, key, other_query, other_key = sides
    hidden = ~valid_GS[groups, None]
    s_GRS = (query[groups, rows] @ key[groups].transpose(1, 2)).masked_fill_(hidden, HIDDEN)
    t_GRS = (other_query[groups, rows] @ other_key[groups].transpose(1, 2)).masked_fill_(hidden, HIDDEN)
    return s_GRS, t_GRS


def _chunks(query: Tensor, key: Tensor) -> Iterator[tuple[slice, slice]]:
    at_once = PRODUCTS_AT_ONCE if query.device.type == "cpu" else 64 * PRODUCTS_AT_ONCE
    return row_chunks(query.shape[0], query.shape[1], key.shape[1], at_once)
