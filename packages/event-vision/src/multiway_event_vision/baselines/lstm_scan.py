"""An LSTM over many short sequences at once, in PyTorch, with a gradient of its own.

    i, f, o = sigmoid;  g = tanh   of   a + U h
    c <- f ⊙ c + i ⊙ g;   h <- o ⊙ tanh(c)

Sequences are taken in step, the longest first, so each step is one matrix product over all that are still running. The
backward pass runs the steps in reverse; the gradient of U is one product at the end.

Legend: R rows, S sequences, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


def lstm_scan(
    gates_RE: Tensor, recurrent_ED: Tensor, offsets: Tensor, state_SE: Tensor
) -> tuple[Tensor, Tensor]:
    """(h_RD after each row, state behind each sequence).

    Args:
        gates_RE: a of each row, (R, 4 · D) in PyTorch's order: input, forget, cell, output.
        recurrent_ED: U, (4 · D, D).
        offsets: (S + 1,) int64, bounds of the sequences' rows; none is empty.
        state_SE: (S, 2 · D), h and c before each sequence.
    """
    packing = _Packing.of(offsets)
    h_RD, state_SE = _Scan.apply(
        gates_RE.index_select(0, packing.row_R),
        recurrent_ED,
        state_SE.index_select(0, packing.sequence_S),
        packing,
    )
    back_R, back_S = torch.empty_like(packing.row_R), torch.empty_like(packing.sequence_S)
    back_R[packing.row_R] = torch.arange(len(back_R), device=back_R.device)
    back_S[packing.sequence_S] = torch.arange(len(back_S), device=back_S.device)
    return h_RD.index_select(0, back_R), state_SE.index_select(0, back_S)


def lstm_step(gates_NE: Tensor, recurrent_ED: Tensor, state_NE: Tensor) -> Tensor:
    """(h, c) after one step: (N, 2 · D)."""
    h_ND, c_ND = state_NE.chunk(2, dim=1)
    i, f, g, o = (gates_NE + h_ND @ recurrent_ED.t()).chunk(4, dim=1)
    c_ND = f.sigmoid() * c_ND + i.sigmoid() * g.tanh()
    return torch.cat([o.sigmoid() * c_ND.tanh(), c_ND], dim=1)


@dataclass(frozen=True)
class _Packing:
    """Rows in the order of steps: the first of all sequences, longest sequence first, then the second of all, ..."""

    row_R: Tensor
    sequence_S: Tensor
    """The sequences, longest first."""
    bounds: list[int]
    """Of the steps among the packed rows."""

    @classmethod
    def of(cls, offsets: Tensor) -> _Packing:
        length_S = offsets.diff()
        sequence_S = length_S.argsort(descending=True, stable=True)
        step_R = torch.arange(int(offsets[-1]), device=offsets.device)
        step_R -= offsets[:-1].repeat_interleave(length_S)
        rank_S = torch.empty_like(sequence_S)
        rank_S[sequence_S] = torch.arange(len(sequence_S), device=offsets.device)
        key_R = step_R * len(sequence_S) + rank_S.repeat_interleave(length_S)
        bounds = [0, *step_R.bincount().cumsum(0).tolist()]
        return cls(key_R.argsort(), sequence_S, bounds)


class _Scan(torch.autograd.Function):
    """Rows packed; sequences longest first."""

    @staticmethod
    def forward(
        ctx: Any, gates_RE: Tensor, recurrent_ED: Tensor, state_SE: Tensor, packing: _Packing
    ) -> tuple[Tensor, Tensor]:
        D = recurrent_ED.shape[1]
        gates_RE = gates_RE.clone()  # becomes the gates behind their nonlinearities
        h_RD, c_RD = gates_RE.new_empty(len(gates_RE), D), gates_RE.new_empty(len(gates_RE), D)
        last_SE = state_SE.clone()
        h_SD, c_SD = last_SE[:, :D].clone(), last_SE[:, D:].clone()
        transposed_DE = recurrent_ED.t().contiguous()
        for start, end in pairwise(packing.bounds):
            n = end - start
            gates = gates_RE[start:end].addmm_(h_SD[:n], transposed_DE)
            gates[:, : 2 * D].sigmoid_()
            gates[:, 2 * D : 3 * D].tanh_()
            gates[:, 3 * D :].sigmoid_()
            i, f, g, o = gates.chunk(4, dim=1)
            c = c_SD[:n].mul_(f).addcmul_(i, g)
            torch.mul(c.tanh(), o, out=h_SD[:n])
            h_RD[start:end], c_RD[start:end] = h_SD[:n], c
        ctx.packing = packing
        ctx.save_for_backward(gates_RE, recurrent_ED, state_SE, h_RD, c_RD)
        return h_RD, torch.cat([h_SD, c_SD], dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_h_RD: Tensor, d_state_SE: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        gates_RE, recurrent_ED, state_SE, h_RD, c_RD = ctx.saved_tensors
        D = recurrent_ED.shape[1]
        d_h_SD, d_c_SD = d_state_SE[:, :D].clone(), d_state_SE[:, D:].clone()
        d_gates_RE = torch.empty_like(gates_RE)
        d_recurrent_ED = torch.zeros_like(recurrent_ED)
        bounds = ctx.packing.bounds
        for step in range(len(bounds) - 2, -1, -1):
            start, end = bounds[step], bounds[step + 1]
            n = end - start
            i, f, g, o = gates_RE[start:end].chunk(4, dim=1)
            if step:
                before = slice(bounds[step - 1], bounds[step - 1] + n)
                h_before, c_before = h_RD[before], c_RD[before]
            else:
                h_before, c_before = state_SE[:n, :D], state_SE[:n, D:]
            d_h = d_h_SD[:n].add_(d_h_RD[start:end])
            tanh_c = c_RD[start:end].tanh()
            d_c = d_c_SD[:n].add_(d_h * o * (1 - tanh_c * tanh_c))
            d_i, d_f, d_g, d_o = d_gates_RE[start:end].chunk(4, dim=1)
            d_i.copy_(d_c * g * i * (1 - i))
            d_f.copy_(d_c * c_before * f * (1 - f))
            d_g.copy_(d_c * i * (1 - g * g))
            d_o.copy_(d_h * tanh_c * o * (1 - o))
            d_c.mul_(f)
            torch.mm(d_gates_RE[start:end], recurrent_ED, out=d_h)
            d_recurrent_ED.addmm_(d_gates_RE[start:end].t(), h_before)
        return d_gates_RE, d_recurrent_ED, torch.cat([d_h_SD, d_c_SD], dim=1), None
