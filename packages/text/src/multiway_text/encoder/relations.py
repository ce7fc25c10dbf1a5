"""What relation distillation compares, for people to look at: who attends to whom, and who is like whom.

Shape suffixes: H relation heads, T tokens, D width of a head, R width of a relation head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_text.encoder.sentence import SentenceModel

Relation = Literal["attention", "queries", "keys", "values"]
RELATIONS: tuple[Relation, ...] = ("attention", "queries", "keys", "values")


@dataclass(frozen=True)
class Relations:
    """Of one text: the tokens, and (T, T) float32, each row adding up to 1, the mean over the relation heads."""

    tokens: tuple[str, ...]
    probabilities_TT: NDArray[np.float32]


@torch.inference_mode()
def relations(
    model: SentenceModel, text: str, relation: Relation, *, layer: int = 0, heads: int = 12
) -> Relations:
    """The relation of a text's tokens inside a layer, counted from 1; 0 is the last (MiniLMv2, section 3.1).

    ``heads``: relation heads, which divide the width. Raises InputError: they do not, or there is no such layer.
    """
    config = model.encoder.config
    layer = layer or config.num_layers
    if not 1 <= layer <= config.num_layers:
        raise InputError(f"layer {layer}: the model has layers 1 to {config.num_layers}")
    if heads < 1 or config.hidden_size % heads:
        raise InputError(f"{heads} relation heads do not divide a width of {config.hidden_size}")
    ids = model.tokenizer.add_special_tokens(model.tokenizer.encode(text))[0][: model.max_length]
    tokens_BT = torch.tensor([ids], device=model.encoder.token_embedding.weight.device)
    valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
    states = model.encoder(tokens_BT, valid_BT, hidden_states=True).hidden_states
    parts = model.encoder.q_k_v(layer - 1, states[layer - 1])
    query, key, value = (part[0].transpose(0, 1).flatten(1).float() for part in parts)  # (T, width)
    first, second = {
        "attention": (query, key),
        "queries": (query, query),
        "keys": (key, key),
        "values": (value, value),
    }[relation]
    first_HTR, second_HTR = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in (first, second))
    scores_HTT = first_HTR @ second_HTR.mT / first_HTR.shape[2] ** 0.5
    names = tuple(model.tokenizer.decode_token(index).strip() or "·" for index in ids)
    return Relations(names, scores_HTT.softmax(-1).mean(0).cpu().numpy())


def divergence(teacher: Relations, student: Relations) -> float:
    """Mean over the tokens of KL(teacher || student) in nats. Raises InputError: other tokens."""
    if teacher.probabilities_TT.shape != student.probabilities_TT.shape:
        raise InputError(
            "the two models cut the text into other tokens, so that their relations cannot be compared"
        )
    one, other = teacher.probabilities_TT, np.maximum(student.probabilities_TT, 1e-12)
    return float((one * np.log(np.maximum(one, 1e-12) / other)).sum(1).mean())
