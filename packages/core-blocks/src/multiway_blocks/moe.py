"""Mixture of experts: gates, routing, and dispatch without dropped tokens (GShard, arXiv 2006.16668, section 3).

A token's k experts are found by its gate; the (token, expert) pairs are sorted by expert, so that each expert
multiplies one contiguous block of rows, and the results go back to their tokens. Nothing has the size tokens x experts
x capacity, and no token is dropped unless a capacity is asked for.

Shape suffixes: S tokens, K experts a token, N experts, R = S K sorted pairs, E hidden size, I inner size.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from multiway_blocks.feedforward import Activation
from multiway_blocks.kernels.moe_feedforward import has_kernel, moe_feedforward
from multiway_blocks.kernels.moe_feedforward.reference import ACTIVATIONS
from multiway_blocks.transformer import Context, Contextual

_MIN_GATE_NORM = 1e-4

SecondPolicy = Literal["all", "random", "sampling"]
"""What becomes of choices behind the first: see :func:`route`."""


class Routing(NamedTuple):
    """Where tokens go."""

    experts_SK: Tensor
    """int64, the likeliest first."""
    weights_SK: Tensor
    """What each expert's result counts; 0 for a pair that was dropped."""
    balance_loss: Tensor
    """()."""
    kept_SK: Tensor | None = None
    """bool, False for a pair that was dropped and need not be computed; None: all are kept."""


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
    second: SecondPolicy = "all",
) -> Routing:
    """Choose each token's experts: the largest of softmax(logits).

    second: "all" keeps every choice; "random" drops those behind the first at random, a choice of weight w staying with
    a probability of 2 w (GShard, algorithm 1); "sampling" draws them from the softmax instead of taking the largest.

    normalize: a token's weights sum to 1 (else they are its probabilities). A single choice keeps its probability all
    the same, as in Switch and TorchScale: made 1, it would leave the gate no gradient but that of the balance loss.
    capacity: most tokens of one expert, in the order of first choices of all tokens, then second choices; what comes
    later is dropped. With ``normalize_before_dropping=False`` the weights that are left sum to 1.

    The loss is N times the sum over experts of (mean probability) x (share of first choices), 1 at balance.
    """
    probabilities_SN = logits_SN.softmax(dim=-1)
    weights_SK, experts_SK = probabilities_SN.topk(experts_per_token, dim=-1)
    num_experts = logits_SN.shape[1]
    normalize = normalize and experts_per_token > 1
    if second == "sampling":
        experts_SK = _sampled(logits_SN.detach(), experts_SK)
        weights_SK = probabilities_SN.gather(1, experts_SK)
    if normalize and normalize_before_dropping:
        weights_SK = _normalized(weights_SK)
    kept_SK = None
    if second == "random":
        kept_SK = torch.ones_like(experts_SK, dtype=torch.bool)
        for choice in range(1, experts_per_token):
            kept_SK[:, choice] = 2 * weights_SK[:, choice] > torch.rand(
                len(weights_SK), dtype=weights_SK.dtype, device=weights_SK.device
            )
    if capacity is not None:
        within_SK = places(experts_SK, num_experts, kept_SK) < capacity
        kept_SK = within_SK if kept_SK is None else kept_SK & within_SK
    if kept_SK is not None:
        weights_SK = weights_SK * kept_SK
    if normalize and not normalize_before_dropping:
        weights_SK = _normalized(weights_SK)
    first = nn.functional.one_hot(experts_SK[:, 0], num_experts).to(probabilities_SN.dtype)
    tokens = max(1, len(logits_SN))
    balance = num_experts * (probabilities_SN.sum(dim=0) / tokens * first.sum(dim=0) / tokens).sum()
    return Routing(experts_SK, weights_SK, balance, kept_SK)


def _sampled(logits_SN: Tensor, experts_SK: Tensor) -> Tensor:
    """Choices behind the first drawn without replacement, by noise of a Gumbel distribution on the logits."""
    noise_SN = torch.rand_like(logits_SN).clamp(min=torch.finfo(logits_SN.dtype).tiny)
    noisy_SN = logits_SN - (-noise_SN.log()).log()
    first_S1 = experts_SK[:, :1]
    noisy_SN = noisy_SN.scatter(1, first_S1, -math.inf)
    return torch.cat([first_S1, noisy_SN.topk(experts_SK.shape[1] - 1, dim=-1).indices], dim=1)


