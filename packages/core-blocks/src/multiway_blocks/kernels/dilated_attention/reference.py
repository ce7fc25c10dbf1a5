"""Dilated attention in plain PyTorch, with a score for every pair of tokens: the definition that all others meet.

LongNet (arXiv 2307.02486, section 2.2) as its authors released it. Shape legend: B batch, H heads, N tokens, D head
dim. Scores and sums are in float32 (float64 for float64 input).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def forward(
    query_BHND: Tensor,
    key_BHND: Tensor,
    value_BHND: Tensor,
    branches: Sequence[tuple[int, int]],
    causal: bool,
) -> Tensor:
    """One softmax over all keys that a token meets, a key met in two branches counting twice: (B, H, N, D).

    In a branch (w, r) head h keeps the tokens n with (n mod w) mod r = h // ceil(H / r); these meet if they are of the
    same segment n // w, and, if ``causal``, only backwards.
    """
    wide = torch.promote_types(query_BHND.dtype, torch.float32)
    H, N, D = query_BHND.shape[1:]
    place_N = torch.arange(N, device=query_BHND.device)
    times_HNN = torch.zeros(H, N, N, dtype=wide, device=query_BHND.device)
    for length, dilation in branches:
        offset_H = torch.arange(H, device=place_N.device) // -(-H // dilation)
        kept_HN = (place_N % length) % dilation == offset_H[:, None]
        together_NN = place_N[:, None] // length == place_N // length
        if causal:
            together_NN = together_NN & (place_N <= place_N[:, None])
        times_HNN += kept_HN[:, :, None] & kept_HN[:, None] & together_NN
    scores = query_BHND.to(wide) @ key_BHND.to(wide).transpose(-1, -2) * D**-0.5
    return ((scores + times_HNN.log()).softmax(-1) @ value_BHND.to(wide)).to(query_BHND.dtype)
