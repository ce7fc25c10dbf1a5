"""SASRec (Kang & McAuley, ICDM 2018): the next click by causal self-attention over the last ones.

Item and position embeddings, pre-norm causal blocks with a pointwise ReLU network, scores against the item embeddings
(section III). The loss is the softmax over the whole catalogue in place of the paper's one sampled negative, which
Klenitskiy & Vasilev (RecSys 2023) found better.

Shape suffixes: B batch, T clicks, E hidden size.
"""

from __future__ import annotations

import numpy as np
import torch
from multiway_blocks.attention import Attention
from multiway_blocks.causal import CausalStack
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.transformer import PreNorm
from numpy.typing import NDArray
from torch import Tensor, nn

from multiway_recsys.data.tables import Ragged
from multiway_recsys.glocim.features import last_values


class SasRec(nn.Module):
    """``hidden_size`` must be a multiple of ``num_heads``; ``length``: the last so many clicks are looked at."""

    def __init__(
        self,
        num_news: int,
        *,
        hidden_size: int = 64,
        num_layers: int = 2,
        num_heads: int = 2,
        length: int = 50,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.length = length
        self.items = nn.Embedding(num_news, hidden_size)
        self.places = nn.Embedding(length, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.stack = CausalStack(
            (_layer(hidden_size, num_heads, dropout) for _ in range(num_layers)), nn.LayerNorm(hidden_size)
        )
        for table in (self.items, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, clicks_BT: Tensor) -> Tensor:
        """States (B, T, E) behind each click; rows are padded in front by 0."""
        valid_BT = clicks_BT > 0
        ago = torch.arange(clicks_BT.shape[1] - 1, -1, -1, device=clicks_BT.device)
        x_BTE = self.items(clicks_BT) * self.items.embedding_dim**0.5 + self.places(ago)
        return self.stack(self.dropout(x_BTE), valid_BT)


def _layer(hidden_size: int, num_heads: int, dropout: float) -> PreNorm:
    feedforward = FeedForward(hidden_size, hidden_size, activation=torch.relu, dropout=dropout)
    norms = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
    return PreNorm(Attention(hidden_size, num_heads), feedforward, norms)


def fit_sasrec(
    sequences: Ragged,
    num_news: int,
    *,
    epochs: int = 10,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    seed: int = 0,
    length: int = 50,
    dropout: float = 0.2,
    hidden_size: int = 64,
) -> SasRec:
    """Train on readers' clicks, oldest first; those of fewer than two teach nothing."""
    torch.manual_seed(seed)
    model = SasRec(num_news, length=length, dropout=dropout, hidden_size=hidden_size)
    rows = np.flatnonzero(sequences.lengths >= 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    rng = np.random.default_rng(seed)
    model.train()
    for _ in range(epochs):
        # Batches of similar length, in random order.
        order = rows[np.lexsort((rng.random(len(rows)), np.minimum(sequences.lengths[rows], length + 1)))]
        starts = np.arange(0, len(order), batch_size)
        for start in rng.permutation(starts):
            clicks = _padded(sequences, order[start : start + batch_size], length + 1)
            states_BTE, next_BT = model(clicks[:, :-1]), clicks[:, 1:]
            taught = (clicks[:, :-1] > 0) & (next_BT > 0)
            logits = states_BTE[taught] @ model.items.weight.T
            loss = nn.functional.cross_entropy(logits, next_BT[taught])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def sasrec_scores(
    model: SasRec, histories: Ragged, candidates: Ragged, *, batch_size: int = 512
) -> NDArray[np.float32]:
    """One score a candidate, (C,); 0 where the history is empty."""
    scores = np.zeros(len(candidates.values), np.float32)
    order = np.argsort(np.minimum(histories.lengths, model.length), kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        if not histories.lengths[rows].max():
            continue
        users_BE = model(_padded(histories, rows, model.length))[:, -1]
        shown = candidates.take(rows)
        users = torch.from_numpy(np.repeat(np.arange(len(rows)), shown.lengths))
        news_CE = model.items(torch.from_numpy(shown.values.astype(np.int64)))
        found = (news_CE * users_BE[users]).sum(dim=1).numpy()
        places = np.arange(len(found)) + np.repeat(
            candidates.offsets[rows] - shown.offsets[:-1], shown.lengths
        )
        scores[places] = np.where(np.repeat(histories.lengths[rows] > 0, shown.lengths), found, 0)
    return scores


def _padded(sequences: Ragged, rows: NDArray[np.integer], width: int) -> Tensor:
    width = int(min(width, max(1, sequences.lengths[rows].max())))
    return torch.from_numpy(last_values(sequences.values, sequences.offsets, rows, width).astype(np.int64))
