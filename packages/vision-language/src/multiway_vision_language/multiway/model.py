"""One Transformer that reads pictures, texts, and pictures with texts.

Shape suffixes: B batch, C channels, H height, W width, N patches, T text tokens, S tokens of the image and the text
together (image first), E hidden size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from multiway_blocks.attention import padding_mask
from multiway_blocks.position import LearnedPositions
from multiway_blocks.transformer import Context, Stack
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_vision_language.multiway.config import MultiwayConfig
from multiway_vision_language.multiway.embeddings import OFFSET, ImageEmbedding
from multiway_vision_language.multiway.experts import image_then_text, new_layer, new_norm


class Encoded(NamedTuple):
    """``hidden_BSE``: the last layer; ``split``: how many of the tokens are the image's, which stand first."""

    hidden_BSE: Tensor
    split: int

    @property
    def image_class_BE(self) -> Tensor:
        """The picture's class token; of a text alone its first token."""
        return self.hidden_BSE[:, 0]

    @property
    def text_class_BE(self) -> Tensor:
        """The text's first token."""
        return self.hidden_BSE[:, self.split]


class MultiwayTransformer(nn.Module):
    """Embeddings, and a stack of layers with experts. The split between the modalities is an argument of each call."""

    def __init__(self, config: MultiwayConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.text_embedding = nn.Embedding(config.vocab_size, width)
        self.image_embedding = ImageEmbedding(config)
        self.image_positions = LearnedPositions(config.image_tokens + OFFSET, width)
        self.text_positions = LearnedPositions(config.max_text + OFFSET, width)
        self.stack = Stack(
            (new_layer(config, index) for index in range(config.num_layers)),
            new_norm(config) if config.final_norm else None,
        )
        initialize(self)
        with (
            torch.no_grad()
        ):  # BEiT, section 2.2: what enters the residual stream of layer l is divided by sqrt(2 l)
            for index, layer in enumerate(self.stack.layers, 1):
                for name, parameter in layer.named_parameters():
                    if parameter.ndim == 2 and (
                        "output." in name or ".down." in name or "down.weight" in name
                    ):
                        parameter.div_((2 * index) ** 0.5)

    def forward(
        self,
        tokens_BT: Tensor | None = None,
        pixels_BCHW: Tensor | None = None,
        *,
        valid_BT: Tensor | None = None,
        hidden_patches_BN: Tensor | None = None,
        mask: Tensor | None = None,
        first_position: int = 0,
        cache: Any = None,
    ) -> Encoded:
        """Encode texts, pictures, or both.

        Args:
            tokens_BT: int64. valid_BT: bool, False for padding, which nothing sees; all real by default.
            pixels_BCHW: float pictures.
            hidden_patches_BN: bool, patches that are masked.
            mask: who sees whom beside padding: bool, broadcastable to (B, H, S, S with the cache's tokens).
            first_position: of the first text token.
            cache: what earlier tokens left behind; the caller advances it.

        Raises InputError: neither is given, pictures of another size, or a text that is too long.
        """
        parts, visible = [], []
        split = 0
        if pixels_BCHW is not None:
            image_BNE = self.image_embedding(pixels_BCHW, hidden_patches_BN)
            split = image_BNE.shape[1]
            parts.append(image_BNE + self.image_positions.weight[OFFSET:])
            visible.append(torch.ones(image_BNE.shape[:2], dtype=torch.bool, device=image_BNE.device))
        if tokens_BT is not None:
            end = first_position + tokens_BT.shape[1]
            if end > self.config.max_text:
                raise InputError(f"{end} text tokens; this model has positions for {self.config.max_text}")
            positions = self.text_positions.weight[OFFSET + first_position : OFFSET + end]
            text_BTE = self.text_embedding(tokens_BT) + positions
            if valid_BT is None:
                valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
            else:
                text_BTE = text_BTE * valid_BT[..., None]
            parts.append(text_BTE)
            visible.append(valid_BT)
        if not parts:
            raise InputError("neither a text nor a picture was given")
        x_BSE = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        if cache is None:
            valid_BS = torch.cat(visible, dim=1)
            if not bool(valid_BS.all()):
                seen = padding_mask(valid_BS)
                mask = seen if mask is None else mask & seen
        context = Context(mask, cache=cache, segments=image_then_text(split, x_BSE.shape[1]))
        return Encoded(self.stack(x_BSE, context), split)


def initialize(module: nn.Module) -> None:
    """Matrices, tables and tokens N(0, 0.02), cut at two; biases 0 (BEiT, section 3.1)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=0.02, a=-0.04, b=0.04)
            bias = getattr(part, "bias", None)
            if bias is not None:
                nn.init.zeros_(bias)
        elif isinstance(part, ImageEmbedding):
            nn.init.trunc_normal_(part.class_token, std=0.02)
            if part.mask_token is not None:
                nn.init.trunc_normal_(part.mask_token, std=0.02)
