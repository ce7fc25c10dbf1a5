"""The pseudo-masked language model (Bao et al. 2020, arXiv 2002.12804, section 3).

Of a text with hidden tokens, a row holds three parts: the corrupted text; the true tokens of what is hidden; and a
pseudo mask for each of them. Both copies stand at the position of their original. The hidden tokens form blocks in a
random order: a pseudo mask sees the corrupted text, the true tokens of earlier blocks, and the pseudo masks of its own
block. The corrupted text sees itself alone, so its states are those of a BERT pass (autoencoding), and one pass of
``n + 2 m`` tokens also predicts every block given the earlier ones (partially autoregressive).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from multiway_blocks.masks import Role

from multiway_text.data.corruption import Ids, Masking, Vocabulary, choose_spans, corrupt
from multiway_text.data.masked_batch import NO_TARGET, Part

Kind = Literal["pmlm", "autoencoding", "autoregressive"]
"""Both losses, or one of them; the autoencoding rows leave the copies out."""


def pseudo_masked(
    text_T: Ids,
    vocabulary: Vocabulary,
    masking: Masking,
    generator: np.random.Generator,
    kind: Kind = "pmlm",
) -> list[Part]:
    """The row of a text: ``[CLS] text [SEP]`` corrupted, the true tokens of its blocks, and their pseudo masks."""
    ids_T = np.concatenate([[vocabulary.cls_id], text_T, [vocabulary.sep_id]])
    maskable_T = np.ones(len(ids_T), bool)
    maskable_T[[0, -1]] = False
    blocks = choose_spans(maskable_T, masking, generator)  # in random order: their factorization
    places_M = np.concatenate([np.asarray(block, np.int64) for block in blocks])
    steps_M = np.repeat(np.arange(1, len(blocks) + 1), [len(block) for block in blocks])
    targets_T = np.full(len(ids_T), NO_TARGET)
    if kind != "autoregressive":
        targets_T[places_M] = ids_T[places_M]
    corrupted_T = corrupt(ids_T, places_M.tolist(), vocabulary, masking, generator)
    nowhere_T, nowhere_M = np.zeros(len(ids_T), np.int64), np.zeros(len(places_M), np.int64)
    text = Part(Role.CONTEXT, corrupted_T, targets_T, np.arange(len(ids_T)), nowhere_T, nowhere_T)
    if kind == "autoencoding":
        return [text]
    hidden_M = ids_T[places_M]
    no_targets_M, masks_M = nowhere_M + NO_TARGET, nowhere_M + vocabulary.mask_id
    return [
        text,
        Part(Role.TRUE, hidden_M, no_targets_M, places_M, nowhere_M, steps_M),
        Part(Role.PSEUDO, masks_M, hidden_M, places_M, nowhere_M, steps_M),
    ]
