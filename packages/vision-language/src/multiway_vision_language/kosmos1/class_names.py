"""Naming what a picture shows from a closed list, as a search over the names' tokens (arXiv 2302.14045, section 4.7).

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from multiway_core.errors import InputError
from multiway_core.generation import StatefulConstraint
from torch import LongTensor, Tensor

Trie = dict[int, "Trie"]


class OnlyNames(StatefulConstraint):
    """Allows only tokens that continue one of many sequences, each of which is followed by ``</s>``.

    Args:
        names: token ids of each name.
        eos: id of ``</s>``.

    Raises InputError for an empty list or an empty name.
    """

    name = "class_names"

    def __init__(self, names: Sequence[Sequence[int]], eos: int) -> None:
        if not names or not all(names):
            raise InputError("class names are empty")
        self.eos = eos
        self.root: Trie = {}
        for tokens in names:
            node = self.root
            for token in [*tokens, eos]:
                node = node.setdefault(int(token), {})
        self.places: list[Trie] = []

    def start(self, batch_size: int, device: torch.device) -> None:
        self.places = [self.root] * batch_size

    def __call__(self, tokens_BT: LongTensor | Tensor, logits_BV: Tensor) -> Tensor:
        forbidden_BV = torch.ones_like(logits_BV, dtype=torch.bool)
        for row, place in enumerate(self.places):
            forbidden_BV[row, list(place)] = False
        return logits_BV.masked_fill(forbidden_BV, float("-inf"))

    def observe(self, tokens_B: Tensor) -> Iterable[int]:
        # A beam that search has given up keeps a token that leads nowhere; it is not asked again.
        self.places = [
            place.get(token, place) for place, token in zip(self.places, tokens_B.tolist(), strict=True)
        ]
        return ()

    def select(self, rows: Tensor) -> None:
        self.places = [self.places[row] for row in rows.tolist()]
