"""Sizes of VLMo (the released configurations)."""

from __future__ import annotations

from dataclasses import replace

from multiway_vision_language.multiway.text_first import TextFirstConfig

BASE = TextFirstConfig(
    vocab_size=30_522,
    hidden_size=768,
    num_layers=12,
    num_heads=12,
    inner_size=3072,
    max_text=40,
    partition="feedforward",
    pair_layers=2,
    sub_norm=False,
    key_bias=False,
    layer_scale=0.1,
    norm_eps=1e-6,
)
BASE_PLUS = replace(
    BASE,
    hidden_size=544,
    num_layers=24,
    num_heads=16,
    inner_size=2176,
    pair_layers=3,
    relative_bias=False,
    layer_scale=0.0,
)
LARGE = replace(BASE, hidden_size=1024, num_layers=24, num_heads=16, inner_size=4096, pair_layers=3)
SMALL = replace(
    BASE, vocab_size=4096, hidden_size=192, num_layers=6, num_heads=6, inner_size=768, image_size=96, patch_size=12
)  # fmt: skip
"""For training on one CPU."""
TINY = replace(SMALL, vocab_size=512, hidden_size=48, num_layers=3, num_heads=4, inner_size=96, image_size=48)
"""For `--preset smoke`."""

PRESETS = {"base": BASE, "base_plus": BASE_PLUS, "large": LARGE, "small": SMALL, "tiny": TINY}
