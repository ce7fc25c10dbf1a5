"""Dilated attention (LongNet, Ding et al. 2023, section 2.2): cost grows linearly with the number of tokens.

Shape suffixes: B batch, H heads, N tokens, D head dim; inside a branch S segments, M kept tokens of a segment,
R dilation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from multiway_blocks.attention import Attention
from multiway_blocks.position import Rotary

MISSING = -1e8  # log-sum-exp of a token that a branch does not cover
_QUERIES_AT_ONCE = 1024  # bounds the memory of scores


class DilatedAttention(Attention):
    """Self-attention whose heads look at every R-th token of segments; see :func:`dilated_attend`.

    Names and shapes of the weights are those of :class:`multiway_blocks.attention.Attention`. Positions (rotary, xPos)
    are those of the whole sequence.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        branches: Sequence[tuple[int, int]],
        *,
        causal: bool = False,
        strict: bool = False,
        bias: bool = True,
        rotary: Rotary | None = None,
        sub_norm: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(hidden_size, num_heads, bias=bias, rotary=rotary, sub_norm=sub_norm, eps=eps)
        self.branches, self.causal, self.strict = list(branches), causal, strict

    def forward(self, x_BNE: Tensor) -> Tensor:  # type: ignore[override]
        """(B, N, E) -> (B, N, E)."""
        query_BHND, key_BHND, value_BHND = (
            self._heads(part(x_BNE), self.num_heads) for part in (self.query, self.key, self.value)
        )
        if self.rotary is not None:
            positions_1N = torch.arange(x_BNE.shape[1], device=x_BNE.device)[None]
            query_BHND = self.rotary(query_BHND, positions_1N)
            key_BHND = self.rotary.keys(key_BHND, positions_1N)
        mixed_BHND = dilated_attend(
            query_BHND, key_BHND, value_BHND, self.branches, causal=self.causal, strict=self.strict
        )
        return self.output(self.norm(mixed_BHND.transpose(1, 2).flatten(2)))


def dilated_attend(
    query_BHND: Tensor,
    key_BHND: Tensor,
    value_BHND: Tensor,
    branches: Sequence[tuple[int, int]],
    *,
    causal: bool = False,
    strict: bool = False,
) -> Tensor:
    """Attention within segments, over every R-th token of them, mixed over several (segment length, R): (B, H, N, D).

    A branch ``(w, R)`` cuts the tokens into segments of ``min(w, N)``; head ``h`` keeps the tokens
    ``o, o + R, o + 2R, ...`` of each, ``o = h // ceil(H / R)``, and these attend to each other. Branches are weighted
    by their softmax denominators, which gives one softmax over all keys seen (a key seen twice counts twice); no
    gradient flows through the weights (the released code; the paper's equation 10).

    Args:
        branches: (segment length, dilation) each; one of them needs dilation 1, or tokens would be left out.
        causal: a token sees only the kept tokens of its segment up to itself.
        strict: as the released code, for weights that were trained with it: the zeros that fill the last segment
            take part as keys, and a log-sum-exp of exactly 0 is taken for a missing one. Otherwise filling is masked.

    Raises ValueError for branches that leave tokens out or are not positive.
    """
    if any(length < 1 or dilation < 1 for length, dilation in branches):
        raise ValueError(f"segment lengths and dilations must be at least 1, got {list(branches)}")
    if all(dilation != 1 for _, dilation in branches):
        raise ValueError(f"one branch needs dilation 1, got {list(branches)}")
    outputs, weights = [], []
    for length, dilation in branches:
        branch = _Branch(query_BHND.shape[1], query_BHND.shape[2], length, dilation)
        mixed_BHND, lse_BHN = branch.attend(query_BHND, key_BHND, value_BHND, causal, strict)
        outputs.append(mixed_BHND)
        weights.append(lse_BHN)
    shares = torch.stack(weights).softmax(dim=0).to(query_BHND.dtype)
    return sum(
        (share[..., None] * output for share, output in zip(shares, outputs, strict=True)), torch.tensor(0)
    )


