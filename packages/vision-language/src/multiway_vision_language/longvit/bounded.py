"""The same network with bounded memory: pixels are read in bands, and layers work through patches in chunks.

Of N patches only five arrays (N, E) live at a time: the residual stream in float32, queries, keys and values, and the
mixture of the values. So 32,768 pixels square, a million patches, take 4.8 GB with bfloat16 and LongViT-S.

Shape suffixes: H heads, N patches, C patches of a chunk, D head dim, E hidden size, M kept patches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from multiway_blocks.dilated_branches import head_groups
from multiway_blocks.dilated_parallel import attend_parallel
from multiway_blocks.dilated_pattern import DilatedPattern
from multiway_blocks.partial_attention import MISSING, attend_part
from torch import Tensor, nn

from multiway_vision_language.longvit.config import MEAN, STD
from multiway_vision_language.longvit.model import LongViT, split_rows

CHUNK = 16_384
"""Patches of a chunk."""
BAND_PIXELS = 1 << 24
"""At most so many pixels of a picture are in memory."""

ReadBand = Callable[[int, int], np.ndarray]
"""(first row, last row exclusive) of the resized picture -> uint8 (rows, side, 3)."""


def normalised(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) or (B, H, W, 3) -> float32 (B, 3, H, W) as the network takes it."""
    x_BHW3 = torch.from_numpy(np.require(pixels, requirements=("C", "W"))).reshape(-1, *pixels.shape[-3:])
    return ((x_BHW3.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


@torch.inference_mode()
def embed_bands(model: LongViT, read: ReadBand, side: int) -> Tensor:
    """Patches with their positions (N, E), float32, of a picture that is read in bands of whole rows of patches.

    Of a model whose sequence is split, this process's own rows. Raises InputError where they cannot be shared equally.
    """
    model.config.check_side(side)
    size, weight = model.config.patch_size, model.patch_embedding.weight
    columns = side // size
    own = split_rows(columns, *model.place())
    x_NE = torch.empty(
        len(own) * columns, model.config.hidden_size, dtype=torch.float32, device=weight.device
    )
    step = max(1, BAND_PIXELS // (side * size))
    for first in range(own.start, own.stop, step):
        last = min(own.stop, first + step)
        pixels_BCHW = normalised(read(first * size, last * size)).to(weight)
        patches_NE = model.patch_embedding(pixels_BCHW)[0].flatten(1).T
        x_NE[(first - own.start) * columns : (last - own.start) * columns] = patches_NE
    positions_NE = model.positions_of(columns, columns)[0, own.start * columns : own.stop * columns]
    for chunk in _chunks(len(x_NE)):
        x_NE[chunk] += positions_NE[chunk]
    return x_NE


@torch.inference_mode()
def encode_bounded(
    model: LongViT, x_NE: Tensor, on_layer: Callable[[int, int], object] | None = None
) -> Tensor:
    """`LongViT.encode` behind the positions, in place: (N, E), float32.

    ``on_layer``: called with (layers done, all layers).
    """
    layers: Any = model.encoder.layers
    pattern = model.config.pattern(len(x_NE) * model.place()[0])
    for index, layer in enumerate(layers):
        mixed_HND = pattern_mixture(layer, x_NE, pattern)
        for chunk in _chunks(len(x_NE)):
            attention, dtype = layer.attention, layer.attention.output.weight.dtype
            joined_CE = mixed_HND[:, chunk].transpose(0, 1).flatten(1)
            x_NE[chunk] += attention.output(attention.norm(joined_CE))
            x_NE[chunk] += layer.feedforward(layer.feedforward_norm(x_NE[chunk].to(dtype)))
        del mixed_HND
        if on_layer is not None:
            on_layer(index + 1, len(layers))
    return x_NE


def pattern_mixture(layer: Any, x_NE: Tensor, pattern: DilatedPattern) -> Tensor:
    """The heads' mixtures of values (H, N, D) of one layer."""
    attention: Any = layer.attention
    dtype, heads = attention.query.weight.dtype, attention.num_heads
    maps: list[nn.Module] = [attention.query, attention.key, attention.value]
    made_HND = [
        torch.empty(heads, len(x_NE), attention.head_dim, dtype=dtype, device=x_NE.device) for _ in maps
    ]
    for chunk in _chunks(len(x_NE)):
        normed_CE = layer.attention_norm(x_NE[chunk].to(dtype))
        for result, linear in zip(made_HND, maps, strict=True):
            result[:, chunk] = linear(normed_CE).unflatten(1, (heads, -1)).transpose(0, 1)
    query_HND, key_HND, value_HND = made_HND
    if attention.sequence_group is not None:
        group = attention.sequence_group
        return attend_parallel(query_HND[None], key_HND[None], value_HND[None], pattern, group)[0]
    return attend_bounded(query_HND, key_HND, value_HND, pattern)


def attend_bounded(query_HND: Tensor, key_HND: Tensor, value_HND: Tensor, pattern: DilatedPattern) -> Tensor:
    """`DilatedPattern.attend` of one sequence, not causal and without gradients: (H, N, D).

    Branches are merged into one result as they come, by their log-sum-exps, a few segments at a time.
    """
    heads, tokens = query_HND.shape[:2]
    mixed_HND = torch.zeros_like(query_HND)
    lse_HN = torch.full((heads, tokens), MISSING, dtype=torch.float32, device=query_HND.device)
    for length, dilation in pattern.branches:
        length = min(length, tokens)
        for group in head_groups(heads, dilation, pattern.head_offset):
            whole = tokens // length
            at_once = max(1, CHUNK // length)
            for first in range(0, whole, at_once):
                count = min(at_once, whole - first)
                _merge_segments(
                    query_HND, key_HND, value_HND, mixed_HND, lse_HN, pattern,
                    group.heads, group.offset, dilation, slice(first * length, (first + count) * length), count, length,
                )  # fmt: skip
            if whole * length < tokens:
                _merge_segments(
                    query_HND, key_HND, value_HND, mixed_HND, lse_HN, pattern,
                    group.heads, group.offset, dilation, slice(whole * length, tokens), 1, length,
                )  # fmt: skip
    return mixed_HND


def _merge_segments(
    query: Tensor, key: Tensor, value: Tensor, mixed: Tensor, lse: Tensor, pattern: DilatedPattern,
    heads: slice, offset: int, dilation: int, place: slice, count: int, length: int,
) -> None:  # fmt: skip
    """Merge the attention within ``count`` segments (or one that is not full) into ``mixed`` and ``lse``."""

    def kept(x: Tensor) -> Tensor:
        return x[heads, place].unflatten(1, (count, -1))[:, :, offset::dilation].transpose(0, 1)

    q, k, v = kept(query), kept(key), kept(value)
    full = -(-length // dilation)  # kept patches of a full segment, with what fills its last stride
    if k.shape[2] == 0:
        return
    if not pattern.mask_padding and k.shape[2] < full:  # as in the released code, the zeros behind are keys
        missing = (0, 0, 0, full - k.shape[2])
        k, v = nn.functional.pad(k, missing), nn.functional.pad(v, missing)
    out, new_lse = attend_part(q, k, v)
    if not pattern.mask_padding:
        new_lse = new_lse.masked_fill(new_lse == 0, MISSING)
    old, old_lse = kept(mixed), kept(lse[..., None])[..., 0]
    share = (new_lse.float() - old_lse).sigmoid()
    kept(mixed).copy_(old + share[..., None].to(old.dtype) * (out - old))
    kept(lse[..., None])[..., 0].copy_(torch.logaddexp(old_lse, new_lse.float()))


def _chunks(count: int) -> list[slice]:
    return [slice(start, min(count, start + CHUNK)) for start in range(0, count, CHUNK)]
