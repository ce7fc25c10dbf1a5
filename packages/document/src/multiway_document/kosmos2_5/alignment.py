"""Guided attention: alignments of the CTC reader supervise resampler and decoder, in training only.

An autoregressive reader behind a resampler must find out by itself which query stands for which place, and which place
belongs to the next character; from the text alone this takes far longer than to read. The line reader knows both: its
best path says in which column every character stands. So, in training only, the resampler's queries are told to look at
the columns in their order, and one head of the later decoder layers is told to look at the next character's column.
Nothing is added to the network.

Shape suffixes: B batch, N patches, Q queries, T suffix tokens, L sequence, H heads, D head dim, E hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from multiway_blocks.attention import Attention
from multiway_blocks.decoder import Decoder
from multiway_blocks.resampler import Resampler
from multiway_blocks.transformer import PreNorm
from torch import Tensor, nn

from multiway_document.line_reading import STEPS_PER_COLUMN

UNKNOWN = -1  # no column is known for this character


def character_columns(logits_BTK: Tensor, steps_B: Tensor, targets: Sequence[list[int]]) -> list[list[int]]:
    """The patch column of every character by the best CTC path; empty for lines that are not read as ``targets``.

    ``targets``: class ids of each line.
    """
    classes_BT = logits_BTK.argmax(dim=-1).cpu()
    columns = []
    for classes, steps, target in zip(classes_BT, steps_B.tolist(), targets, strict=True):
        line = classes[:steps]
        starts = torch.ones_like(line, dtype=torch.bool)
        starts[1:] = line[1:] != line[:-1]
        places = torch.nonzero(starts & (line != 0)).squeeze(1)
        same = len(places) == len(target) and line[places].tolist() == target
        columns.append((places // STEPS_PER_COLUMN).tolist() if same else [])
    return columns


def _scores(attention: Attention, query_BTE: Tensor, key_BSE: Tensor) -> Tensor:
    # Scores before the softmax, (B, H, T, S) in float32.
    query_BTHD = attention.query(query_BTE).unflatten(-1, (attention.num_heads, attention.head_dim))
    key_BSHD = attention.key(key_BSE).unflatten(-1, (attention.num_kv_heads, attention.head_dim))
    return torch.einsum("bthd,bshd->bhts", query_BTHD.float(), key_BSHD.float()) * attention.head_dim**-0.5


def resampler_loss(
    resampler: Resampler, features_BNE: Tensor, multiplicity_BN: Tensor, columns_B: Tensor
) -> Tensor:
    """Mean ``-log`` of the attention that query ``q`` gives to column ``q``: half the heads to each of its two patches.

    ``features`` and ``multiplicity`` of cropped lines: two rows of patches, then one row for all padding. ``columns``
    (B,): how many columns each line has; the queries behind the last one are free.
    """
    num_columns = min(features_BNE.shape[1] // 2, len(resampler.latents))
    keys_BNF = resampler.projection(nn.functional.normalize(features_BNE, dim=-1))
    latents_QF = resampler.latents.to(keys_BNF.dtype)
    keys_BSF = torch.cat([keys_BNF, latents_QF.expand(len(keys_BNF), -1, -1)], dim=1)
    scores_BHQS = _scores(
        resampler.attention, latents_QF[:num_columns].expand(len(keys_BNF), -1, -1), keys_BSF
    )
    counts_BS = nn.functional.pad(multiplicity_BN.float(), (0, len(latents_QF)), value=1.0)
    log_probs_BHQS = (scores_BHQS + counts_BS.log()[:, None, None, :]).log_softmax(dim=-1)
    place_Q = torch.arange(num_columns, device=features_BNE.device)
    heads = scores_BHQS.shape[1]
    row_H = torch.arange(heads, device=features_BNE.device) * 2 // heads
    target_HQ = place_Q[None, :] + row_H[:, None] * (features_BNE.shape[1] // 2)
    picked_BHQ = log_probs_BHQS.gather(-1, target_HQ[None, :, :, None].expand(len(keys_BNF), -1, -1, 1))[
        ..., 0
    ]
    real_BQ = place_Q[None, :] < columns_B[:, None]
    return -(picked_BHQ.mean(dim=1)[real_BQ]).sum() / real_BQ.sum()


def attention_of(decoder: Decoder, layer: int) -> Attention:
    """The attention of one layer."""
    block = decoder.layers[layer]
    assert isinstance(block, PreNorm)
    assert isinstance(block.attention, Attention)
    return block.attention


@contextmanager
def attention_inputs(decoder: Decoder, layers: range) -> Iterator[list[Tensor]]:
    """Collects what the attention of the given layers is called with (B, L, E), in their order."""
    inputs: list[Tensor] = []

    def remember(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.append(arguments[0])

    handles = [attention_of(decoder, index).register_forward_pre_hook(remember) for index in layers]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def decoder_loss(
    attention: Attention, x_BLE: Tensor, image_slots_BL: Tensor, columns_BT: Tensor, valid_BL: Tensor
) -> Tensor:
    """Mean ``-log`` of the attention of head 0 that goes to the column of the character to be written next.

    ``columns`` (B, T): column of each of the last T tokens, or ``UNKNOWN``; the token before it is where it is looked
    for. All keys that the head may look at take part, so that the head learns to look at the picture at all.
    """
    length = columns_BT.shape[1]
    query_BTD = attention.query(x_BLE[:, -length - 1 : -1])[..., : attention.head_dim]
    key_BLD = attention.key(x_BLE)[..., : attention.head_dim]
    scores_BTL = torch.einsum("btd,bld->btl", query_BTD.float(), key_BLD.float()) * attention.head_dim**-0.5
    total = x_BLE.shape[1]
    place_L = torch.arange(total, device=x_BLE.device)
    visible_BTL = valid_BL[:, None, :] & (place_L[None, :] <= place_L[-length - 1 : -1, None])
    log_probs_BTL = scores_BTL.masked_fill(~visible_BTL, float("-inf")).log_softmax(dim=-1)
    first_B = image_slots_BL.int().argmax(dim=1)
    known_BT = columns_BT != UNKNOWN
    target_BT = first_B[:, None] + columns_BT.clamp(min=0)
    picked_BT = log_probs_BTL.gather(-1, target_BT[..., None])[..., 0]
    return -picked_BT[known_BT].sum() / known_BT.sum().clamp(min=1)
