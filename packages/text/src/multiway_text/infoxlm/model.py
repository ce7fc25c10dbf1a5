"""The network: a masked language model, and the momentum copy of its lower layers that makes the keys of the contrast.

Shape suffixes: B items, T tokens, N keys of the queue, E width.
"""

from __future__ import annotations

import copy

import torch
from multiway_blocks.contrastive import MomentumQueue, momentum_update
from multiway_blocks.linear import Linear
from multiway_blocks.text_encoder import TextEncoder
from torch import Tensor, nn

from multiway_text.encoder.heads import MaskedLM
from multiway_text.infoxlm.config import Contrast

_PROJECTION_STD = 0.02


class InfoXLM(nn.Module):
    """A masked language model with what the contrast needs.

    It is trained without dropout (appendix A of the paper): its encoders stay in evaluation mode, so that the dropout
    of ``config.json`` is that of fine-tuning. Raises InputError: the encoder has no layer ``contrast.layer``.
    """

    def __init__(self, lm: MaskedLM, contrast: Contrast) -> None:
        super().__init__()
        self.lm, self.contrast = lm, contrast
        width = lm.encoder.config.hidden_size
        self.layer = contrast.layer_of(lm.encoder.config.num_layers)
        lower = self.lower()
        self.projection = Linear(width, width, bias=False)
        nn.init.normal_(self.projection.weight, std=_PROJECTION_STD)
        self.key_encoder = self.key_projection = self.queue = None
        if contrast.queue_size:
            self.key_encoder = copy.deepcopy(lower).requires_grad_(False)
            self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)
            self.queue = MomentumQueue(contrast.queue_size, width)
        self.held_keys: list[Tensor] = []

    def train(self, mode: bool = True) -> InfoXLM:
        """Of the model as a whole, which then keeps keys; its encoders stay without dropout."""
        super().train(mode)
        self.lm.eval()
        if self.key_encoder is not None:
            self.key_encoder.eval()
        return self

    def lower(self) -> TextEncoder:
        """The trained encoder up to the middle layer."""
        return self.lm.encoder.first_layers(self.layer)

    def query(self, tokens_BT: Tensor, valid_BT: Tensor) -> Tensor:
        """The projected state of ``<s>`` in the middle layer, (B, E)."""
        return self.projection(self.lower()(tokens_BT, valid_BT).hidden_BTE[:, 0])

    def key(self, tokens_BT: Tensor, valid_BT: Tensor) -> Tensor:
        """The same by the momentum encoder, without gradients; without a queue by the trained encoder."""
        if self.key_encoder is None or self.key_projection is None:
            return self.query(tokens_BT, valid_BT)
        with torch.no_grad():
            return self.key_projection(self.key_encoder(tokens_BT, valid_BT).hidden_BTE[:, 0])

    def sentence(self, tokens_BT: Tensor, valid_BT: Tensor) -> Tensor:
        """The mean of a text's tokens in the middle layer, (B, E): what sentence retrieval compares."""
        hidden_BTE = self.lower()(tokens_BT, valid_BT).hidden_BTE
        weight_BT1 = valid_BT[..., None].to(hidden_BTE.dtype)
        return (hidden_BTE * weight_BT1).sum(1) / weight_BT1.sum(1)

    def update_key_encoder(self) -> None:
        """Move the momentum encoder and its projection towards the trained ones."""
        if self.key_encoder is not None and self.key_projection is not None:
            momentum_update(self.key_encoder, self.lower(), self.contrast.momentum)
            momentum_update(self.key_projection, self.projection, self.contrast.momentum)

    def push_keys(self) -> None:
        """Put the keys of a step into the queue, those of all processes; every process calls it."""
        if self.queue is not None and self.held_keys:
            self.queue.push(torch.cat(self.held_keys))
        self.held_keys = []
