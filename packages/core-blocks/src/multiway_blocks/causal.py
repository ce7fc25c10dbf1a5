"""What a causal decoder needs to know of its tokens: who sees whom, which position each has; and the stack that does.

Rows of a batch are padded on the left; a key-value cache may stand before the new tokens.

Shape suffixes: B batch, T new tokens, S all tokens so far, E hidden size.
"""

from __future__ import annotations

import torch
from multiway_core.generation import FixedSlots, StaticKVCache
from torch import Tensor

from multiway_blocks.attention import causal_mask, padding_mask
from multiway_blocks.transformer import Context, Stack


def causal_visibility(
    valid_BT: Tensor, cache: StaticKVCache | None = None, *, block: int | None = None
) -> Tensor | None:
    """Bool (B, 1, T, S): True where a new token may look, at real tokens up to its own place.

    None stands for "everything": one new token behind a cache without padding. A padded query sees itself only, since
    a row without any key would turn into NaN.

    ``block`` makes attention blockwise (:func:`block_causal`).
    """
    if isinstance(cache, FixedSlots):
        if block is not None:
            raise ValueError("a captured decoding step knows no blocks")
        return padding_mask(cache.visible_BS)
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


def branch_positions(valid_BT: Tensor, branches_BT: Tensor | None = None) -> Tensor:
    """Number of the tokens before each one that it follows, int64 (B, T); 0 at padding on the left.

    A token of a branch other than 0 follows all of branch 0 and the earlier ones of its own.
    """
    if branches_BT is None:
        return token_positions(valid_BT)
    query_BT1, key_B1T = branches_BT[:, :, None], branches_BT[:, None, :]
    followed_BTT = valid_BT[:, None, :] & ((key_B1T == 0) | (key_B1T == query_BT1))
    return followed_BTT.tril(-1).sum(dim=-1)


class CausalStack(Stack):
    """A stack whose tokens see those before them, in the same call and in a cache.

    ``block`` is the length of blocks when attention is blockwise (:func:`block_causal`); None: all is seen. It may be
    set on a trained stack. ``uses_positions``: whether the attention is told positions.
    """

    block: int | None = None
    uses_positions = True

    def forward(  # type: ignore[override]
        self,
        x_BTE: Tensor,
        valid_BT: Tensor | None = None,
        cache: StaticKVCache | None = None,
        *,
        branches_BT: Tensor | None = None,
        losses: dict[int, Tensor] | None = None,
        hidden_states: list[Tensor] | None = None,
    ) -> Tensor:
        """Run new token vectors (B, T, E) behind what the cache holds: (B, T, E).

        ``valid`` (B, T) bool is False at padding, which no token sees and which takes no position; None: all are real.
        With a cache, rows shorter than the batch are padded on the left. The cache takes the new tokens.

        ``branches`` (B, T) int64 makes several continuations of one beginning in a single pass, to train on all of
        them: tokens of branch 0, which comes first, are seen by all behind them, those of another branch by their
        own only, and every branch is placed behind branch 0 (:func:`branch_positions`). Not with a cache.

        ``losses`` and ``hidden_states``: see `Context` and `Stack`.
        """
        all_valid = valid_BT is None
        if valid_BT is None:
            valid_BT = torch.ones(x_BTE.shape[:2], dtype=torch.bool, device=x_BTE.device)
        context = self.context(valid_BT, cache, branches_BT, {} if losses is None else losses, all_valid)
        x_BTE = super().forward(x_BTE, context, hidden_states)
        if cache is not None:
            cache.advance(valid_BT, all_valid=all_valid)
        return x_BTE

    def context(
        self,
        valid_BT: Tensor,
        cache: StaticKVCache | None,
        branches_BT: Tensor | None,
        losses: dict[int, Tensor],
        all_valid: bool = False,
    ) -> Context:
        """What the layers are told; arguments as of :meth:`forward`. ``all_valid``: none of the tokens is padding."""
        all_valid = all_valid and (cache is None or cache.all_valid)
        if all_valid and self.block is None and branches_BT is None:
            # No mask and nothing to ask the device for.
            positions_BT = token_positions(valid_BT, cache) if self.uses_positions else None
            return Context(None, positions_BT, cache, None, losses=losses, causal=True)
        mask = causal_visibility(valid_BT, cache, block=self.block)
        positions_BT = None
        if branches_BT is not None:
            if cache is not None or mask is None:
                raise ValueError("branches are for one pass over everything, without a cache")
            key_B1T = branches_BT[:, None, :]
            mask = mask & ((key_B1T == 0) | (key_B1T == branches_BT[:, :, None]))[:, None]
            positions_BT = branch_positions(valid_BT, branches_BT)
        elif self.uses_positions:
            positions_BT = token_positions(valid_BT, cache)
        return Context(mask, positions_BT, cache, valid_BT, losses=losses)
