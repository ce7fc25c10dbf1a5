"""Magneto (arXiv 2210.06423, section 2): a norm before every linear map, and initial weights that grow with depth.

    x + output(LN(attention(LN(x))));  x + down(LN(gelu(up(LN(x)))))

Positions are xPos (arXiv 2212.10554). Beyond the trained length attention is blockwise (section 2.3 there): set
``model.block``, usually to ``config.block``.

Shape suffixes: B batch, T new tokens, S all tokens so far, E hidden size.
"""

from __future__ import annotations

import torch
from multiway_blocks.causal import causal_visibility
from multiway_blocks.decoder import decoder_layer
from multiway_blocks.position import XPos
from multiway_blocks.residual_scaling import sub_norm_decoder
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_text.causal_lm import CausalLM
from multiway_text.magneto.config import MagnetoConfig


class Magneto(CausalLM):
    """The whole network. ``block``: length of the blocks of attention; None lets every token see all before it."""

    def __init__(self, config: MagnetoConfig, *, dropout: float = 0.0) -> None:
        xpos = XPos(config.head_dim, scale_base=config.scale_base)
        super().__init__(
            config,
            (
                decoder_layer(
                    config.hidden_size,
                    config.num_heads,
                    config.inner_size,
                    sub_norm=True,
                    attention_sub_norm=True,
                    rotary=xpos,
                    eps=config.norm_eps,
                    dropout=dropout,
                )
                for _ in range(config.num_layers)
            ),
            norm=nn.LayerNorm(config.hidden_size, eps=config.norm_eps),
        )
        self.config = config
        self.block: int | None = None
        initialize(self)

    def visibility(self, valid_BT: Tensor, cache: StaticKVCache | None) -> Tensor | None:
        """Causal, and in blocks if there are any."""
        return causal_visibility(valid_BT, cache, block=self.block)


@torch.no_grad()
def initialize(model: Magneto) -> None:
    """Xavier's normal distribution, with gain sqrt(ln 2M) where sub-LN wants it (figure 2); biases 0."""
    gain = sub_norm_decoder(model.config.num_layers)
    for name, module in model.layers.named_modules():
        if isinstance(module, nn.Linear):
            grows = name.split(".")[-1] in ("value", "output", "up", "down")
            nn.init.xavier_normal_(module.weight, gain=gain if grows else 1.0)
            nn.init.zeros_(module.bias)
    scale = model.config.hidden_size**-0.5
    nn.init.normal_(model.embedding.weight, std=scale)
    if model.head is not None:
        nn.init.normal_(model.head.weight, std=scale)
