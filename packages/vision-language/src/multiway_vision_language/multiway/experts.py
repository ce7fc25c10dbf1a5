"""The layers of a Multiway Transformer (BEiT-3, arXiv 2208.10442, figure 2; VLMo, arXiv 2111.02358, figure 1).

Attention is joint in all of them; `MultiwayConfig.partition` says which modules the modalities own.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

from multiway_blocks.attention import Attention
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.linear import Linear
from multiway_blocks.transformer import Context, LayerScale, ModalityExperts, PreNorm, Segment
from torch import Tensor, nn

from multiway_vision_language.multiway.config import MultiwayConfig

IMAGE, TEXT, PAIR = "image", "text", "pair"
_ATTENTION_PARTS = ("query", "key", "value", "output", "norm")


def image_then_text(split: int, tokens: int) -> list[Segment]:
    """Segments of ``split`` image tokens and the text behind them; either may be empty."""
    parts = [(0, split, IMAGE), (split, tokens, TEXT)]
    return [part for part in parts if part[1] > part[0]]


class PairLayer(PreNorm):
    """A layer in which the tokens of a picture with a text share the expert "pair"."""

    def forward(self, x_BTE: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, E). One modality alone keeps its own expert."""
        if context.segments is not None and len(context.segments) > 1:
            context = dataclasses.replace(context, segments=[(0, x_BTE.shape[1], PAIR)])
        return super().forward(x_BTE, context, layer)


def per_modality(module: nn.Module, experts: Sequence[str]) -> ModalityExperts:
    """A copy of the module for every expert."""
    return ModalityExperts(lambda: copy.deepcopy(module), experts)


def new_norm(config: MultiwayConfig) -> nn.Module:
    """The norm behind the last layer."""
    norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
    return per_modality(norm, (IMAGE, TEXT)) if config.partition == "all" else norm


def new_layer(config: MultiwayConfig, index: int) -> PreNorm:
    """The layer with that index from 0."""
    width, eps = config.hidden_size, config.norm_eps
    is_pair = index >= config.num_layers - config.pair_layers
    experts = (IMAGE, TEXT, PAIR) if is_pair else (IMAGE, TEXT)
    attention: nn.Module = Attention(width, config.num_heads, bias=True, sub_norm=config.sub_norm, eps=eps)
    if not config.key_bias:
        attention.key = Linear(width, width, bias=False)
    feedforward: nn.Module = FeedForward(width, config.inner_size, sub_norm=config.sub_norm, eps=eps)
    norms: list[nn.Module] = [nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)]
    if config.partition != "none":
        feedforward, norms[1] = per_modality(feedforward, experts), per_modality(norms[1], experts)
    if config.partition == "all":
        norms[0] = per_modality(norms[0], experts)
        for name in _ATTENTION_PARTS:
            part = getattr(attention, name)
            if not isinstance(part, nn.Identity):
                setattr(attention, name, per_modality(part, experts))
    if config.layer_scale:
        attention = LayerScale(attention, width, initial=config.layer_scale)
        feedforward = LayerScale(feedforward, width, initial=config.layer_scale)
    drop_path = config.drop_path * index / max(1, config.num_layers - 1)
    kind = PairLayer if is_pair else PreNorm
    return kind(attention, feedforward, (norms[0], norms[1]), drop_path=drop_path)


def layer_decay(config: MultiwayConfig, decay: float, *, backbone: str) -> dict[str, float]:
    """What the learning rate of parameters is multiplied with, by the beginning of their names (BEiT, section 3.1).

    Embeddings ``decay ** (layers + 1)``, layer i ``decay ** (layers - i)``, heads and the last norm 1. ``backbone`` is
    the name of the `MultiwayTransformer` inside the model that is trained.
    """
    names = ("text_embedding.", "image_embedding.", "image_positions.", "text_positions.")
    ratios = {f"{backbone}.{name}": decay ** (config.num_layers + 1) for name in names}
    for index in range(config.num_layers):
        ratios[f"{backbone}.stack.layers.{index}."] = decay ** (config.num_layers - index)
    return ratios
