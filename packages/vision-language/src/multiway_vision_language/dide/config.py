"""Sizes of DiDE's towers, which are those of its teacher ViLT (arXiv 2102.03334)."""

from __future__ import annotations

from dataclasses import replace

from multiway_vision_language.multiway.text_first import TextFirstConfig

VILT = TextFirstConfig(
    vocab_size=30_522,
    hidden_size=768,
    num_layers=12,
    num_heads=12,
    inner_size=3072,
    image_size=384,
    patch_size=32,
    max_text=40,
    partition="none",
    sub_norm=False,
    norm_eps=1e-12,
    relative_bias=False,
)
SMALL = replace(
    VILT, vocab_size=4096, hidden_size=192, num_layers=6, num_heads=6, inner_size=768, image_size=96, patch_size=12,
    norm_eps=1e-6,
)  # fmt: skip
"""For training on one CPU."""
TINY = replace(SMALL, vocab_size=512, hidden_size=48, num_layers=2, num_heads=4, inner_size=96, image_size=48)
"""For `--preset smoke`."""

PRESETS = {"base": VILT, "small": SMALL, "tiny": TINY}
