"""BitNet b1.58 (arXiv 2504.12285, section 2): a LLaMA-like decoder whose linear maps are ternary.

    x + output(norm(attention(qkv(norm(x)))));  x + down(norm(relu(gate)^2 * up)) with gate, up = gate_up(norm(x))

There is a norm before every linear map (sub-LN), no bias anywhere, and rotary positions in LLaMA's order of halves. The
same network is built of two kinds of layers: of master weights, which train (``packed=False``), and of two bits a
weight, which run (``packed=True``).

Shape suffixes: B batch, T new tokens, S all tokens so far, H query heads, K key-value heads, D head dim, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from multiway_blocks.attention import attend
from multiway_blocks.bitlinear import BitLinear, QuantizedRows, RMSNormQuantize, TernaryLinear
from multiway_blocks.causal import CausalStack
from multiway_blocks.norm import RMSNorm
from multiway_blocks.position import Rotary
from multiway_blocks.text_decoder import CausalLM
from multiway_blocks.transformer import Context, Contextual, PreNorm
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_text.decoders.bitnet.config import BitNetConfig
from multiway_text.decoders.bitnet.step import DecodingStep


def _linear(in_features: int, outputs: int | Sequence[int], packed: bool) -> BitLinear | TernaryLinear:
    return TernaryLinear(in_features, outputs) if packed else BitLinear(in_features, outputs)


def _norm(config: BitNetConfig, size: int, packed: bool) -> RMSNorm | RMSNormQuantize:
    """The norm before a linear map, which in the packed form quantises as well."""
    return (RMSNormQuantize if packed else RMSNorm)(size, eps=config.norm_eps)


class Attention(Contextual):
    """Grouped-query attention with a norm before its output map."""

    def __init__(self, config: BitNetConfig, packed: bool, rotary: Rotary) -> None:
        super().__init__()
        self.head_dim, self.num_kv_heads = config.head_dim, config.num_kv_heads
        keys = config.num_kv_heads * config.head_dim
        self.sizes = (config.hidden_size, keys, keys)
        self.qkv = _linear(config.hidden_size, self.sizes, packed)
        self.rotary = rotary
        self.norm = _norm(config, config.hidden_size, packed)
        self.output = _linear(config.hidden_size, config.hidden_size, packed)

    def forward(
        self,
        x_BTE: Tensor | QuantizedRows,
        context: Context,
        layer: int,
    ) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        # Queries and keys stand side by side, and are rotated at once: a step has little else to do for them.
        rotated, value = self.qkv(x_BTE).split((self.sizes[0] + self.sizes[1], self.sizes[2]), dim=-1)
        heads = [size // self.head_dim for size in self.sizes[:2]]
        rotation, _ = context.rotations(self.rotary)
        query_BHTD, key_BKSD = self.rotary.rotate(self._heads(rotated), rotation).split(heads, dim=1)
        value_BKSD = self._heads(value)
        if context.cache is not None:
            key_BKSD, value_BKSD = context.cache.update(layer, key_BKSD, value_BKSD)
        mixed_BHTD = attend(query_BHTD, key_BKSD, value_BKSD, context.mask, causal=context.causal)
        return self.output(self.norm(mixed_BHTD.transpose(1, 2).flatten(2)))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class FeedForward(nn.Module):
    """``down(norm(activation(gate) * up))``."""

    def __init__(self, config: BitNetConfig, packed: bool) -> None:
        super().__init__()
        self.squared_relu = config.activation == "relu2"
        self.gate_up = _linear(config.hidden_size, (config.inner_size, config.inner_size), packed)
        self.norm = _norm(config, config.inner_size, packed)
        self.down = _linear(config.inner_size, config.hidden_size, packed)

    def forward(self, x_BTE: Tensor | QuantizedRows) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        gate, up = self.gate_up(x_BTE).chunk(2, dim=-1)
        gate = nn.functional.relu(gate).square() if self.squared_relu else nn.functional.silu(gate)
        return self.down(self.norm(gate * up))


def new_layer(config: BitNetConfig, packed: bool, rotary: Rotary) -> PreNorm:
    """One block of the residual stream. ``rotary`` is that of all layers."""
    norms = (_norm(config, config.hidden_size, packed), _norm(config, config.hidden_size, packed))
    return PreNorm(Attention(config, packed, rotary), FeedForward(config, packed), norms)


class BitNetStack(CausalStack):
    """The layers; a step of one token a row goes through machine code where there is some."""

    def __init__(self, config: BitNetConfig, packed: bool) -> None:
        norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        rotary = Rotary(config.head_dim, theta=config.rope_theta)
        super().__init__((new_layer(config, packed, rotary) for _ in range(config.num_layers)), norm)
        self.step = DecodingStep(config, self.layers)

    def forward(  # type: ignore[override]
        self,
        x_BTE: Tensor,
        valid_BT: Tensor | None = None,
        cache: StaticKVCache | None = None,
        **options: Any,
    ) -> Tensor:
        """As `CausalStack` has it."""
        if valid_BT is None and cache is not None and self.step.suits(x_BTE, cache):
            return self.norm(self.step(x_BTE, cache))
        return super().forward(x_BTE, valid_BT, cache, **options)


class BitNet(CausalLM):
    """The whole network."""

    def __init__(self, config: BitNetConfig, *, packed: bool = True) -> None:
        super().__init__(
            config.vocab_size,
            config.hidden_size,
            lambda: BitNetStack(config, packed),
            tied=config.tied_embeddings,
        )
        self.config = config

    def decode_each(self, tokens_BT: Sequence[Tensor], caches: Sequence[StaticKVCache]) -> list[Tensor]:
        """As `CausalLM` has it; single tokens of all sequences are one step, which reads the weights once."""
        x_BTE, step = [self.embed(tokens) for tokens in tokens_BT], self.decoder.step
        if len({x.shape[1] for x in x_BTE}) == 1 and step.suits(x_B1E := torch.cat(x_BTE), *caches):
            logits_BV = self.logits(self.decoder.norm(step(x_B1E, *caches))[:, -1]).float()
            return list(logits_BV.split([len(x) for x in x_BTE]))
        return super().decode_each(tokens_BT, caches)
