"""Rows for new pieces: the mean of the old pieces that a new one was made of until now (a word's bias begins at 0)."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from multiway_blocks.text_encoder import TextEncoder
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from torch import nn

from multiway_text.adalm.vocabulary import segment
from multiway_text.encoder.heads import MaskedLM

Model = TypeVar("Model", TextEncoder, MaskedLM)


@torch.no_grad()
def extend(model: Model, before: TextTokenizer, after: TextTokenizer) -> Model:
    """The model, in place, with a row for every token of ``after``; texts without new pieces give the same outputs.

    InputError: ``after`` does not begin as ``before``, or the model has other rows than ``before`` has tokens.
    """
    encoder = model.encoder if isinstance(model, MaskedLM) else model
    old, new = (tokenizer.library.get_vocab() for tokenizer in (before, after))
    rows = encoder.token_embedding.weight
    if any(new.get(piece) != index for piece, index in old.items()):
        raise InputError("the new vocabulary renumbers old pieces; it must begin with all of them")
    if len(rows) != before.vocab_size:
        raise InputError(f"the model has {len(rows)} rows and its tokenizer {before.vocab_size} tokens")
    means = []
    for piece, _ in sorted(new.items(), key=lambda item: item[1])[len(rows) :]:
        parts = segment(piece.removeprefix("##"), old, inside=piece.startswith("##"))
        means.append(rows[[old[part] for part in parts]].mean(0))
    if means:
        table = torch.cat([rows, torch.stack(means)])
        encoder.token_embedding = nn.Embedding.from_pretrained(table, freeze=False)
        encoder.config = replace(encoder.config, vocab_size=len(table))
        if isinstance(model, MaskedLM):
            bias = model.head.get_parameter("bias")
            model.head.bias = nn.Parameter(torch.cat([bias, bias.new_zeros(len(means))]))
    return model
