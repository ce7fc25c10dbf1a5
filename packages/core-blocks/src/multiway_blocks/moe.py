"""Mixture of experts: gates, routing, and dispatch without dropped tokens (GShard, arXiv 2006.16668, section 3).

A token's k experts are found by its gate; the (token, expert) pairs are sorted by expert, so that each expert
multiplies one contiguous block of rows, and the results go back to their tokens. Nothing has the size tokens x experts
x capacity, and no token is dropped unless a capacity is asked for.

Shape suffixes: S tokens, K experts a token, N experts, R = S K sorted pairs, E hidden size, I inner size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from multiway_blocks.feedforward import Activation
from multiway_blocks.kernels.moe_feedforward import has_kernel, moe_feedforward
from multiway_blocks.kernels.moe_feedforward.reference import ACTIVATIONS

_MIN_GATE_NORM = 1e-4


class Routing(NamedTuple):
    """Where tokens go."""

    experts_SK: Tensor
    """int64, the likeliest first."""
    weights_SK: Tensor
    """What each expert's result counts; 0 for a pair that was dropped."""
    balance_loss: Tensor
    """()."""


class Gate(nn.Linear):
    """The plain gate: a linear map without bias to one number an expert."""

    def __init__(self, hidden_size: int, num_experts: int) -> None:
        super().__init__(hidden_size, num_experts, bias=False)

    def forward(self, x_SE: Tensor) -> Tensor:
        """(S, E) -> logits (S, N), in float32 at least."""
        wide = torch.promote_types(x_SE.dtype, torch.float32)
        return nn.functional.linear(x_SE.to(wide), self.weight.to(wide))


class XMoEGate(nn.Module):
    """X-MoE's gate (arXiv 2204.09179, section 3): tokens in few dimensions, experts on a sphere there.

    As in the released code: the token's vector is not normalised and there is no temperature. While training, the
    experts' vectors are kept at a length of 1.5, which scales their gradients.
    """

    EXPERT_NORM = 1.5

    def __init__(self, hidden_size: int, num_experts: int, *, reduced_size: int = 16) -> None:
        super().__init__()
        self.reduction = nn.Linear(hidden_size, reduced_size, bias=False)
        self.experts = nn.Parameter(torch.empty(num_experts, reduced_size))
        nn.init.orthogonal_(self.experts, gain=0.32)

    def forward(self, x_SE: Tensor) -> Tensor:
        """(S, E) -> logits (S, N), in float32 at least."""
        wide = torch.promote_types(x_SE.dtype, torch.float32)
        if self.training:
            with torch.no_grad():
                norm = self.experts.norm(dim=1, keepdim=True).clamp(min=_MIN_GATE_NORM)
                self.experts.mul_(self.EXPERT_NORM / norm)
        reduced = nn.functional.linear(x_SE.to(wide), self.reduction.weight.to(wide))
        directions = nn.functional.normalize(self.experts.to(wide), dim=1, eps=_MIN_GATE_NORM)
        return reduced @ directions.t()


def route(
    logits_SN: Tensor,
    experts_per_token: int,
    *,
    normalize: bool = True,
    normalize_before_dropping: bool = True,
    capacity: int | None = None,
) -> Routing:
    """Choose each token's experts: the largest of softmax(logits).

    normalize: a token's weights sum to 1 (else they are its probabilities). capacity: most tokens of one expert, in the
    order of first choices of all tokens, then second choices; what comes later is dropped. With
    ``normalize_before_dropping=False`` the weights that are left sum to 1.

    The loss is N times the sum over experts of (mean probability) x (share of first choices), 1 at balance.
    """
    probabilities_SN = logits_SN.softmax(dim=-1)
    weights_SK, experts_SK = probabilities_SN.topk(experts_per_token, dim=-1)
    num_experts = logits_SN.shape[1]
    kept_SK = None
    if capacity is not None:
        kept_SK = places(experts_SK, num_experts) < capacity
    if normalize and normalize_before_dropping:
        weights_SK = _normalized(weights_SK)
    if kept_SK is not None:
        weights_SK = weights_SK * kept_SK
    if normalize and not normalize_before_dropping:
        weights_SK = _normalized(weights_SK)
    first = nn.functional.one_hot(experts_SK[:, 0], num_experts).to(probabilities_SN.dtype)
    tokens = max(1, len(logits_SN))
    balance = num_experts * (probabilities_SN.sum(dim=0) / tokens * first.sum(dim=0) / tokens).sum()
    return Routing(experts_SK, weights_SK, balance)


