"""Batches for masked language models: rows of parts, each with its role in who sees whom, and the loss on them.

Shape suffixes: B rows, T tokens, N places that are predicted, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from multiway_blocks.masks import Role, RuleLayout, rule_layout, visible
from multiway_core.training import Loss
from torch import Tensor

from multiway_text.data.corruption import Ids, Masking, Vocabulary, choose_spans, corrupt
from multiway_text.encoder.heads import MaskedLM

NO_TARGET = -100


@dataclass(frozen=True)
class Part:
    """Some tokens of a row that have one role. All arrays are int64 of one length.

    ``targets_T``: what is predicted at a place, or -100. ``steps_T``: of the visibility rule (`multiway_blocks.masks`).
    """

    role: Role
    ids_T: Ids
    targets_T: Ids
    positions_T: Ids
    types_T: Ids
    steps_T: Ids


class MaskedBatch(NamedTuple):
    """Rows of a masked language model, (B, T) int64 each (``valid_BT``: bool, False for padding)."""

    ids_BT: Tensor
    valid_BT: Tensor
    targets_BT: Tensor
    positions_BT: Tensor
    types_BT: Tensor
    roles_BT: Tensor
    steps_BT: Tensor

    def visibility(self) -> Tensor | RuleLayout:
        """Who sees whom, as `TextEncoder` takes it: in parts where all rows have them at the same places."""
        layout = rule_layout(self.roles_BT, self.steps_BT, self.valid_BT)
        if layout.order_BP is None:
            return layout
        seen_BTT = visible(self.roles_BT, self.steps_BT, self.valid_BT)
        return (seen_BTT | ~seen_BTT.any(-1, keepdim=True))[:, None]


def masked_row(
    texts: Sequence[Ids], vocabulary: Vocabulary, masking: Masking, generator: np.random.Generator
) -> list[Part]:
    """``<s> a </s> b </s>`` of any number of texts that see each other, tokens of each hidden by themselves."""
    ids_T = np.concatenate(
        [[vocabulary.cls_id], *(part for text in texts for part in (text, [vocabulary.sep_id]))]
    )
    places: list[int] = []
    start = 1
    for text in texts:
        maskable_T = np.zeros(len(ids_T), bool)
        maskable_T[start : start + len(text)] = True
        places += [place for span in choose_spans(maskable_T, masking, generator) for place in span]
        start += len(text) + 1
    targets_T = np.full(len(ids_T), NO_TARGET)
    targets_T[places] = ids_T[places]
    changed_T = corrupt(ids_T, places, vocabulary, masking, generator)
    index_T, none_T = np.arange(len(ids_T)), np.zeros(len(ids_T), np.int64)
    return [Part(Role.CONTEXT, changed_T, targets_T, index_T, none_T, index_T)]


def collate(rows: Sequence[Sequence[Part]], pad_id: int) -> MaskedBatch:
    """Rows side by side, padded. Where all have parts of the same roles, part k of every row begins at one place."""
    most = max(len(row) for row in rows)
    lengths = np.array([[len(part.ids_T) for part in row] + [0] * (most - len(row)) for row in rows])
    if len({tuple(part.role for part in row) for row in rows}) == 1:
        lengths = np.broadcast_to(lengths.max(0), lengths.shape)
    ends = lengths.cumsum(1)
    batch = {name: np.zeros((len(rows), ends.max()), np.int64) for name in MaskedBatch._fields}
    batch["ids_BT"] += pad_id
    batch["targets_BT"] += NO_TARGET
    for index, row in enumerate(rows):
        for start, end, part in zip(ends[index] - lengths[index], ends[index], row, strict=False):
            batch["roles_BT"][index, start:end] = part.role
            place = (index, slice(start, start + len(part.ids_T)))
            batch["valid_BT"][place] = 1
            for name in ("ids", "targets", "positions", "types", "steps"):
                batch[f"{name}_BT"][place] = getattr(part, f"{name}_T")
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    return MaskedBatch(**{**tensors, "valid_BT": tensors["valid_BT"].bool()})


def masked_lm_loss(model: MaskedLM, batch: MaskedBatch) -> Loss:
    """Cross-entropy in nats at the places with targets, summed; what it is divided by counts hidden tokens once.

    A token that is predicted twice, at its ``[MASK]`` and at its pseudo mask, adds both losses (UniLMv2, section 3.1).
    """
    has_types = model.encoder.type_embedding is not None
    hidden_BTE = model.encoder(
        batch.ids_BT,
        batch.valid_BT,
        mask=batch.visibility(),
        positions_BT=batch.positions_BT + model.encoder.config.first_position,
        types_BT=batch.types_BT if has_types else None,
    ).hidden_BTE
    is_target_BT = batch.targets_BT >= 0
    logits_NV = model.logits(hidden_BTE[is_target_BT]).float()
    loss_N = torch.nn.functional.cross_entropy(logits_NV, batch.targets_BT[is_target_BT], reduction="none")
    pseudo_N = batch.roles_BT[is_target_BT] == Role.PSEUDO
    counts = len(pseudo_N) - int(pseudo_N.sum()), int(pseudo_N.sum())
    metrics = {}
    if all(counts):
        metrics = {
            "autoencoding": loss_N[~pseudo_N].detach().mean(),
            "autoregressive": loss_N[pseudo_N].detach().mean(),
        }
    return Loss(loss_N.sum(), max(counts), metrics, samples=len(batch.ids_BT))
