"""LongNet (arXiv 2307.02486): a Magneto decoder with xPos whose attention is dilated.

    x + output(norm(dilated(norm(x)))),  x + down(norm(gelu(up(norm(x)))))

Shape suffixes: B batch, T new tokens, E hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from multiway_blocks.attention import padding_mask
from multiway_blocks.causal import CausalStack, token_positions
from multiway_blocks.dilated import DilatedAttention, SegmentCache
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.position import Rotary, XPos
from multiway_blocks.text_decoder import CausalLM
from multiway_blocks.transformer import Context, PreNorm, Stack
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from multiway_text.decoders.longnet.config import LongNetConfig

STREAM_CHUNK = 16_384


class DilatedStack(CausalStack):
    """Layers that know by themselves who sees whom; they are told where padding is."""

    def forward(  # type: ignore[override]
        self,
        x_BTE: Tensor,
        valid_BT: Tensor | None = None,
        cache: StaticKVCache | SegmentCache | None = None,
    ) -> Tensor:
        """As `CausalStack` has it; a cache of segments takes no padding."""
        if isinstance(cache, SegmentCache):
            y_BTE = Stack.forward(self, x_BTE, Context(cache=cache))
            cache.advance(x_BTE.shape[1])
            return y_BTE
        return super().forward(x_BTE, valid_BT, cache)

    def context(self, valid_BT: Tensor, cache: StaticKVCache | None, *args: Any) -> Context:
        """What the layers are told."""
        if cache is not None:
            cache.require(valid_BT.shape[1])
        padded = not bool(valid_BT.all())
        positions_BT = token_positions(valid_BT, cache) if padded or cache is not None else None
        return Context(padding_mask(valid_BT) if padded else None, positions_BT, cache)


class LongNet(CausalLM):
    """The whole network."""

    def __init__(self, config: LongNetConfig) -> None:
        norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        layers = (_layer(config) for _ in range(config.num_layers))
        super().__init__(
            config.vocab_size,
            config.hidden_size,
            partial(DilatedStack, layers, norm),
            tied=config.tied_embeddings,
            max_positions=config.max_positions,
        )
        self.config = config
        initialize(self)

    @torch.inference_mode()
    def stream(self, tokens_BT: Tensor, *, chunk: int = STREAM_CHUNK) -> Iterator[Tensor]:
        """States (B, C, E) behind the last norm, chunk by chunk, of a sequence that may be very long.

        Memory depends on the chunk and on the sum of segment length / dilation, not on the number of tokens: the
        layers keep the kept tokens of running segments only.
        """
        config, weight = self.config, self.embedding.weight
        self.require_positions(tokens_BT.shape[1])
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
            yield self.decoder(self.embed(tokens_BT[:, start : start + chunk]), cache=cache)

    def split_sequence(self, group: ProcessGroup | None) -> None:
        """From now on every process of ``group`` calls the model with its own part of the tokens; None: no more.

        The loss of a process is of its own part, so gradients of weights are to be summed over the processes.
        """
        for layer in self.decoder.layers:
            attention, _ = _parts(layer)
            attention.sequence_group = group


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
    factor = math.sqrt(math.log(2 * len(model.decoder.layers)))
    nn.init.normal_(model.embedding.weight, std=model.config.hidden_size**-0.5)
    for layer in model.decoder.layers:
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
