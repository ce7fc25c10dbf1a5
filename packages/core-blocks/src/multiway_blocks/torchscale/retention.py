"""RetNet's retention in the three forms of TorchScale (RetNet, arXiv 2307.08621, section 2 and its figures 2 and 3).

All give, for each head and row, the same vector

    o_n = sum over m <= n of  decay^(n - m) (q_n . k_m) v_m

times one positive factor a row, by which they keep numbers small. The norm of each head behind them undoes the factor
but for its eps, so the forms agree where activations are large against sqrt(eps) and drift apart where they are not
(README). `multiway_blocks.retention` has the forms without the factors, which agree.

Shape suffixes: B batch, T tokens, H heads, K key width of a head, V value width of a head, E hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from multiway_blocks import retention
from multiway_blocks.retention import Retention, RetentionRotary, retnet_log_decays
from multiway_blocks.torchscale.names import Published
from multiway_blocks.transformer import Context


class RetNetRelPos(RetentionRotary):
    """Rotary positions and decays, one for all layers; both tables are part of the checkpoint."""

    angle: Tensor
    decay: Tensor

    def __init__(self, args: Any) -> None:
        heads = args.decoder_retention_heads
        super().__init__(args.decoder_embed_dim // heads)
        frequencies = self._buffers.pop("inverse_frequency")
        assert frequencies is not None
        self.register_buffer("angle", frequencies.repeat_interleave(2))
        self.register_buffer("decay", retnet_log_decays(heads).float())

    @property
    def inverse_frequency(self) -> Tensor:  # type: ignore[override]
        """One frequency a pair."""
        return self.angle[::2]


class MultiScaleRetention(
    Published,
    Retention,
    names={"query": "q_proj", "key": "k_proj", "value": "v_proj", "gate": "g_proj", "output": "out_proj"},
):
    """Retention with TorchScale's names and its dictionaries for decoding token by token."""

    rel_pos: RetNetRelPos

    def __init__(self, args: Any) -> None:
        super().__init__(
            args.decoder_embed_dim,
            args.decoder_retention_heads,
            value_size=args.decoder_value_embed_dim,
            eps=args.layernorm_eps,
            chunk=args.recurrent_chunk_size,
        )
        self.chunkwise_recurrent, self.normalizer = args.chunkwise_recurrent, args.retnet_normalizer

    def forward(self, x_BTE: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, E). The layer's dictionary in the cache, if any, takes the new tokens."""
        positions_BT, rel_pos = context.positions_BT, self.rel_pos
        assert positions_BT is not None
        q, k, v = (_wide(x) for x in self.project(x_BTE, positions_BT, rel_pos))
        if context.cache is not None:
            o = recurrent_form(q, k, v, rel_pos.decay, context.cache.of_layer(layer))
        elif self.chunkwise_recurrent:
            o = chunkwise_form(q, k, v, rel_pos.decay, self.chunk)
        else:
            o = parallel_form(q, k, v, rel_pos.decay, self.normalizer)
        return self.finish(o, x_BTE)


def parallel_form(
    q_BHTK: Tensor, k_BHTK: Tensor, v_BHTV: Tensor, log_decay_H: Tensor, normalizer: str
) -> Tensor:
    """All tokens at once: (B, H, T, V).

    A row is divided by the root of its decays' sum (equation 7) and by the sum of its weights where that is above 1:
    its absolute value ("abs_sum"), or the sum of their absolute values, at most 5e4 ("sum_abs").
    """
    decay_HTT = _decays(log_decay_H, q_BHTK.shape[2])
    weights = (q_BHTK @ k_BHTK.transpose(-1, -2)) * (decay_HTT * decay_HTT.sum(-1, keepdim=True).rsqrt())
    if normalizer == "abs_sum":
        size = weights.detach().sum(-1, keepdim=True).abs().clamp(min=1)
    else:
        size = weights.detach().abs().sum(-1, keepdim=True).clamp(min=1, max=5e4)
    return (weights / size) @ v_BHTV


