"""What a causal decoder needs to know of its tokens: who sees whom, and which position each has.

Rows of a batch are padded on the left; a key-value cache may stand before the new tokens.

Shape suffixes: B batch, T new tokens, S all tokens so far.
"""

from __future__ import annotations

import torch
from multiway_core.generation import StaticKVCache
from torch import Tensor

from multiway_blocks.attention import causal_mask, padding_mask


def causal_visibility(
    valid_BT: Tensor, cache: StaticKVCache | None = None, *, block: int | None = None
) -> Tensor | None:
    """Bool (B, 1, T, S): True where a new token may look, at real tokens up to its own place.

    None stands for "everything": one new token behind a cache without padding. A padded query sees itself only, since
    a row without any key would turn into NaN.

    ``block`` makes attention blockwise (:func:`block_causal`).
    """
    num_queries = valid_BT.shape[1]
    # On a GPU the question would wait for the device.
    if cache is not None and num_queries == 1 and valid_BT.device.type == "cpu" and block is None:
        seen = cache.valid_BS[:, : cache.length]
        if bool(seen.all() & valid_BT.all()):
            return None
    valid_BS = valid_BT
    if cache is not None and cache.length:
        valid_BS = torch.cat([cache.valid_BS[:, : cache.length], valid_BT], dim=1)
    mask = causal_mask(num_queries, valid_BS.shape[1], valid_BT.device) & padding_mask(valid_BS)
    if block is not None:
        places_BS = (valid_BS.cumsum(dim=1) - 1).clamp(min=0)
        mask = mask & block_causal(places_BS[:, -num_queries:], places_BS, block)
    own = torch.zeros_like(mask[:, :, :, -num_queries:])
    own.diagonal(dim1=-2, dim2=-1).fill_(True)
    mask[:, :, :, -num_queries:] |= own & ~valid_BT[:, None, :, None]
    return mask


def block_causal(query_BT: Tensor, key_BS: Tensor, block: int) -> Tensor:
    """Bool (B, 1, T, S): queries see keys of their own block of ``block`` positions and of the one before.

    Blockwise causal attention (Sun et al. 2022, "A Length-Extrapolatable Transformer", section 2.3), to be combined
    with a causal mask: with blocks of half the trained length no query sees farther than it did in training.
    """
    return (query_BT[:, :, None] // block - key_BS[:, None, :] // block <= 1)[:, None]


def token_positions(valid_BT: Tensor, cache: StaticKVCache | None = None) -> Tensor:
    """Int64 (B, T): how many real tokens stand before each in its row; 0 for padding."""
    positions_BT = valid_BT.cumsum(dim=1) - 1
    if cache is not None:
        positions_BT = positions_BT + cache.num_valid_B[:, None]
    return positions_BT.clamp(min=0)