def places(experts_SK: Tensor, num_experts: int) -> Tensor:
    """Int64 (S, K): how many pairs of the same expert come before each; first choices of all tokens come first."""
    tokens, choices = experts_SK.shape
    flat = experts_SK.t().reshape(-1)
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat, minlength=num_experts)
    starts = counts.cumsum(0) - counts
    found = torch.empty_like(flat)
    found[order] = torch.arange(len(flat), device=flat.device) - starts[flat[order]]
    return found.view(choices, tokens).t()


class Experts(nn.Module):
    """Feed-forward networks, one an expert: ``down(activation(up(x)))``, or ``down(activation(gate(x)) * up(x))``.

    Weights are stacked: ``up`` (N, I, E) (gated: (N, 2 I, E), gate before up), ``down`` (N, E, I), and biases.
    """

    def __init__(
        self,
        num_experts: int,
        hidden_size: int,
        inner_size: int,
        *,
        gated: bool = False,
        activation: Activation = nn.functional.gelu,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.gated = gated
        self.activation = activation
        first = 2 * inner_size if gated else inner_size
        self.up = nn.Parameter(torch.empty(num_experts, first, hidden_size))
        self.down = nn.Parameter(torch.empty(num_experts, hidden_size, inner_size))
        self.up_bias = nn.Parameter(torch.zeros(num_experts, first)) if bias else None
        self.down_bias = nn.Parameter(torch.zeros(num_experts, hidden_size)) if bias else None
        for weight in (self.up, self.down):  # as nn.Linear begins
            bound = weight.shape[-1] ** -0.5
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, x_RE: Tensor, counts: Sequence[int]) -> Tensor:
        """Rows sorted by expert, ``counts`` of each: (R, E) -> (R, E)."""
        name = next((name for name, function in ACTIVATIONS.items() if function is self.activation), None)
        # To run on a GPU; on a CPU nothing beats products of one expert each, and training keeps what lies between.
        if name is not None and not torch.is_grad_enabled() and has_kernel(x_RE):
            return moe_feedforward(
                x_RE,
                torch.tensor(counts, device=x_RE.device),
                self.up,
                self.down,
                activation=name,
                gated=self.gated,
                up_bias=self.up_bias,
                down_bias=self.down_bias,
            )
        inner = grouped_linear(x_RE, self.up, self.up_bias, counts)
        if self.gated:
            gate, inner = inner.chunk(2, dim=-1)
            inner = self.activation(gate) * inner
        else:
            inner = self.activation(inner)
        return grouped_linear(inner, self.down, self.down_bias, counts)


def grouped_linear(x_RI: Tensor, weight_NOI: Tensor, bias_NO: Tensor | None, counts: Sequence[int]) -> Tensor:
    """``x weight[n]^T + bias[n]`` for the rows of each group n, which stand together: (R, I) -> (R, O)."""
    parts = []
    for index, rows in enumerate(x_RI.split(list(counts))):
        if len(rows):
            bias = None if bias_NO is None else bias_NO[index]
            parts.append(nn.functional.linear(rows, weight_NOI[index], bias))
    return torch.cat(parts) if parts else x_RI.new_zeros(0, weight_NOI.shape[1])


