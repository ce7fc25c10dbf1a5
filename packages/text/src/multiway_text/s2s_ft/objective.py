"""Three ways to lay out a source and a target for one encoder (Bao et al. 2021, arXiv 2110.13640, section 3).

==============  ======================================  =============================================
method          tokens                                  predicted
==============  ======================================  =============================================
causal          [CLS] s | [SEP] t                       behind every target token the next, at last [SEP]
masked          [CLS] s [SEP] | t [SEP], some corrupted  the corrupted ones
pseudo_masked   [CLS] s [SEP] | t [SEP] | a pseudo mask  every token, at its pseudo mask, from the source and
                for each target token                   the target tokens before it
==============  ======================================  =============================================

``[MASK]`` stands for 80 % of the corrupted tokens, a random piece for 10 %, the rest stay. ``target_mask_prob`` is the
share of the masked method's target that is predicted; in the other two it hides true tokens from later predictions, as
decoding would with its own mistakes. Target positions count on behind the source without its padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from multiway_blocks.masks import Role
from multiway_core.errors import ConfigError
from multiway_core.training import Loss
from torch import Tensor

from multiway_text.data.corruption import Ids, Masking, Vocabulary, corrupt
from multiway_text.data.masked_batch import NO_TARGET, MaskedBatch, Part
from multiway_text.encoder.heads import MaskedLM
from multiway_text.s2s_ft.config import Seq2SeqConfig


@dataclass(frozen=True)
class Corruption:
    """What is hidden of the target, and of the source (off by default).

    ``max_masked`` bounds the predicted tokens of a target in the masked method.
    """

    target_mask_prob: float = 0.5
    source_mask_prob: float = 0.0
    max_masked: int = 64
    masking: Masking = field(default_factory=Masking)

    def __post_init__(self) -> None:
        if not (0 <= self.target_mask_prob <= 1 and 0 <= self.source_mask_prob <= 1):
            raise ConfigError("target_mask_prob and source_mask_prob must be shares of 1")
        if self.max_masked < 1:
            raise ConfigError(f"max_masked must be at least 1, not {self.max_masked}")


def lay_out(
    source: list[int],
    target: list[int],
    config: Seq2SeqConfig,
    corruption: Corruption,
    vocabulary: Vocabulary,
    generator: np.random.Generator,
) -> list[Part]:
    """The parts of a training row from ids without special tokens; each side is cut at its end to its maximum."""
    context_T = source_ids(source, config, vocabulary)
    if corruption.source_mask_prob:
        inner = np.arange(1, len(context_T) - (config.method != "causal"))
        drawn = inner[generator.random(len(inner)) < corruption.source_mask_prob]
        context_T = corrupt(context_T, drawn.tolist(), vocabulary, corruption.masking, generator)
    count = len(context_T)
    labels_T = np.array([*target[: config.max_target - 1], vocabulary.sep_id], np.int64)
    length, everywhere = len(labels_T), list(range(len(labels_T)))
    true_T, targets_T = labels_T, np.full(length, NO_TARGET)
    pseudo_T = None
    if config.method == "causal":
        shifted_T = np.concatenate([[vocabulary.sep_id], labels_T[:-1]])
        corrupted_T = corrupt(shifted_T, everywhere, vocabulary, corruption.masking, generator)
        hidden_T = generator.random(length) < corruption.target_mask_prob
        hidden_T[0] = False
        true_T, targets_T = np.where(hidden_T, corrupted_T, shifted_T), labels_T
    elif config.method == "masked":
        chosen = min(corruption.max_masked, max(1, int(corruption.target_mask_prob * length)))
        places = generator.permutation(length)[:chosen]
        true_T = corrupt(labels_T, places.tolist(), vocabulary, corruption.masking, generator)
        targets_T[places] = labels_T[places]
    else:
        pseudo_T = corrupt(labels_T, everywhere, vocabulary, corruption.masking, generator)
        hidden_T = generator.random(length) < corruption.target_mask_prob
        true_T = np.where(hidden_T, pseudo_T, labels_T)
    none_T, steps_T = np.full(count, NO_TARGET), np.arange(length)
    types_T, positions_T = np.full(length, config.target_type), count + steps_T
    parts = [
        Part(
            Role.CONTEXT,
            context_T,
            none_T,
            np.arange(count),
            np.full(count, config.source_type),
            np.zeros_like(none_T),
        ),
        Part(Role.TRUE, true_T, targets_T, positions_T, types_T, steps_T),
    ]
    if pseudo_T is not None:
        parts.append(Part(Role.PSEUDO, pseudo_T, labels_T, positions_T, types_T, steps_T))
    return parts


def source_ids(source: list[int], config: Seq2SeqConfig, vocabulary: Vocabulary) -> Ids:
    """``[CLS] s [SEP]``, without ``[SEP]`` for the causal method, of at most ``max_source`` tokens."""
    end = [] if config.method == "causal" else [vocabulary.sep_id]
    room = config.max_source - 1 - len(end)
    return np.array([vocabulary.cls_id, *source[:room], *end], np.int64)


def target_log_probs(model: MaskedLM, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
    """(log-probabilities (N, V) of what is predicted, targets (N,)), row after row."""
    encoder = model.encoder
    hidden_BTE = encoder(
        batch.ids_BT,
        batch.valid_BT,
        mask=batch.visibility(),
        positions_BT=batch.positions_BT + encoder.config.first_position,
        types_BT=batch.types_BT if encoder.type_embedding is not None else None,
    ).hidden_BTE
    is_target_BT = batch.targets_BT >= 0
    return model.logits(hidden_BTE[is_target_BT]).float().log_softmax(-1), batch.targets_BT[is_target_BT]


def smoothed_loss(model: MaskedLM, batch: MaskedBatch, smoothing: float = 0.1) -> Loss:
    """Divergence from targets of which ``smoothing`` is spread over all other pieces but padding, summed, in nats.

    ``metrics["nll"]`` is the plain cross-entropy.
    """
    log_probs_NV, targets_N = target_log_probs(model, batch)
    nll_N = -log_probs_NV.gather(1, targets_N[:, None])[:, 0]
    total = (
        nll_N.sum()
        if smoothing == 0
        else _smoothed(log_probs_NV, nll_N, smoothing, model.encoder.config.pad_id)
    )
    return Loss(total, len(targets_N), {"nll": nll_N.detach().mean()}, samples=len(batch.ids_BT))


def _smoothed(log_probs_NV: Tensor, nll_N: Tensor, smoothing: float, pad_id: int) -> Tensor:
    share = smoothing / (log_probs_NV.shape[1] - 2)
    others_N = log_probs_NV.sum(-1) + nll_N - log_probs_NV[:, pad_id]
    entropy = (1 - smoothing) * math.log(1 - smoothing) + smoothing * math.log(share)
    return ((1 - smoothing) * nll_N - share * others_N + entropy).sum()


def stretch_positions(model: MaskedLM, length: int) -> None:
    """Repeat the position table so that it holds ``length`` tokens (``reuse_position_embedding``); longer ones stay."""
    config = model.encoder.config
    missing = length - config.max_length
    if missing <= 0:
        return
    rows = model.encoder.position_embedding.weight.data
    table = rows[config.first_position :]
    copies = table.repeat(-(-missing // len(table)), 1)[:missing]
    wide = torch.nn.Embedding.from_pretrained(torch.cat([rows, copies]), freeze=False)
    model.encoder.position_embedding = wide
    model.encoder.config = replace(config, num_positions=len(wide.weight))