def places(experts_SK: Tensor, num_experts: int, kept_SK: Tensor | None = None) -> Tensor:
    """Int64 (S, K): how many pairs of the same expert come before each; first choices of all tokens come first.

    Pairs that are not kept take no place; theirs count among themselves.
    """
    tokens, choices = experts_SK.shape
    if kept_SK is not None:
        experts_SK = experts_SK.masked_fill(~kept_SK, num_experts)
        num_experts += 1
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

    def forward(self, x_RE: Tensor, counts_N: Tensor) -> Tensor:
        """Rows sorted by expert, int64 counts of each (N,): (R, E) -> (R, E)."""
        name = next((name for name, function in ACTIVATIONS.items() if function is self.activation), None)
        # To run on a GPU; on a CPU nothing beats products of one expert each, and training keeps what lies between.
        if name is not None and not torch.is_grad_enabled() and has_kernel(x_RE):
            return moe_feedforward(
                x_RE,
                counts_N,
                self.up,
                self.down,
                activation=name,
                gated=self.gated,
                up_bias=self.up_bias,
                down_bias=self.down_bias,
            )
        inner = grouped_linear(x_RE, self.up, self.up_bias, counts_N)
        if self.gated:
            gate, inner = inner.chunk(2, dim=-1)
            inner = self.activation(gate) * inner
        else:
            inner = self.activation(inner)
        return grouped_linear(inner, self.down, self.down_bias, counts_N)


def grouped_linear(x_RI: Tensor, weight_NOI: Tensor, bias_NO: Tensor | None, counts_N: Tensor) -> Tensor:
    """``x weight[n]^T + bias[n]`` for the rows of each group n, which stand together: (R, I) -> (R, O).

    counts: int64 (N,), rows of each group, R together. On GPUs it is one call, and nobody waits for the device.
    """
    if _in_one_call(x_RI, weight_NOI):
        ends_N = counts_N.cumsum(0, dtype=torch.int32)
        product = nn.functional.grouped_mm(x_RI, weight_NOI.transpose(1, 2), offs=ends_N)
        if bias_NO is None:
            return product
        group_R = torch.searchsorted(ends_N, torch.arange(len(x_RI), device=x_RI.device), right=True)
        return product + bias_NO[group_R.clamp(max=len(bias_NO) - 1)]
    parts = []
    for index, rows in enumerate(x_RI.split(counts_N.tolist())):
        if len(rows):
            bias = None if bias_NO is None else bias_NO[index]
            parts.append(nn.functional.linear(rows, weight_NOI[index], bias))
    return torch.cat(parts) if parts else x_RI.new_zeros(0, weight_NOI.shape[1])


def _in_one_call(x: Tensor, weight: Tensor) -> bool:
    """Whether ``grouped_mm`` takes them: bfloat16 on a GPU from sm_80, rows of whole 16 bytes.

    On CPUs it is a loop over groups as well, and slower than ours for some sizes (benchmarks/core_blocks/kernels.py).
    """
    fits = x.is_cuda and x.dtype == weight.dtype == torch.bfloat16
    return fits and x.shape[-1] % 8 == 0 and weight.shape[1] % 8 == 0


class ExpertList(nn.ModuleList):
    """Experts of any kind, one module each: sorted rows go through them in turn, as in :class:`Experts`."""

    def forward(self, x_RE: Tensor, counts_N: Tensor) -> Tensor:
        """Rows sorted by expert, int64 counts of each (N,): (R, E) -> (R, E)."""
        split = x_RE.split(counts_N.tolist())
        parts = [expert(rows) for expert, rows in zip(self, split, strict=True) if len(rows)]
        return torch.cat(parts) if parts else x_RE.new_zeros(x_RE.shape)


