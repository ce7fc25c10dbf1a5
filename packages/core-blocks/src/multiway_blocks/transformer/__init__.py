"""The residual block families that every Transformer here is built of, and the stack of them.

A block is given its mixer, its feed-forward network and its norms as modules:

    PreNorm     x + mixer(norm(x));          x + feedforward(norm(x))             LLaMA, Qwen, CLIP, Magneto, RetNet
    PostNorm    norm(a x + mixer(x));        norm(a x + feedforward(x))           BERT, XLM; DeepNorm with a > 1

Magneto's sub-LN stands inside the mixer and the feed-forward network. `ModalityExperts` and `LayerScale` wrap either of
them; so Multiway, VLMo and BEiT-3 need no block of their own.
"""

from multiway_blocks.transformer.blocks import PostNorm, PreNorm
from multiway_blocks.transformer.context import Context, Contextual, apply
from multiway_blocks.transformer.layer_scale import LayerScale
from multiway_blocks.transformer.modality_experts import ModalityExperts, Segment
from multiway_blocks.transformer.stack import Stack

__all__ = [
    "Context",
    "Contextual",
    "LayerScale",
    "ModalityExperts",
    "PostNorm",
    "PreNorm",
    "Segment",
    "Stack",
    "apply",
]
