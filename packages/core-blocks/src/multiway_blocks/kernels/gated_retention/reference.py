"""Retention with decays of each token in plain PyTorch: the definition that all implementations meet.

    S_n = exp(a_n) S_{n-1} + k_n^T v_n,   o_n = q_n S_n

(RetNet, arXiv 2307.08621, section 2; gated retention of YOCO, arXiv 2405.05254, section 3.1), in three forms that
compute the same. Sums are in float32 at least, and so are results.

Shape suffixes: B batch, T tokens, H heads, K key width of a head, V value width of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def parallel(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTV: Tensor, log_decay_BHT: Tensor) -> Tensor:
    """All tokens at once, from an empty state: (B, H, T, V).

    The weight of token m for token n is exp(a_{m+1} + ... + a_n): a token's own decay does not touch its key.
    """
    q, k, v = wide(q_BHTK), wide(k_BHTK), wide(v_BHTV)
    total_BHT = wide(log_decay_BHT).cumsum(-1)
    return ((q @ k.transpose(-1, -2)) * _decays(total_BHT)) @ v


def recurrent(
    q_BHK: Tensor, k_BHK: Tensor, v_BHV: Tensor, log_decay_BH: Tensor, state_BHKV: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: its result (B, H, V) and the next state (B, H, K, V)."""
    q, k, v = wide(q_BHK), wide(k_BHK), wide(v_BHV)
    state = wide(log_decay_BH).exp()[..., None, None] * state_BHKV + k[..., :, None] * v[..., None, :]
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
    q, k, v = wide(q_BHTK), wide(k_BHTK), wide(v_BHTV)
    log_decay = wide(log_decay_BHT)
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


def backward(
    grad_BHTV: Tensor,
    grad_state_BHKV: Tensor,
    q_BHTK: Tensor,
    k_BHTK: Tensor,
    v_BHTV: Tensor,
    log_decay_BHT: Tensor,
    state_BHKV: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``chunkwise`` with respect to q, k, v, log-decays and the state before, in float32 at least.

    States are computed again and kept, one a chunk. With g the sums of log-decays from a chunk's start (l at its end),
    D_ij = exp(g_i - g_j) where j <= i, S before a chunk and dS behind it: dq = (dO V^T . D) K + e^g dO S^T; dK = (dO
    V^T . D)^T Q + e^(l - g) V dS^T; dV = (Q K^T . D)^T dO + e^(l - g) K dS; and dS before it = e^l dS + (e^g Q)^T dO.
    Everything depends on the decays through differences of their sums G over all tokens: dG_n = q_n dq_n - k_n dk_n,
    and what the last state adds to the last of them; da_n is the sum of dG_m over m >= n.
    """
    q, k, v, log_decay = wide(q_BHTK), wide(k_BHTK), wide(v_BHTV), wide(log_decay_BHT)
    grad, state = wide(grad_BHTV), wide(state_BHKV)
    parts = [slice(start, start + chunk) for start in range(0, q.shape[2], chunk)]
    states = []
    for part in parts:
        states.append(state)
        total = log_decay[:, :, part].cumsum(-1)
        last = total[:, :, -1:]
        kept = k[:, :, part] * (last - total).exp()[..., None]
        state = last.exp()[..., None] * state + kept.transpose(-1, -2) @ v[:, :, part]
    grad_state = wide(grad_state_BHKV)
    at_end_BH = (grad_state * state).sum((-1, -2))
    grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    for part, before in zip(reversed(parts), reversed(states), strict=True):
        q_part, k_part, v_part, grad_part = q[:, :, part], k[:, :, part], v[:, :, part], grad[:, :, part]
        total = log_decay[:, :, part].cumsum(-1)
        last, decays = total[:, :, -1:], _decays(total)
        rising, falling = total.exp()[..., None], (last - total).exp()[..., None]
        inside = (grad_part @ v_part.transpose(-1, -2)) * decays
        scores = (q_part @ k_part.transpose(-1, -2)) * decays
        grad_q[:, :, part] = inside @ k_part + rising * (grad_part @ before.transpose(-1, -2))
        grad_k[:, :, part] = inside.transpose(-1, -2) @ q_part + falling * (
            v_part @ grad_state.transpose(-1, -2)
        )
        grad_v[:, :, part] = scores.transpose(-1, -2) @ grad_part + falling * (k_part @ grad_state)
        grad_state = last.exp()[..., None] * grad_state + (rising * q_part).transpose(-1, -2) @ grad_part
    sums = (q * grad_q - k * grad_k).sum(-1)
    grad_decay = sums.flip(-1).cumsum(-1).flip(-1) + at_end_BH[..., None]
    return grad_q, grad_k, grad_v, grad_decay, grad_state


def wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _decays(total_BHT: Tensor) -> Tensor:
    """exp(total_n - total_m) where m <= n, else 0: (B, H, T, T)."""
    difference = total_BHT[..., :, None] - total_BHT[..., None, :]
    tokens = total_BHT.shape[-1]
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=total_BHT.device).triu(1)
    return difference.masked_fill(later, -math.inf).exp()  # masked before: the exponent would overflow there