class MixtureOfExperts(Contextual):
    """A gate, its experts, and the way there and back.

    Args:
        gate: (S, E) -> logits (S, N).
        experts: sorted rows (R, E) and their counts (N,) -> (R, E).
        num_experts: N.
        experts_per_token: K.
        capacity_factor: of S K / N tokens an expert takes at most; None drops none.
        eval_capacity_fraction: outside training an expert takes this share of all tokens at most, rather than that.
        normalize, normalize_before_dropping, second: see :func:`route`.
    """

    def __init__(
        self,
        gate: nn.Module,
        experts: nn.Module,
        num_experts: int,
        *,
        experts_per_token: int = 2,
        capacity_factor: float | None = None,
        eval_capacity_fraction: float | None = None,
        normalize: bool = True,
        normalize_before_dropping: bool = True,
        second: SecondPolicy = "all",
    ) -> None:
        super().__init__()
        if not 1 <= experts_per_token <= num_experts:
            raise ValueError(f"experts_per_token must be 1 to {num_experts}, not {experts_per_token}")
        if capacity_factor is not None and capacity_factor <= 0:
            raise ValueError(f"capacity_factor must be above 0, not {capacity_factor}")
        if eval_capacity_fraction is not None and not 0 < eval_capacity_fraction <= 1:
            raise ValueError(
                f"eval_capacity_fraction must be above 0 and at most 1, not {eval_capacity_fraction}"
            )
        self.gate = gate
        self.experts = experts
        self.num_experts = num_experts
        self.experts_per_token = experts_per_token
        self.capacity_factor, self.eval_capacity_fraction = capacity_factor, eval_capacity_fraction
        self.normalize, self.normalize_before_dropping = normalize, normalize_before_dropping
        self.second: SecondPolicy = second

    def forward(self, x: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(..., E) -> the same shape. ``context.losses[layer]`` becomes the balance loss ().

        Where ``context.valid_BT`` (...) is False: zeros, unrouted.
        """
        valid = context.valid_BT
        if valid is not None and bool(valid.all()):
            valid = None
        rows_SE = x.reshape(-1, x.shape[-1]) if valid is None else x[valid]
        routing = route(
            self.gate(rows_SE),
            self.experts_per_token,
            normalize=self.normalize,
            normalize_before_dropping=self.normalize_before_dropping,
            capacity=self.capacity(len(rows_SE)),
            second=self.second,
        )
        context.losses[layer] = routing.balance_loss
        y_SE = self._dispatch(rows_SE, routing)
        if valid is None:
            return y_SE.view(x.shape)
        y = torch.zeros_like(x)
        y[valid] = y_SE.to(x.dtype)
        return y

    def capacity(self, tokens: int) -> int | None:
        """How many of ``tokens`` one expert takes at most, or None."""
        if self.eval_capacity_fraction is not None and not self.training:
            return max(1, math.ceil(self.eval_capacity_fraction * tokens))
        if self.capacity_factor is None:
            return None
        share = -(-tokens // self.num_experts)
        return max(1, round(self.capacity_factor * self.experts_per_token * share))

    def _dispatch(self, x_SE: Tensor, routing: Routing) -> Tensor:
        flat = routing.experts_SK.reshape(-1)
        if routing.kept_SK is not None:
            flat = flat.masked_fill(
                ~routing.kept_SK.reshape(-1), self.num_experts
            )  # behind all experts' pairs
        # Sums of ones rather than `bincount`, which waits for a GPU to know how many groups there are.
        counts_N = flat.new_zeros(self.num_experts + 1).scatter_add(0, flat, torch.ones_like(flat))[:-1]
        order_R = flat.argsort(stable=True)
        if routing.kept_SK is not None:  # only then does the number of pairs depend on the gate
            order_R = order_R[: int(counts_N.sum())]
        sorted_RE = self.experts(x_SE[order_R // self.experts_per_token], counts_N)
        # Back in the order of the tokens, so that sums are taken in one order: the same bits at every run.
        results = sorted_RE.new_zeros(len(flat), x_SE.shape[1]).index_copy(0, order_R, sorted_RE)
        results_SKE = results.view(len(x_SE), self.experts_per_token, x_SE.shape[1])
        return (results_SKE * routing.weights_SK[..., None].to(results.dtype)).sum(dim=1)


class MultiHeadMixture(Contextual):
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

    def forward(self, x: Tensor, context: Context, layer: int = 0) -> Tensor:
        """As :class:`MixtureOfExperts`; the balance loss is over sub-tokens."""
        parts, valid = self.split(x).unflatten(-1, (self.num_heads, -1)), context.valid_BT
        if valid is not None:
            valid = valid[..., None].expand(parts.shape[:-1])
        mixed = self.mixture(parts, Context(valid_BT=valid, losses=context.losses), layer)
        return self.merge(mixed.flatten(-2))


def _normalized(weights_SK: Tensor) -> Tensor:
    total = weights_SK.sum(dim=-1, keepdim=True)
    return weights_SK / total.clamp(min=torch.finfo(weights_SK.dtype).eps)
