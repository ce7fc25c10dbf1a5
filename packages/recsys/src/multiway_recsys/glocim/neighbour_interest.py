"""Neighbour interest: the neighbourhood of the clicked news, encoded by a gated graph network (GLORY section 3.3).

Shape suffixes: G nodes of the graph, R clicked news, X edges, E hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multiway_recsys.glocim.sparse_product import sparse_product


@dataclass(frozen=True)
class Messages:
    """Along which edges messages travel; nodes are ordered by their distance from the clicked news.

    Node i receives from ``indices[indptr[i]:indptr[i + 1]]``. ``levels[k]`` nodes lie within k steps of a clicked news
    (``levels[0]`` are clicked), so with T layers, layer t needs to be computed only for the first ``levels[T - t]``.
    """

    indptr: Tensor  # (rows + 1,) int64; rows = levels[-2], since the farthest nodes only send
    indices_X: Tensor  # int32 or int64
    weights_X: Tensor  # float32
    levels: tuple[int, ...]


class GatedGraphNetwork(nn.Module):
    """m_i = sum over senders j of w_ij x_j W_t, x_i = GRU(m_i, x_i), a number of times (Li et al. 2016).

    As `torch_geometric.nn.GatedGraphConv` with the sum, with its weights' names and shapes. W_t and the GRU's input
    matrix are multiplied first: the same numbers for a quarter less work.
    """

    def __init__(self, hidden_size: int, num_layers: int, *, smooth: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_layers, hidden_size, hidden_size))
        self.rnn = nn.GRUCell(hidden_size, hidden_size)
        nn.init.uniform_(self.weight, -(hidden_size**-0.5), hidden_size**-0.5)
        if smooth and not self.weight.is_meta:  # what is to be loaded needs no start
            self._start_smooth(hidden_size)

    @torch.no_grad()
    def _start_smooth(self, width: int) -> None:
        """First every layer moves a node about half way to tanh of its messages: what a news says survives."""
        identity = torch.eye(width)
        self.weight.copy_(identity.expand_as(self.weight))
        self.rnn.weight_ih[2 * width :] = identity
        self.rnn.weight_hh[2 * width :] = 0.0
        self.rnn.bias_ih[2 * width :] = 0.0
        self.rnn.bias_hh[2 * width :] = 0.0

    def forward(self, x_GE: Tensor, messages: Messages) -> Tensor:
        """(G, E) -> (R, E): the clicked news after all layers. G = ``messages.levels[-1]``."""
        num_layers = len(self.weight)
        rnn = self.rnn
        for layer in range(num_layers):
            rows = messages.levels[num_layers - 1 - layer]
            indptr = messages.indptr[: rows + 1]
            edges = int(indptr[-1])
            received_RE = sparse_product(indptr, messages.indices_X[:edges], messages.weights_X[:edges], x_GE)
            input_weight = rnn.weight_ih @ self.weight[layer].T
            x_GE = torch.gru_cell(
                received_RE, x_GE[:rows], input_weight, rnn.weight_hh, rnn.bias_ih, rnn.bias_hh
            )
        return x_GE
