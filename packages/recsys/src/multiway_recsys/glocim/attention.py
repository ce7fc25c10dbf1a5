"""The two attention blocks that every encoder here is built of (GLORY section 3; both published codes).

Shape suffixes: B batch, T tokens, H heads, D head dim, E width, A hidden width of the additive attention.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last dimension where ``mask`` (bool, broadcastable) is true; a row without any gives zeros.

    The published codes write it as exp(s) * mask / (sum + 1e-8), which overflows in half precision.
    """
    if mask is None:
        return scores.softmax(dim=-1)
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights * mask  # rows without any are uniform before this, so no NaN reaches the gradient


class SelfAttention(nn.Module):
    """Multi-head self-attention without output projection and without residual; the key has no bias."""

    def __init__(self, input_size: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        width = num_heads * head_dim
        self.query = nn.Linear(input_size, width)
        self.key = nn.Linear(input_size, width, bias=False)
        self.value = nn.Linear(input_size, width)
        for linear in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(linear.weight)

    def start_silent(self) -> SelfAttention:
        """Values of zero: on a branch beside a skip, attention first adds nothing."""
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)
        return self

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (..., heads * head dim) of tokens (..., E)."""
        return self.query(x), self.key(x), self.value(x)

    def mix(
        self, query_BTE: Tensor, key_BTE: Tensor, value_BTE: Tensor, mask_BT: Tensor | None = None
    ) -> Tensor:
        """Attention of projected tokens: (B, T, heads * head dim)."""
        query_BHTD, key_BHTD, value_BHTD = (
            part.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for part in (query_BTE * self.head_dim**-0.5, key_BTE, value_BTE)
        )
        scores_BHTT = query_BHTD @ key_BHTD.transpose(-1, -2)
        weights_BHTT = masked_softmax(scores_BHTT, None if mask_BT is None else mask_BT[:, None, None, :])
        return (weights_BHTT @ value_BHTD).transpose(1, 2).flatten(2)

    def forward(self, x_BTE: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """(B, T, E) -> (B, T, heads * head dim); ``mask`` (bool) says which tokens may be looked at."""
        return self.mix(*self.project(x_BTE), mask_BT)


class AdditivePooling(nn.Module):
    """Additive attention: the mean of the tokens weighted by softmax(w2 . tanh(W1 x + b1) + b2).

    ``places``: so many last tokens each have a learned number of their own added to their score (ours): how much a
    token counts by its place, whatever it says. They are kept as tenths and so move ten times as fast as
    weights.
    """

    def __init__(self, input_size: int, hidden_size: int, *, places: int = 0) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(places)) if places else None
        self.hidden = nn.Linear(input_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1)

    def weights(self, x_BTE: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """(B, T, E) -> (B, T), summing to one over the tokens that ``mask`` allows (zeros if it allows none)."""
        scores_BT = self.score(torch.tanh(self.hidden(x_BTE))).squeeze(-1)
        if self.places is not None:
            scores_BT = scores_BT + 10 * self.places[len(self.places) - scores_BT.shape[-1] :]
        return masked_softmax(scores_BT, mask_BT)

    def forward(self, x_BTE: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """(B, T, E) -> (B, E)."""
        return (self.weights(x_BTE, mask_BT).unsqueeze(-2) @ x_BTE).squeeze(-2)


class AttentionBlock(nn.Module):
    """Dropout, self-attention, LayerNorm, dropout, additive pooling, LayerNorm: a sequence as one vector.

    ``norm=False`` leaves both LayerNorms out (NRMS).
    """

    def __init__(
        self,
        input_size: int,
        num_heads: int,
        head_dim: int,
        hidden_size: int,
        *,
        dropout: float,
        norm: bool = True,
    ) -> None:
        super().__init__()
        width = num_heads * head_dim
        self.dropout = nn.Dropout(dropout)
        self.attention = SelfAttention(input_size, num_heads, head_dim)
        self.attention_norm: nn.Module = nn.LayerNorm(width) if norm else nn.Identity()
        self.pooling = AdditivePooling(width, hidden_size)
        self.norm: nn.Module = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, x_BTE: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """(B, T, E) -> (B, heads * head dim)."""
        tokens_BTE = self.dropout(self.attention_norm(self.attention(self.dropout(x_BTE), mask_BT)))
        return self.norm(self.pooling(tokens_BTE, mask_BT))
