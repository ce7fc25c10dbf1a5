"""LongNet (arXiv 2307.02486): a Magneto decoder with xPos whose attention is dilated.

    x + output(norm(dilated(norm(x)))),  x + down(norm(gelu(up(norm(x)))))

Shape suffixes: B batch, T new tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from multiway_blocks.attention import padding_mask
from multiway_blocks.causal import token_positions
from multiway_blocks.dilated import DilatedAttention, SegmentCache
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.linear import project
from multiway_blocks.position import Rotary, XPos
from multiway_blocks.transformer import Context, PreNorm
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from multiway_text.longnet.config import LongNetConfig

STREAM_CHUNK = 16_384


class LongNet(nn.Module):
    """The whole network, with the calls of the decode loop."""

    def __init__(self, config: LongNetConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(_layer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.head = None
        if not config.tied_embeddings:
            self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        initialize(self)

    def hidden(
        self,
        tokens_BT: Tensor,
        valid_BT: Tensor | None = None,
        cache: StaticKVCache | SegmentCache | None = None,
    ) -> Tensor:
        """States (B, T, E) behind the last norm of new tokens behind what the cache holds.

        ``valid`` (B, T) bool is False at padding, which stands on the left; None: all are real.
        """
        self._check(tokens_BT)
        mask = positions_BT = None
        padded = valid_BT is not None and not bool(valid_BT.all())
        if valid_BT is None:
            valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        if padded:
            mask = padding_mask(valid_BT)
        if padded or isinstance(cache, StaticKVCache):
            positions_BT = token_positions(valid_BT, cache if isinstance(cache, StaticKVCache) else None)
        x_BTE = self.embedding(tokens_BT)
        context = Context(mask, positions_BT, cache)
        for index, layer in enumerate(self.layers):
            x_BTE = layer(x_BTE, context, index)
        if isinstance(cache, SegmentCache):
            cache.advance(tokens_BT.shape[1])
        elif cache is not None:
            cache.advance(valid_BT)
        return self.norm(x_BTE)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., E) -> (..., V)."""
        return project(hidden, self.embedding.weight if self.head is None else self.head.weight)

    def forward(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of the token that follows each."""
        return self.logits(self.hidden(tokens_BT, valid_BT))

    def new_cache(self, batch_size: int, max_length: int) -> StaticKVCache:
        """An empty cache of all keys and values, for the decode loop. Raises InputError beyond the context."""
        config, weight = self.config, self.embedding.weight
        if max_length > config.max_positions:
            raise InputError(
                f"sequence too long: {max_length} tokens are asked for and LongNet's context has "
                f"{config.max_positions}; shorten the prompt or lower max_new_tokens"
            )
        return StaticKVCache(
            config.num_layers,
            batch_size,
            config.num_heads,
            config.head_dim,
            max_length,
            dtype=weight.dtype,
            device=weight.device,
        )

    def prefill(self, tokens_BT: Tensor, cache: StaticKVCache, valid_BT: Tensor | None = None) -> Tensor:
        """Read prompts, padded on the left where ``valid`` is False; float logits (B, V) of the first new token."""
        cache.require(tokens_BT.shape[1])
        return self.logits(self.hidden(tokens_BT, valid_BT, cache)[:, -1]).float()

    def decode(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        """Read further tokens behind the cache; float logits (B, V) of the next one."""
        return self.logits(self.hidden(tokens_BT, cache=cache)[:, -1]).float()

    @torch.inference_mode()
    def stream(self, tokens_BT: Tensor, *, chunk: int = STREAM_CHUNK) -> Iterator[Tensor]:
        """States (B, C, E) behind the last norm, chunk by chunk, of a sequence that may be very long.

        Memory depends on the chunk and on the sum of segment length / dilation, not on the number of tokens: the
        layers keep the kept tokens of running segments only.
        """
        config, weight = self.config, self.embedding.weight
        if tokens_BT.shape[1] > config.max_positions:
            raise InputError(
                f"sequence too long: {tokens_BT.shape[1]} tokens, and LongNet's context has {config.max_positions}"
            )
        cache = SegmentCache(
            config.num_layers,
            len(tokens_BT),
            config.num_heads,
            config.head_dim,
            config.branches,
            head_offset=config.head_offset,
            dtype=weight.dtype,
            device=weight.device,
        )
        for start in range(0, tokens_BT.shape[1], chunk):
            yield self.hidden(tokens_BT[:, start : start + chunk], cache=cache)

    def split_sequence(self, group: ProcessGroup | None) -> None:
        """From now on every process of ``group`` calls the model with its own part of the tokens; None: no more.

        The loss of a process is of its own part, so gradients of weights are to be summed over the processes.
        """
        for layer in self.layers:
            attention, _ = _parts(layer)
            attention.sequence_group = group

    def _check(self, tokens_BT: Tensor) -> None:
        if tokens_BT.shape[1] == 0:
            raise InputError("empty prompt: a language model needs at least one token to continue")
        if tokens_BT.shape[1] > self.config.max_positions:
            raise InputError(
                f"prompt too long: {tokens_BT.shape[1]} tokens, and LongNet's context has {self.config.max_positions}"
            )


def _layer(config: LongNetConfig) -> PreNorm:
    rotary: Rotary
    if config.position == "xpos":
        rotary = XPos(config.head_dim, scale_base=config.xpos_scale_base, centre=config.reach // 2)
    else:
        rotary = Rotary(config.head_dim, interleaved=True)
    attention = DilatedAttention(
        config.hidden_size,
        config.num_heads,
        config.branches,
        causal=True,
        head_offset=config.head_offset,
        grad_through_mix=config.grad_through_mix,
        mask_padding=config.mask_padding,
        rotary=rotary,
        sub_norm=True,
        eps=config.norm_eps,
    )
    feedforward = FeedForward(config.hidden_size, config.inner_size, sub_norm=True, eps=config.norm_eps)
    norms = (nn.LayerNorm(config.hidden_size, eps=config.norm_eps) for _ in range(2))
    return PreNorm(attention, feedforward, (next(norms), next(norms)))


def _parts(layer: nn.Module) -> tuple[DilatedAttention, FeedForward]:
    """A layer's attention and feed-forward network, with their types."""
    assert isinstance(layer, PreNorm)
    assert isinstance(layer.attention, DilatedAttention)
    assert isinstance(layer.feedforward, FeedForward)
    return layer.attention, layer.feedforward


def initialize(model: LongNet) -> None:
    """Xavier, and Magneto's factor sqrt(ln(2 layers)) on values, outputs and feed-forward maps (arXiv 2210.06423)."""
    factor = math.sqrt(math.log(2 * len(model.layers)))
    nn.init.normal_(model.embedding.weight, std=model.config.hidden_size**-0.5)
    for layer in model.layers:
        attention, feedforward = _parts(layer)
        for linear, gain in (
            (attention.query, 2**-0.5),
            (attention.key, 2**-0.5),
            (attention.value, 2**-0.5 * factor),
            (attention.output, factor),
            (feedforward.up, factor),
            (feedforward.down, factor),
        ):
            nn.init.xavier_uniform_(linear.weight, gain=gain)
            nn.init.zeros_(linear.bias)