class MixtureOfExperts(nn.Module):
    """A gate, its experts, and the way there and back.

    Args:
        gate: (S, E) -> logits (S, N).
        experts: sorted rows (R, E) and counts -> (R, E).
        num_experts: N.
        experts_per_token: K.
        capacity_factor: of S K / N tokens an expert takes at most; None drops none.
    """

    def __init__(
        self,
        gate: nn.Module,
        experts: nn.Module,
        num_experts: int,
        *,
        experts_per_token: int = 2,
        capacity_factor: float | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= experts_per_token <= num_experts:
            raise ValueError(f"experts_per_token must be 1 to {num_experts}, not {experts_per_token}")
        if capacity_factor is not None and capacity_factor <= 0:
            raise ValueError(f"capacity_factor must be above 0, not {capacity_factor}")
        self.gate = gate
        self.experts = experts
        self.num_experts = num_experts
        self.experts_per_token = experts_per_token
        self.capacity_factor = capacity_factor

    def forward(self, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(..., E) -> the same shape, and the balance loss (). Where ``valid`` (...) bool is False: zeros, unrouted."""
        rows_SE = x.reshape(-1, x.shape[-1]) if valid is None else x[valid]
        capacity = None
        if self.capacity_factor is not None:
            share = -(-len(rows_SE) // self.num_experts)
            capacity = max(1, round(self.capacity_factor * self.experts_per_token * share))
        routing = route(self.gate(rows_SE), self.experts_per_token, capacity=capacity)
        y_SE = self._dispatch(rows_SE, routing)
        if valid is None:
            return y_SE.view(x.shape), routing.balance_loss
        y = torch.zeros_like(x)
        y[valid] = y_SE.to(x.dtype)
        return y, routing.balance_loss

    def _dispatch(self, x_SE: Tensor, routing: Routing) -> Tensor:
        flat = routing.experts_SK.reshape(-1)
        order_R = flat.argsort(stable=True)
        counts = torch.bincount(flat, minlength=self.num_experts).tolist()
        sorted_RE = self.experts(x_SE[order_R // self.experts_per_token], counts)
        # Back in the order of the tokens, so that sums are taken in one order: the same bits at every run.
        results = torch.empty_like(sorted_RE).index_copy(0, order_R, sorted_RE)
        results_SKE = results.view(len(x_SE), self.experts_per_token, x_SE.shape[1])
        return (results_SKE * routing.weights_SK[..., None].to(results.dtype)).sum(dim=1)


class MultiHeadMixture(nn.Module):
    """MH-MoE (arXiv 2404.15045, section 3): tokens are split in sub-tokens, each is routed alone, and merged again.

    ``mixture`` works on vectors of hidden_size / num_heads. Sub-tokens of a token are neighbours.
    """

    def __init__(self, hidden_size: int, num_heads: int, mixture: MixtureOfExperts) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"num_heads {num_heads} does not divide hidden_size {hidden_size}")
        self.num_heads = num_heads
        self.split = nn.Linear(hidden_size, hidden_size)
        self.mixture = mixture
        self.merge = nn.Linear(hidden_size, hidden_size)
        nn.init.xavier_uniform_(self.split.weight, gain=2**-0.5)
        nn.init.xavier_uniform_(self.merge.weight)
        nn.init.zeros_(self.split.bias)
        nn.init.zeros_(self.merge.bias)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(..., E) -> the same shape, and the balance loss () over sub-tokens."""
        parts = self.split(x).unflatten(-1, (self.num_heads, -1))
        if valid is not None:
            valid = valid[..., None].expand(parts.shape[:-1])
        mixed, balance = self.mixture(parts, valid)
        return self.merge(mixed.flatten(-2)), balance


def _normalized(weights_SK: Tensor) -> Tensor:
    total = weights_SK.sum(dim=-1, keepdim=True)
    return weights_SK / total.clamp(min=torch.finfo(weights_SK.dtype).eps)
