"""RetNet (arXiv 2307.08621, section 2): multi-scale retention and gated feed-forward networks, RMSNorm before both.

    x + retention(norm(x));  x + down(gelu(gate(x')) * up(x')) with x' = norm(x)

One network in three forms, which compute the same: training and scoring in parallel inside chunks of ``config.chunk``
tokens (one chunk is the paper's parallel form), a prompt chunk by chunk, further tokens recurrently.

Shape suffixes: B batch, T new tokens, E hidden size.
"""

from __future__ import annotations

import torch
from multiway_blocks.feedforward import Activation, GatedFeedForward
from multiway_blocks.norm import RMSNorm
from multiway_blocks.retention import Retention, RetentionState
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_text.causal_lm import CausalLM
from multiway_text.retnet.cache import RetentionCache
from multiway_text.retnet.config import RetNetConfig

_ACTIVATIONS: dict[str, Activation] = {"gelu": nn.functional.gelu, "swish": nn.functional.silu}


class Layer(nn.Module):
    """One block of the residual stream."""

    def __init__(self, config: RetNetConfig) -> None:
        super().__init__()
        self.retention_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.retention = Retention(
            config.hidden_size,
            config.num_heads,
            value_size=config.value_size,
            eps=config.norm_eps,
            chunk=config.chunk,
        )
        self.feedforward_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.feedforward = GatedFeedForward(
            config.hidden_size, config.inner_size, activation=_ACTIVATIONS[config.activation]
        )

    def forward(
        self, x_BTE: Tensor, valid_BT: Tensor, state: RetentionState | None
    ) -> tuple[Tensor, RetentionState]:
        """(B, T, E) -> (B, T, E), and the next state."""
        y_BTE, state = self.retention(self.retention_norm(x_BTE), state, valid_BT)
        x_BTE = x_BTE + y_BTE
        return x_BTE + self.feedforward(self.feedforward_norm(x_BTE)), state


class RetNet(CausalLM):
    """The whole network."""

    def __init__(self, config: RetNetConfig) -> None:
        super().__init__(config, (Layer(config) for _ in range(config.num_layers)))
        self.config = config
        nn.init.normal_(self.embedding.weight, std=config.hidden_size**-0.5)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=config.hidden_size**-0.5)

    def hidden(
        self, tokens_BT: Tensor, valid_BT: Tensor | None = None, cache: StaticKVCache | None = None
    ) -> Tensor:
        """Hidden states (B, T, E) of new tokens behind the cache's states; padding stands on the left."""
        if valid_BT is None:
            valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        if cache is not None and not isinstance(cache, RetentionCache):
            raise TypeError(f"RetNet needs a cache of its own (new_cache), not a {type(cache).__name__}")
        if cache is not None:
            cache.require(tokens_BT.shape[1])
        x_BTE = self.embedding(tokens_BT)
        for index, layer in enumerate(self.layers):
            x_BTE, state = layer(x_BTE, valid_BT, None if cache is None else cache.states[index])
            if cache is not None:
                cache.states[index] = state
        if cache is not None:
            cache.advance(valid_BT)
        return self.norm(x_BTE)

    def new_cache(self, batch_size: int, max_length: int) -> RetentionCache:
        """An empty cache. ``max_length`` bounds the tokens that are counted; memory hardly depends on it."""
        return RetentionCache(self.config.num_layers, batch_size, max_length, like=self.embedding.weight)
