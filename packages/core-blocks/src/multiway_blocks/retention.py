"""Retention: attention without softmax, whose past is one matrix a head (RetNet, arXiv 2307.08621, section 2; gated
retention of YOCO, arXiv 2405.05254, section 3.1).

    S_n = exp(a_n) S_{n-1} + k_n^T v_n,   o_n = q_n S_n

with log-decays a_n <= 0: one number a head for RetNet, one a head and token for gated retention. Three forms compute
the same: parallel (T x T matrices, as attention), chunkwise (parallel inside chunks, the state between them) and
recurrent (one token). Sums are in float32 at least.

Shape suffixes: B batch, T tokens, H heads, K key width of a head, V value width of a head, E hidden size.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from multiway_blocks.linear import Linear
from multiway_blocks.position import Rotary


def parallel(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTV: Tensor, log_decay_BHT: Tensor) -> Tensor:
    """All tokens at once, from an empty state: (B, H, T, V).

    The weight of token m for token n is exp(a_{m+1} + ... + a_n): a token's own decay does not touch its key.
    """
    q, k, v = _wide(q_BHTK), _wide(k_BHTK), _wide(v_BHTV)
    total_BHT = _wide(log_decay_BHT).cumsum(-1)
    return ((q @ k.transpose(-1, -2)) * _decays(total_BHT)) @ v


def recurrent(
    q_BHK: Tensor, k_BHK: Tensor, v_BHV: Tensor, log_decay_BH: Tensor, state_BHKV: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: its result (B, H, V) and the next state (B, H, K, V)."""
    q, k, v = _wide(q_BHK), _wide(k_BHK), _wide(v_BHV)
    state = _wide(log_decay_BH).exp()[..., None, None] * state_BHKV + k[..., :, None] * v[..., None, :]
    return (q[..., None, :] @ state)[..., 0, :], state


def chunkwise(
    q_BHTK: Tensor,
    k_BHTK: Tensor,
    v_BHTV: Tensor,
    log_decay_BHT: Tensor,
    state_BHKV: Tensor | None = None,
    *,
    chunk: int = 128,
) -> tuple[Tensor, Tensor]:
    """Tokens behind a state (None: empty), ``chunk`` at a time: (B, H, T, V) and the next state (B, H, K, V)."""
    q, k, v = _wide(q_BHTK), _wide(k_BHTK), _wide(v_BHTV)
    log_decay = _wide(log_decay_BHT)
    state = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1]) if state_BHKV is None else state_BHKV
    results = []
    for start in range(0, q.shape[2], chunk):
        part = slice(start, start + chunk)
        q_part, k_part, v_part = q[:, :, part], k[:, :, part], v[:, :, part]
        total = log_decay[:, :, part].cumsum(-1)
        inside = ((q_part @ k_part.transpose(-1, -2)) * _decays(total)) @ v_part
        before = (q_part * total.exp()[..., None]) @ state
        results.append(inside + before)
        last = total[:, :, -1:]
        kept = k_part * (last - total).exp()[..., None]
        state = last.exp()[..., None] * state + kept.transpose(-1, -2) @ v_part
    return torch.cat(results, dim=2) if results else v, state


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


class Retention(nn.Module):
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

    def forward(
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
        if tokens == 1 and matrix is not None:
            one, matrix = recurrent(q[:, :, 0], k[:, :, 0], v[:, :, 0], log_decay[:, :, 0], matrix)
            o = one[:, :, None]
        else:
            o, matrix = chunkwise(q, k, v, log_decay, matrix, chunk=self.chunk)
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
            return nn.functional.logsigmoid(_wide(self.decay(x_BTE))).transpose(1, 2) / self.GATE_TEMPERATURE
        wide = torch.promote_types(x_BTE.dtype, torch.float32)
        log_decay_H = retnet_log_decays(self.num_heads).to(x_BTE.device, wide)
        return log_decay_H[None, :, None].expand(len(x_BTE), -1, x_BTE.shape[1])

    def _inverse_roots(self, positions_BT: Tensor) -> Tensor:
        """1 / sqrt(1 + decay + ... + decay^position): (B, H, T)."""
        log_decay = retnet_log_decays(self.num_heads).to(positions_BT.device)[None, :, None]
        total = torch.expm1(log_decay * (positions_BT[:, None] + 1)) / torch.expm1(log_decay)
        return total.rsqrt().to(torch.promote_types(self.query.weight.dtype, torch.float32))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _decays(total_BHT: Tensor) -> Tensor:
    """exp(total_n - total_m) where m <= n, else 0: (B, H, T, T)."""
    difference = total_BHT[..., :, None] - total_BHT[..., None, :]
    tokens = total_BHT.shape[-1]
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=total_BHT.device).triu(1)
    return difference.masked_fill(later, -math.inf).exp()  # masked before: the exponent would overflow there
