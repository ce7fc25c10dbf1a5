"""RetNet (arXiv 2307.08621, section 2): multi-scale retention and gated feed-forward networks, RMSNorm before both.

    x + retention(norm(x));  x + down(gelu(gate(x')) * up(x')) with x' = norm(x)

One network in three forms, which compute the same: training and scoring in parallel inside chunks of ``config.chunk``
tokens (one chunk is the paper's parallel form), a prompt chunk by chunk, further tokens recurrently.

Shape suffixes: B batch, T new tokens, E hidden size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from multiway_blocks.causal import CausalStack
from multiway_blocks.feedforward import Activation, GatedFeedForward
from multiway_blocks.norm import RMSNorm
from multiway_blocks.retention import Retention
from multiway_blocks.state_cache import StateCache
from multiway_blocks.text_decoder import CausalLM
from multiway_blocks.transformer import Context, PreNorm
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_text.decoders.retnet.config import RetNetConfig

_ACTIVATIONS: dict[str, Activation] = {"gelu": nn.functional.gelu, "swish": nn.functional.silu}


def _layer(config: RetNetConfig) -> PreNorm:
    size, eps = config.hidden_size, config.norm_eps
    retention = Retention(size, config.num_heads, value_size=config.value_size, eps=eps, chunk=config.chunk)
    feedforward = GatedFeedForward(size, config.inner_size, activation=_ACTIVATIONS[config.activation])
    return PreNorm(retention, feedforward, (RMSNorm(size, eps), RMSNorm(size, eps)))


class RetentionStack(CausalStack):
    """Layers whose past is a state: retention knows by itself what a token sees."""

    def context(self, valid_BT: Tensor, cache: StaticKVCache | None, *args: Any) -> Context:
        """What the layers are told."""
        if cache is not None and not isinstance(cache, StateCache):
            raise TypeError(f"RetNet needs a cache of its own (new_cache), not a {type(cache).__name__}")
        if cache is not None:
            cache.require(valid_BT.shape[1])
        return Context(cache=cache, valid_BT=valid_BT)

    def new_cache(self, batch_size: int, max_length: int, like: Tensor | None = None) -> StateCache:
        """An empty cache. ``max_length`` bounds the tokens that are counted; memory hardly depends on it."""
        return StateCache(len(self.layers), batch_size, max_length, next(self.parameters()))


class RetNet(CausalLM):
    """The whole network."""

    def __init__(self, config: RetNetConfig) -> None:
        norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        layers = (_layer(config) for _ in range(config.num_layers))
        new_decoder = partial(RetentionStack, layers, norm)
        super().__init__(config.vocab_size, config.hidden_size, new_decoder, tied=config.tied_embeddings)
        self.config = config
        nn.init.normal_(self.embedding.weight, std=config.hidden_size**-0.5)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=config.hidden_size**-0.5)
