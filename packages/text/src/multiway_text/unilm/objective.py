"""UniLM's four cloze tasks (Dong et al. 2019, arXiv 1905.03197, sections 2.3 and 2.4), told apart by mask and segments.

==============  =================  ==============================================  =============
task            share of a batch   who sees whom                                   segment ids
==============  =================  ==============================================  =============
bidirectional   1/3                all                                             0 and 1
left_to_right   1/6                tokens before, and itself                       2
right_to_left   1/6                tokens behind, and itself                       3
seq2seq         1/3                source all of the source; target also what      4 and 5
                                   stands before in the target
==============  =================  ==============================================  =============

Every task predicts hidden tokens at their own places with the same output layer. Next-sentence prediction is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from multiway_blocks.masks import Role
from multiway_core.errors import ConfigError, InputError

from multiway_text.data.corruption import Ids, Masking, Vocabulary, choose_spans, corrupt
from multiway_text.data.masked_batch import NO_TARGET, Part

SHARES: Mapping[str, float] = {
    "bidirectional": 1 / 3,
    "left_to_right": 1 / 6,
    "right_to_left": 1 / 6,
    "seq2seq": 1 / 3,
}
SEGMENTS: Mapping[str, tuple[int, int]] = {
    "mlm": (0, 0),
    "bidirectional": (0, 1),
    "left_to_right": (2, 2),
    "right_to_left": (3, 3),
    "seq2seq": (4, 5),
}
"""Segment ids of the first and the second part; "mlm" is BERT's task on one segment."""


def cloze(
    text_T: Ids, task: str, vocabulary: Vocabulary, masking: Masking, generator: np.random.Generator
) -> list[Part]:
    """A row of a task from the ids of a text of at least two tokens.

    ``[CLS] S1 [SEP] S2 [SEP]``, cut at a random place, where the task has two segments, else ``[CLS] S1 [SEP]``.
    Special tokens are not hidden, but for the ``[SEP]`` that ends a target: so a model learns where to stop.
    """
    if task not in SEGMENTS:
        raise ConfigError(f"unknown task {task!r}; there are: {', '.join(SEGMENTS)}")
    if len(text_T) < 2:
        raise InputError(f"a cloze needs a text of at least 2 tokens, not {len(text_T)}")
    cls, sep = [vocabulary.cls_id], [vocabulary.sep_id]
    is_pair = task in ("bidirectional", "seq2seq")
    cut = int(generator.integers(1, len(text_T))) if is_pair else len(text_T)
    ids_T = np.concatenate([cls, text_T[:cut], sep, *([text_T[cut:], sep] if is_pair else [])])
    source = cut + 2  # tokens of [CLS] S1 [SEP]
    maskable_T = np.ones(len(ids_T), bool)
    maskable_T[[0, source - 1, -1]] = False, False, task == "seq2seq"
    places = [place for span in choose_spans(maskable_T, masking, generator) for place in span]
    targets_T = np.full(len(ids_T), NO_TARGET)
    targets_T[places] = ids_T[places]
    positions_T = np.arange(len(ids_T))
    row = {
        "ids_T": corrupt(ids_T, places, vocabulary, masking, generator),
        "targets_T": targets_T,
        "positions_T": positions_T,
        "types_T": np.where(positions_T < source, *SEGMENTS[task]),
        "steps_T": -positions_T if task == "right_to_left" else positions_T,
    }
    if task != "seq2seq":
        one_way = task in ("left_to_right", "right_to_left")
        return [Part(Role.TRUE if one_way else Role.CONTEXT, **row)]
    return [
        Part(role, **{name: values[part] for name, values in row.items()})
        for role, part in ((Role.CONTEXT, slice(source)), (Role.TRUE, slice(source, None)))
    ]
