"""An LSTM over many short sequences at once, in PyTorch: what `lstm.cpp` computes, and what runs without a compiler.

    i, f, o = sigmoid;  g = tanh   of   a + U h
    c <- f ⊙ c + i ⊙ g;   h <- o ⊙ tanh(c)

`torch.nn.LSTM` would multiply the gates a, which are known here, by input weights once more: four times the work.

Shape letters: R rows, S sequences, N running sequences, D width, E = 4 · D gates.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lstm_scan(
    gates_RE: Tensor, recurrent_ED: Tensor, offsets: Tensor, state_SE: Tensor
) -> tuple[Tensor, Tensor]:
    """(h_RD after each row, state behind each sequence); differentiable.

    Sequences run in step, the longest first, so that each step is one matrix product over all that still run.

    Args:
        gates_RE: a of each row, (R, 4 · D) in PyTorch's order: input, forget, cell, output.
        recurrent_ED: U, (4 · D, D).
        offsets: (S + 1,) int64, bounds of the sequences' rows; none is empty.
        state_SE: (S, 2 · D), h and c before each sequence.
    """
    D = recurrent_ED.shape[1]
    if not len(gates_RE):
        return gates_RE[:, :D], state_SE
    length_S, order_S = offsets.diff().sort(descending=True, stable=True)
    running = [
        int(count)
        for count in (length_S[:, None] > torch.arange(int(length_S[0]), device=offsets.device)).sum(0)
    ]
    row_R = torch.cat([offsets[order_S[:count]] + step for step, count in enumerate(running)])
    state_NE, hidden, ended = state_SE[order_S], [], []
    for gates_NE in gates_RE[row_R].split(running):
        ended.append(state_NE[len(gates_NE) :])
        state_NE = lstm_step(gates_NE, recurrent_ED, state_NE[: len(gates_NE)])
        hidden.append(state_NE[:, :D])
    moved_SE = torch.cat([state_NE, *ended[::-1]])
    return torch.cat(hidden)[row_R.argsort()], moved_SE[order_S.argsort()]


def lstm_step(gates_NE: Tensor, recurrent_ED: Tensor, state_NE: Tensor) -> Tensor:
    """(h, c) after one step: (N, 2 · D)."""
    h_ND, c_ND = state_NE.chunk(2, dim=1)
    i, f, g, o = (gates_NE + h_ND @ recurrent_ED.t()).chunk(4, dim=1)
    c_ND = f.sigmoid() * c_ND + i.sigmoid() * g.tanh()
    return torch.cat([o.sigmoid() * c_ND.tanh(), c_ND], dim=1)
