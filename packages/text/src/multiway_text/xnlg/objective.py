"""XNLG's losses (Chi et al. 2020, section 3) and what is hidden from the network for them.

========  ===========================================  ==================================================
loss      read                                         predicted
========  ===========================================  ==================================================
MLM       </s> x </s>, 15 % hidden                     the hidden tokens, by the encoder
XMLM      </s> x </s> </s> y </s>, 15 % hidden; y is   the same; positions begin again at y, and each side
          x in another language                        has its language's embedding
DAE       </s> x </s> with noise                       x, by the decoder
XAE       </s> x </s>                                  y, by the decoder
========  ===========================================  ==================================================

Fine-tuning is XAE on a text and its title. Noise moves words by less than 3 places, drops a tenth of them and blanks a
tenth (Lample et al. 2018); the pieces of a word stay together.

Shape suffixes: B rows, T tokens, S source tokens, N places that are predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import Loss
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from multiway_text.data.corruption import BERT, Ids, Vocabulary, choose_spans, corrupt
from multiway_text.xnlg.config import EOS, MASK, PAD
from multiway_text.xnlg.model import Xnlg

SHUFFLE, DROP, BLANK = 3.0, 0.1, 0.1
DAE_WEIGHT = 0.5


class Text(NamedTuple):
    """Ids without ``</s>``, and the row of the language's embedding."""

    ids: Ids
    language: int


class Cloze(NamedTuple):
    """Rows with hidden tokens; ``targets_BT`` is -100 where nothing is predicted."""

    ids_BT: Tensor
    valid_BT: Tensor
    languages_BT: Tensor
    positions_BT: Tensor
    targets_BT: Tensor


class Pairs(NamedTuple):
    """Sources and targets, ``</s>`` at both ends of each."""

    source_BS: Tensor
    source_valid_BS: Tensor
    source_languages_BS: Tensor
    target_BT: Tensor
    target_languages_BT: Tensor


def framed(ids: Ids, room: int) -> Ids:
    """``</s> x </s>`` of at most ``room`` tokens; a longer text is cut at its end."""
    return np.array([EOS, *ids[: room - 2], EOS], np.int64)


def cloze(
    rows: Sequence[Sequence[Text]], room: int, words: Vocabulary, generator: np.random.Generator
) -> Cloze:
    """Rows of one text (MLM) or of two that say the same (XMLM), each text of at most ``room`` tokens."""
    columns: list[list[Tensor]] = [[], [], [], []]
    for row in rows:
        sides = [framed(text.ids, room) for text in row]
        ids_T = np.concatenate(sides)
        spans = choose_spans(ids_T != EOS, BERT, generator)
        places = [place for span in spans for place in span]
        targets_T = np.full(len(ids_T), -100)
        targets_T[places] = ids_T[places]
        languages_T = np.concatenate([np.full(len(s), t.language) for s, t in zip(sides, row, strict=True)])
        positions_T = np.concatenate([np.arange(len(side)) for side in sides])
        made = (corrupt(ids_T, places, words, BERT, generator), languages_T, positions_T, targets_T)
        for column, array in zip(columns, made, strict=True):
            column.append(torch.from_numpy(array))
    ids_BT, languages_BT, positions_BT, targets_BT = (
        pad_sequence(column, batch_first=True, padding_value=fill)
        for column, fill in zip(columns, (PAD, 0, 0, -100), strict=True)
    )
    return Cloze(ids_BT, ids_BT != PAD, languages_BT, positions_BT, targets_BT)


def pairs(rows: Sequence[tuple[Text, Text]], max_source: int, max_target: int) -> Pairs:
    """Sources and targets side by side."""
    sides = []
    for side, room in ((0, max_source), (1, max_target)):
        ids = [torch.from_numpy(framed(row[side].ids, room)) for row in rows]
        ids_BT = pad_sequence(ids, batch_first=True, padding_value=PAD)
        languages_B1 = torch.tensor([row[side].language for row in rows])[:, None]
        sides.append((ids_BT, languages_B1.expand_as(ids_BT)))
    (source_BS, source_languages_BS), (target_BT, target_languages_BT) = sides
    return Pairs(source_BS, source_BS != PAD, source_languages_BS, target_BT, target_languages_BT)


def cloze_loss(model: nn.Module, batch: Cloze) -> Loss:
    """Cross-entropy of the hidden tokens, summed, in nats."""
    assert isinstance(model, Xnlg)
    hidden_BTE = model.encode(batch.ids_BT, batch.valid_BT, batch.languages_BT, batch.positions_BT)
    is_hidden_BT = batch.targets_BT >= 0
    targets_N = batch.targets_BT[is_hidden_BT]
    total = nn.functional.cross_entropy(
        model.encoder.logits(hidden_BTE[is_hidden_BT]).float(), targets_N, reduction="sum"
    )
    return Loss(total, len(targets_N), samples=len(batch.ids_BT))


def pairs_loss(model: nn.Module, batch: Pairs) -> Loss:
    """Cross-entropy of every target token behind those before it, ``</s>`` at the end included, summed, in nats."""
    assert isinstance(model, Xnlg)
    memory_BSE = model.encode(batch.source_BS, batch.source_valid_BS, batch.source_languages_BS)
    hidden_BTE = model.decode(
        batch.target_BT[:, :-1], batch.target_languages_BT[:, :-1], memory_BSE, batch.source_valid_BS
    )
    labels_BT = batch.target_BT[:, 1:]
    is_real_BT = labels_BT != PAD
    labels_N = labels_BT[is_real_BT]
    logits_NV = model.decoder.logits(hidden_BTE[is_real_BT]).float()
    total = nn.functional.cross_entropy(logits_NV, labels_N, reduction="sum")
    return Loss(total, len(labels_N), samples=len(batch.source_BS))


class Noise:
    """DAE's noise on whole words: ``SHUFFLE``, ``DROP`` and ``BLANK``, in this order.

    A word begins at a piece with a sign for the space before it, or behind a piece that ends a word (fastBPE).
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        names = [tokenizer.engine.id_to_token(index) or "" for index in range(tokenizer.vocab_size)]
        self.begins_V = np.array([name.startswith(("Ġ", "▁")) for name in names])
        self.ends_V = np.array([name.endswith("</w>") for name in names])

    def words(self, ids_T: Ids) -> Ids:
        """The number of the word of each token, from 0."""
        after_end_T = np.concatenate([[False], self.ends_V[ids_T[:-1]]])
        begins_T = self.begins_V[ids_T] | after_end_T
        begins_T[:1] = False
        return begins_T.cumsum()

    def __call__(self, ids_T: Ids, generator: np.random.Generator) -> Ids:
        """The tokens with noise; at least one word is left."""
        if not len(ids_T):
            return ids_T
        word_T = self.words(ids_T)
        count = int(word_T[-1]) + 1
        place_W = np.arange(count) + generator.uniform(0, SHUFFLE, count)
        kept_W = generator.random(count) >= DROP
        if not kept_W.any():
            kept_W[generator.integers(count)] = True
        blank_W = generator.random(count) < BLANK
        order_T = place_W[word_T].argsort(kind="stable")
        noisy_T = np.where(blank_W[word_T], MASK, ids_T)[order_T]
        return noisy_T[kept_W[word_T[order_T]]]