class _Branch:
    """Which tokens one (segment length, dilation) keeps, for every head, and the attention among them."""

    def __init__(self, num_heads: int, num_tokens: int, length: int, dilation: int) -> None:
        self.num_heads, self.num_tokens, self.dilation = num_heads, num_tokens, dilation
        self.length = min(length, num_tokens)
        self.num_segments = -(-num_tokens // self.length)
        self.kept = -(-self.length // dilation)
        self.heads_per_offset = -(-num_heads // dilation)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, causal: bool, strict: bool
    ) -> tuple[Tensor, Tensor]:
        """Outputs (B, H, N, D), zero where a head skips a token, and their log-sum-exps (B, H, N), detached."""
        query_BHSMD, key_BHSMD, value_BHSMD = (self._gather(x) for x in (query, key, value))
        visible_HSM = None if strict else self._gather(self._places(query.device))[0, ..., 0] > 0
        parts = [
            _attend_with_lse(
                query_BHSMD[:, :, segment],
                key_BHSMD[:, :, segment],
                value_BHSMD[:, :, segment],
                None if visible_HSM is None else visible_HSM[:, segment],
                causal,
            )
            for segment in range(
                self.num_segments
            )  # one at a time: scores of all would be N x w / R^2 numbers
        ]
        lse_BHSM = torch.stack([lse for _, lse in parts], dim=2)
        if strict:
            lse_BHSM = lse_BHSM.masked_fill(lse_BHSM == 0, MISSING)
        mixed_BHND = self._scatter(torch.stack([mixed for mixed, _ in parts], dim=2), 0.0)
        return mixed_BHND, self._scatter(lse_BHSM[..., None], MISSING)[..., 0]

    def _places(self, device: torch.device) -> Tensor:
        return torch.ones(1, self.num_heads, self.num_tokens, 1, device=device)

    def _groups(self) -> Iterator[tuple[int, slice]]:
        """The offsets, and the heads that have them."""
        for offset in range(self.dilation):
            first = offset * self.heads_per_offset
            if first < self.num_heads:
                yield offset, slice(first, first + self.heads_per_offset)

    def _gather(self, x_BHND: Tensor) -> Tensor:
        """Kept tokens (B, H, S, M, D); zeros where the last segment or the last stride is not full."""
        filling = self.num_segments * self.length - self.num_tokens
        x_BHSLD = nn.functional.pad(x_BHND, (0, 0, 0, filling)).unflatten(2, (self.num_segments, self.length))
        x_BHSLD = nn.functional.pad(x_BHSLD, (0, 0, 0, self.kept * self.dilation - self.length))
        x_BHSMRD = x_BHSLD.unflatten(3, (self.kept, self.dilation))
        return torch.cat([x_BHSMRD[:, heads, :, :, offset] for offset, heads in self._groups()], dim=1)

    def _scatter(self, x_BHSMD: Tensor, empty: float) -> Tensor:
        """Back to (B, H, N, D), with ``empty`` at the tokens that a head skips."""
        batch, _, _, _, width = x_BHSMD.shape
        shape = (batch, self.num_heads, self.num_segments, self.kept, self.dilation, width)
        x_BHSMRD = x_BHSMD.new_full(shape, empty)
        for offset, heads in self._groups():
            x_BHSMRD[:, heads, :, :, offset] = x_BHSMD[:, heads]
        return x_BHSMRD.flatten(3, 4)[:, :, :, : self.length].flatten(2, 3)[:, :, : self.num_tokens]


def _attend_with_lse(
    query_BHMD: Tensor, key_BHMD: Tensor, value_BHMD: Tensor, visible_HM: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor]:
    """Attention among the kept tokens of one segment, and the log of its softmax's denominator, detached."""
    kept = query_BHMD.shape[2]
    precision = torch.promote_types(query_BHMD.dtype, torch.float32)
    key_BHDM = key_BHMD.transpose(-1, -2)
    place_M = torch.arange(kept, device=query_BHMD.device)
    outputs, sums = [], []
    for start in range(0, kept, _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        query_BHQD = query_BHMD[:, :, part] * query_BHMD.shape[-1] ** -0.5
        scores_BHQM = (query_BHQD @ key_BHDM).to(precision)
        # A large negative number, not infinity: filling sees only filling, and 0 / 0 would spoil all gradients.
        if visible_HM is not None:
            scores_BHQM = scores_BHQM.masked_fill(~visible_HM[:, None, :], MISSING)
        if causal:
            scores_BHQM = scores_BHQM.masked_fill(place_M > place_M[part, None], MISSING)
        sums.append(scores_BHQM.detach().logsumexp(dim=-1))
        outputs.append(scores_BHQM.softmax(dim=-1).to(value_BHMD.dtype) @ value_BHMD)
    return torch.cat(outputs, dim=2), torch.cat(sums, dim=2)
