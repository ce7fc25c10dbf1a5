"""GLORY and the released GLoCIM for one reader, written out in plain NumPy loops from their formulas.

It reads the tensors by their published names, so that it checks the name tables together with the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from multiway_recsys.glocim.features import Features
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


class Reference:
    """``weights``: a published state dictionary. ``senders[i]``: the predecessors of news i, strongest first."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        features: Features,
        senders: Sequence[Sequence[int]],
        *,
        heads: int,
        title_length: int,
        hops: int,
        per_hop: int,
    ) -> None:
        self.weights = {name: tensor.double().numpy() for name, tensor in weights.items()}
        self.features, self.senders = features, senders
        self.heads, self.title_length, self.hops, self.per_hop = heads, title_length, hops, per_hop
        self.is_glocim = "feature_gate.f_dense.weight" in self.weights
        self.width = len(self.weights["user_encoder.atte.module_0.W_V.bias"])

    def linear(self, name: str, x: Array) -> Array:
        y = x @ self.weights[f"{name}.weight"].T
        bias = self.weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def norm(self, name: str, x: Array) -> Array:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-5) * self.weights[f"{name}.weight"] + self.weights[
            f"{name}.bias"
        ]

    def attend(self, name: str, x: Array, mask: NDArray[np.bool_], heads: int) -> Array:
        query, key, value = (self.linear(f"{name}.{part}", x) for part in ("W_Q", "W_K", "W_V"))
        size = query.shape[1] // heads
        result = np.zeros_like(query)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(len(x)):
                weight = (
                    np.array([np.exp(query[i, part] @ key[j, part] / np.sqrt(size)) for j in range(len(x))])
                    * mask
                )
                weight = weight / (weight.sum() + 1e-8)
                for j in range(len(x)):
                    result[i, part] += weight[j] * value[j, part]
        return result

    def pool(self, name: str, x: Array, mask: NDArray[np.bool_]) -> Array:
        weight = (
            np.exp(self.linear(f"{name}.att_fc2", np.tanh(self.linear(f"{name}.att_fc1", x)))[:, 0]) * mask
        )
        weight = weight / (weight.sum() + 1e-8)
        return sum((weight[i] * x[i] for i in range(len(x))), np.zeros(x.shape[1]))

    def block(self, name: str, x: Array, heads: int, mask: NDArray[np.bool_] | None = None) -> Array:
        mask = np.ones(len(x), bool) if mask is None else mask
        tokens = self.norm(f"{name}.module_2", self.attend(f"{name}.module_1", x, mask, heads))
        return self.norm(f"{name}.module_5", self.pool(f"{name}.module_4", tokens, mask))

    def local(self, news: int) -> Array:
        words = self.weights["local_news_encoder.word_encoder.weight"]
        assert self.features.tokens is not None
        title = words[self.features.tokens[news, : self.title_length]]
        if not self.is_glocim:
            return self.block("local_news_encoder.attention", title, self.heads)
        title_vector = self.block("local_news_encoder.attetio", title, self.heads)
        category, subcategory = (
            words[self.features.categories[news]],
            words[self.features.subcategories[news]],
        )
        joined = np.concatenate([title_vector, category, subcategory])[None]
        # One token: whatever the number of heads.
        return self.linear(
            "local_news_encoder.last_encoder", self.block("local_news_encoder.attention", joined, 1)
        )

    def graph(self, local: dict[int, Array], nodes: list[int]) -> dict[int, Array]:
        name = "global_news_short_encoder" if self.is_glocim else "global_news_encoder"
        name += ".module_0"
        state = {node: local[node] for node in nodes}
        for matrix in self.weights[f"{name}.weight"]:
            received = {node: np.zeros(self.width) for node in nodes}
            for node in nodes:
                for sender in self.senders[node]:
                    if sender in state:
                        received[node] = received[node] + state[sender] @ matrix
            state = {node: self.gru(f"{name}.rnn", received[node], state[node]) for node in nodes}
        return state

    def gru(self, name: str, x: Array, h: Array) -> Array:
        gi = self.weights[f"{name}.weight_ih"] @ x + self.weights[f"{name}.bias_ih"]
        gh = self.weights[f"{name}.weight_hh"] @ h + self.weights[f"{name}.bias_hh"]
        d = self.width
        reset = 1 / (1 + np.exp(-(gi[:d] + gh[:d])))
        update = 1 / (1 + np.exp(-(gi[d : 2 * d] + gh[d : 2 * d])))
        new = np.tanh(gi[2 * d :] + reset * gh[2 * d :])
        return (1 - update) * new + update * h

    def local_entities(self, news: int) -> Array:
        table = self.weights["entity_embedding_layer.weight"]
        assert self.features.entities is not None
        name = "local_entity_encoder.module_1.atte"
        heads = table.shape[1] // (self.width // self.heads)
        return leaky(
            self.linear(f"{name}.module_6", self.block(name, table[self.features.entities[news]], heads))
        )

    def candidate(self, news: int) -> Array:
        assert self.features.entities is not None
        assert self.features.entity_neighbours is not None
        around = np.concatenate(
            [
                self.features.entity_neighbours[entity] * (entity > 0)
                for entity in self.features.entities[news]
            ]
        )
        table = self.weights["entity_embedding_layer.weight"]
        neighbours = self.block("global_entity_encoder.module_1.atte", table[around], self.heads, around > 0)
        views = np.stack([self.local(news), self.local_entities(news), neighbours])
        pooled = self.pool("candidate_encoder.atte.module_1", views, np.ones(3, bool))
        return leaky(self.linear("candidate_encoder.atte.module_2", pooled))

    def scores(self, history: Sequence[int], candidates: Sequence[int], places: int) -> list[float]:
        """``history`` oldest first; ``places``: to how many clicks it is padded."""
        nodes = list(dict.fromkeys(history))
        frontier = nodes
        for _ in range(self.hops):
            frontier = [sender for node in frontier for sender in self.senders[node][: self.per_hop]]
            nodes = list(dict.fromkeys(nodes + frontier))
        local = {node: self.local(node) for node in nodes}
        neighbour = self.graph(local, nodes)
        fused = [neighbour[news] for news in history]
        if self.is_glocim:
            fused = self.gated(history, fused, places)
        clicks = []
        for news, interest in zip(history, fused, strict=True):
            views = np.stack([local[news], interest, self.local_entities(news)])
            clicks.append(self.pool("click_encoder.atte.module_1", views, np.ones(3, bool)))
        everything = np.ones(len(clicks), bool)
        mixed = self.attend("user_encoder.atte.module_0", np.stack(clicks), everything, self.heads)
        user = self.pool("user_encoder.atte.module_1", mixed, everything)
        return [float(self.candidate(news) @ user) for news in candidates]

    def gated(self, history: Sequence[int], neighbour: list[Array], places: int) -> list[Array]:
        assert self.features.chains is not None
        hops = 10
        slots = np.zeros((places, hops, self.width))
        first = places - len(history)
        for place, news in enumerate(history):
            for hop, step in enumerate(self.features.chains[news, 0, :hops]):
                if step:
                    slots[first + place, hop] = self.local(int(step))
        name = "global_news_long_encoder.attt"
        flat = slots.reshape(-1, self.width)
        mixed = self.norm(
            f"{name}.module_4", self.attend(f"{name}.module_1", flat, np.ones(len(flat), bool), self.heads)
        )
        result = []
        for place, interest in enumerate(neighbour):
            chain = mixed[(first + place) * hops : (first + place + 1) * hops]
            long = self.norm(f"{name}.module_7", self.pool(f"{name}.module_6", chain, np.ones(hops, bool)))
            joined = np.concatenate([interest, long])
            gate = 1 / (1 + np.exp(-self.linear("feature_gate.g_dense", joined)))
            result.append(gate * interest + (1 - gate) * np.tanh(self.linear("feature_gate.f_dense", joined)))
        return result


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.2 * x)
