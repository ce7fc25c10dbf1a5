"""Sizes of BEiT-3 (arXiv 2208.10442, table 11; the released models have experts for everything)."""

from __future__ import annotations

from dataclasses import replace

from multiway_vision_language.multiway.config import MultiwayConfig

VOCABULARY = 64_010
BOS, PAD, EOS, UNK, MASK = 0, 1, 2, 3, 64_001
"""Ids of `beit3.spm` behind fairseq's offset; ids above `MASK` are unused."""

BASE = MultiwayConfig(VOCABULARY, hidden_size=768, num_layers=12, num_heads=12, inner_size=3072)
LARGE = replace(BASE, hidden_size=1024, num_layers=24, num_heads=16, inner_size=4096)
GIANT = replace(
    BASE,
    hidden_size=1408,
    num_layers=40,
    num_heads=16,
    inner_size=6144,
    patch_size=14,
    partition="feedforward",
    pair_layers=3,
)
"""The paper's: shared attention, pictures with words in the last three layers. It was never released."""
SMALL = replace(
    BASE, vocab_size=4096, hidden_size=192, num_layers=6, num_heads=6, inner_size=768, image_size=96,
    patch_size=12, max_text=62,
)  # fmt: skip
"""For training on one CPU."""
TINY = replace(SMALL, vocab_size=512, hidden_size=48, num_layers=2, num_heads=4, inner_size=96, image_size=48)
"""For `--preset smoke`."""

PRESETS = {"base": BASE, "large": LARGE, "giant": GIANT, "small": SMALL, "tiny": TINY}
