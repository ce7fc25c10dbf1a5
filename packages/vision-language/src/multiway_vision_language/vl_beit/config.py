"""Sizes of VL-BEiT: the Multiway network with shared attention, trained in one stage by `multiway.pretraining`.

Of the paper only its abstract was at hand: base size, the pair experts of the last two layers and the shares of masking
are those of its successor and of VLMo.
"""

from __future__ import annotations

from dataclasses import replace

from multiway_vision_language.multiway.config import MultiwayConfig

BASE = MultiwayConfig(
    vocab_size=64_010,
    hidden_size=768,
    num_layers=12,
    num_heads=12,
    inner_size=3072,
    partition="feedforward",
    pair_layers=2,
    sub_norm=False,
    norm_eps=1e-6,
)
SMALL = replace(
    BASE, vocab_size=4096, hidden_size=192, num_layers=6, num_heads=6, inner_size=768, image_size=96, patch_size=12,
    max_text=62,
)  # fmt: skip
"""For training on one CPU."""

TINY = replace(SMALL, vocab_size=512, hidden_size=48, num_layers=2, num_heads=4, inner_size=96, image_size=48)
"""For `--preset pretrain-smoke`."""

PRESETS = {"base": BASE, "small": SMALL, "tiny": TINY}