def recurrent_form(
    q_BHTK: Tensor, k_BHTK: Tensor, v_BHTV: Tensor, log_decay_H: Tensor, state: dict[str, Tensor]
) -> Tensor:
    """New tokens behind a state, usually one: (B, H, T, V). An empty state takes a prompt of any length.

    The state is ``prev_key_value`` (B, H, V, K), divided by the root of ``scale`` (H,), the sum of decays so far.
    """
    log_decay_BHT = log_decay_H[None, :, None].expand(*q_BHTK.shape[:3])
    before_H = state["scale"] if "scale" in state else torch.zeros_like(log_decay_H)
    matrix = None
    if "prev_key_value" in state:
        matrix = state["prev_key_value"].transpose(-1, -2) * before_H.sqrt()[:, None, None]
    if q_BHTK.shape[2] == 1 and matrix is not None:
        one, matrix = retention.recurrent(
            q_BHTK[:, :, 0], k_BHTK[:, :, 0], v_BHTV[:, :, 0], log_decay_BHT[:, :, 0], matrix
        )
        o = one[:, :, None]
    else:
        o, matrix = retention.chunkwise(q_BHTK, k_BHTK, v_BHTV, log_decay_BHT, matrix)
    steps_T = torch.arange(q_BHTK.shape[2], device=q_BHTK.device)
    sums_HT = (log_decay_H[:, None] * steps_T).exp().cumsum(dim=-1)
    scale_HT = before_H[:, None] * (log_decay_H[:, None] * (steps_T + 1)).exp() + sums_HT
    state["scale"] = scale_HT[:, -1]
    state["prev_key_value"] = matrix.transpose(-1, -2) * state["scale"].rsqrt()[:, None, None]
    return o * scale_HT.rsqrt()[..., None]


def chunkwise_form(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTV: Tensor, log_decay_H: Tensor, chunk: int) -> Tensor:
    """Parallel inside chunks, a state between them: (B, H, T, V).

    The state is an average (its weights sum to 1 in a full chunk). A row is divided by the root of its decays' sum
    within the chunk, and by the larger of two sizes: its weights' absolute sum there, and the state's largest column.
    """
    decay_HCC = _decays(log_decay_H, chunk)
    last_H1 = decay_HCC[:, -1]  # decays to the end of a full chunk
    full_H11 = last_H1.sum(-1)[:, None, None]
    root_HC1 = decay_HCC.sum(-1, keepdim=True).sqrt()
    enters_HC1 = (
        log_decay_H[:, None, None] * torch.arange(1, chunk + 1, device=q_BHTK.device)[:, None]
    ).exp()
    state = q_BHTK.new_zeros(*q_BHTK.shape[:2], q_BHTK.shape[-1], v_BHTV.shape[-1])
    state_size = state.new_ones(*state.shape[:2], 1, 1)
    results = []
    for q, k, v in zip(*(x.split(chunk, dim=2) for x in (q_BHTK, k_BHTK, v_BHTV)), strict=True):
        tokens = q.shape[2]
        root = root_HC1[:, :tokens]
        weights = (q @ k.transpose(-1, -2)) * decay_HCC[:, :tokens, :tokens] / root
        size = torch.maximum(weights.detach().abs().sum(-1, keepdim=True).clamp(min=1), state_size)
        crossing = (q * (enters_HC1[:, :tokens] * full_H11 / root)) @ state
        results.append((weights @ v + crossing) / size)
        if tokens == chunk:  # nothing follows a shorter one
            state = state * enters_HC1[:, -1:] + k.transpose(-1, -2) @ (v * (last_H1[..., None] / full_H11))
            state_size = state.detach().abs().sum(-2, keepdim=True).amax(-1, keepdim=True).clamp(min=1)
    return torch.cat(results, dim=2)


def _decays(log_decay_H: Tensor, tokens: int) -> Tensor:
    """decay^(n - m) where m <= n, else 0: (H, T, T)."""
    place = torch.arange(tokens, device=log_decay_H.device)
    return (log_decay_H[:, None, None] * (place[:, None] - place).clamp(min=0)).exp().tril()


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
