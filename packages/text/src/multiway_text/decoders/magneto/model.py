"""Magneto (arXiv 2210.06423, section 2): a norm before every linear map, and initial weights that grow with depth.

    x + output(LN(attention(LN(x))));  x + down(LN(gelu(up(LN(x)))))

Positions are xPos (arXiv 2212.10554). Beyond the trained length attention is blockwise (section 2.3 there): set
``model.decoder.block``, usually to ``config.block``.
"""

from __future__ import annotations

from functools import partial

import torch
from multiway_blocks.decoder import Decoder
from multiway_blocks.position import XPos
from multiway_blocks.residual_scaling import sub_norm_decoder
from multiway_blocks.text_decoder import CausalLM
from torch import nn

from multiway_text.decoders.magneto.config import MagnetoConfig


class Magneto(CausalLM):
    """The whole network."""

    def __init__(self, config: MagnetoConfig, *, dropout: float = 0.0) -> None:
        new_decoder = partial(
            Decoder,
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            inner_size=config.inner_size,
            sub_norm=True,
            attention_sub_norm=True,
            rotary=XPos(config.head_dim, scale_base=config.scale_base),
            eps=config.norm_eps,
            dropout=dropout,
        )
        super().__init__(config.vocab_size, config.hidden_size, new_decoder, tied=config.tied_embeddings)
        self.config = config
        initialize(self)


@torch.no_grad()
def initialize(model: Magneto) -> None:
    """Xavier's normal distribution, with gain sqrt(ln 2M) where sub-LN wants it (figure 2); biases 0."""
    gain = sub_norm_decoder(model.config.num_layers)
    for name, module in model.decoder.layers.named_modules():
        if isinstance(module, nn.Linear):
            grows = name.split(".")[-1] in ("value", "output", "up", "down")
            nn.init.xavier_normal_(module.weight, gain=gain if grows else 1.0)
            nn.init.zeros_(module.bias)
    scale = model.config.hidden_size**-0.5
    nn.init.normal_(model.embedding.weight, std=scale)
    if model.head is not None:
        nn.init.normal_(model.head.weight, std=scale)
