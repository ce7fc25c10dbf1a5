"""Retention: attention without softmax, whose past is one matrix a head (RetNet, arXiv 2307.08621, section 2; gated
retention of YOCO, arXiv 2405.05254, section 3.1).

    S_n = exp(a_n) S_{n-1} + k_n^T v_n,   o_n = q_n S_n

with log-decays a_n <= 0: one number a head for RetNet, one a head and token for gated retention. Three forms compute
the same: parallel (T x T matrices, as attention), chunkwise (parallel inside chunks, the state between them) and
recurrent (one token). Sums are in float32 at least.

Shape suffixes: B batch, T tokens, H heads, K key width of a head, V value width of a head, E hidden size.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from multiway_blocks.kernels.gated_retention import gated_retention
from multiway_blocks.kernels.gated_retention.reference import chunkwise, parallel, recurrent, wide
from multiway_blocks.linear import Linear
from multiway_blocks.position import Rotary
from multiway_blocks.transformer import Context, Contextual

__all__ = [
    "Retention",
    "RetentionRotary",
    "RetentionState",
    "chunkwise",
    "parallel",
    "recurrent",
    "retnet_log_decays",
]


def retnet_log_decays(num_heads: int) -> Tensor:
    """RetNet's decays, log(1 - 2^(-5 - h)): float64 (H,)."""
    return torch.log1p(-(2.0 ** (-5.0 - torch.arange(num_heads, dtype=torch.float64))))


class RetentionRotary(Rotary):
    """Rotary positions with the frequencies of the released codes, whose last is 1 / theta; pairs interleaved."""

    def __init__(self, head_dim: int, *, theta: float = 10_000.0) -> None:
        super().__init__(head_dim, theta=theta, interleaved=True)
        with torch.device("cpu"):
            self.inverse_frequency = theta ** -torch.linspace(0, 1, head_dim // 2)


class RetentionState(NamedTuple):
    """What a layer keeps of the past, whatever its length."""

    matrix_BHKV: Tensor
    count_B: Tensor
    """int64, real tokens so far."""


class Retention(Contextual):
    """``output(swish(gate(x)) * norm(retention(x)))``, the norm an RMSNorm of each head, without weights.

    Args:
        hidden_size: E; also the width of all keys together.
        num_heads: H.
        value_size: width of all values together; E by default.
        decay: "retnet", one a head, and results divided by the root of the sum of decays (RetNet, equation 7); or
            "gated", logsigmoid(x W) / 16 of each token (YOCO, equation 4).
        theta: of the rotary positions.
        eps: of the norm. RetNet's released parallel form scales rows once more, which the norm undoes up to eps.
        chunk: tokens that are computed in the parallel form.
    """

    GATE_TEMPERATURE = 16.0

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        value_size: int | None = None,
        decay: Literal["retnet", "gated"] = "retnet",
        theta: float = 10_000.0,
        eps: float = 1e-6,
        chunk: int = 128,
    ) -> None:
        super().__init__()
        value_size = value_size or hidden_size
        for name, size in (("hidden_size", hidden_size), ("value_size", value_size)):
            if size % num_heads:
                raise ValueError(f"{name} {size} is not divisible by num_heads {num_heads}")
        if chunk < 1:
            raise ValueError(f"chunk must be at least 1, not {chunk}")
        self.num_heads, self.eps, self.chunk = num_heads, eps, chunk
        self.query = Linear(hidden_size, hidden_size, bias=False)
        self.key = Linear(hidden_size, hidden_size, bias=False)
        self.value = Linear(hidden_size, value_size, bias=False)
        self.gate = Linear(hidden_size, value_size, bias=False)
        self.output = Linear(value_size, hidden_size, bias=False)
        self.decay = Linear(hidden_size, num_heads, bias=False) if decay == "gated" else None
        self.rotary = RetentionRotary(hidden_size // num_heads, theta=theta)
        for linear in (self.query, self.key, self.value, self.gate, *([self.decay] if self.decay else [])):
            nn.init.xavier_uniform_(linear.weight, gain=2**-2.5)
        nn.init.xavier_uniform_(self.output.weight)

    def forward(self, x_BTE: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, E), behind the layer's state in ``context.cache``, which takes the next one."""
        cache = context.cache
        y_BTE, state = self.retain(x_BTE, None if cache is None else cache.states[layer], context.valid_BT)
        if cache is not None:
            cache.states[layer] = state
        return y_BTE

    def retain(
        self, x_BTE: Tensor, state: RetentionState | None = None, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, RetentionState]:
        """Tokens behind a state (None: none before): (B, T, E), and the next state.

        ``valid`` (B, T) bool is False at padding on the left, which leaves the state as it is.
        """
        batch, tokens, _ = x_BTE.shape
        if valid_BT is None:
            valid_BT = x_BTE.new_ones(batch, tokens, dtype=torch.bool)
        counts_BT = valid_BT.cumsum(dim=1)
        if state is not None:
            counts_BT = counts_BT + state.count_B[:, None]
        positions_BT = (counts_BT - 1).clamp(min=0)
        q, k, v = self.project(x_BTE, positions_BT, self.rotary)
        k = k * valid_BT[:, None, :, None]
        log_decay = self._log_decays(x_BTE) * valid_BT[:, None]
        matrix = None if state is None else state.matrix_BHKV
        o, matrix = gated_retention(q, k, v, log_decay, matrix, chunk=self.chunk)
        if self.decay is None:
            o = o * self._inverse_roots(positions_BT)[..., None]
        return self.finish(o, x_BTE), RetentionState(matrix, counts_BT[:, -1])

    def project(self, x_BTE: Tensor, positions_BT: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys (B, H, T, K), keys divided by the root of their width, and values (B, H, T, V)."""
        q = rotary(self._heads(self.query(x_BTE)), positions_BT)
        k = rotary(self._heads(self.key(x_BTE)), positions_BT)
        return q, k * (k.shape[-1] ** -0.5), self._heads(self.value(x_BTE))

    def finish(self, o_BHTV: Tensor, x_BTE: Tensor) -> Tensor:
        """Norm of each head, gate and output map of what was retained: (B, T, E)."""
        o_BHTV = o_BHTV * torch.rsqrt(o_BHTV.square().mean(-1, keepdim=True) + self.eps)
        mixed_BTV = o_BHTV.transpose(1, 2).flatten(2).to(x_BTE.dtype)
        return self.output(nn.functional.silu(self.gate(x_BTE)) * mixed_BTV)

    def _heads(self, x_BTE: Tensor) -> Tensor:
        return x_BTE.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _log_decays(self, x_BTE: Tensor) -> Tensor:
        """(B, H, T) in float32 at least."""
        if self.decay is not None:
            return nn.functional.logsigmoid(wide(self.decay(x_BTE))).transpose(1, 2) / self.GATE_TEMPERATURE
        dtype = torch.promote_types(x_BTE.dtype, torch.float32)
        log_decay_H = retnet_log_decays(self.num_heads).to(x_BTE.device, dtype)
        return log_decay_H[None, :, None].expand(len(x_BTE), -1, x_BTE.shape[1])

    def _inverse_roots(self, positions_BT: Tensor) -> Tensor:
        """1 / sqrt(1 + decay + ... + decay^position): (B, H, T)."""
        log_decay = retnet_log_decays(self.num_heads).to(positions_BT.device)[None, :, None]
        total = torch.expm1(log_decay * (positions_BT[:, None] + 1)) / torch.expm1(log_decay)
        return total.rsqrt().to(torch.promote_types(self.query.weight.dtype, torch.float32))
