"""Sizes of Kosmos-1 (arXiv 2302.14045, section 2.2 and appendix A), which are those of Kosmos-2 but for positions."""

from __future__ import annotations

from multiway_vision_language.kosmos2.config import Kosmos2Config, TextConfig, TokenConfig, VisionConfig

KOSMOS_1 = Kosmos2Config(
    text=TextConfig(position_code="xpos", vocab_size=TokenConfig(grid_size=1).vocab_size),
    tokens=TokenConfig(grid_size=1),
)
"""About 1.6 B parameters. There are no location tokens; the shared layout of ids keeps the place of a single one."""

_TINY_TOKENS = TokenConfig(num_text_tokens=120, grid_size=1)
KOSMOS_1_TINY = Kosmos2Config(
    vision=VisionConfig(
        hidden_size=32, num_layers=2, num_heads=4, inner_size=64, patch_size=8, image_size=32
    ),
    text=TextConfig(
        hidden_size=48,
        num_layers=2,
        num_heads=4,
        inner_size=96,
        vocab_size=_TINY_TOKENS.vocab_size,
        max_positions=256,
        dropout=0.0,
        position_code="xpos",
    ),
    tokens=_TINY_TOKENS,
    num_queries=3,
)
"""For tests."""

PRESETS = {"kosmos-1": KOSMOS_1, "kosmos-1-tiny": KOSMOS_1_TINY}
