"""What ``train`` knows: the encoder's fine-tuning on spans, and a trial of it without data."""

from dataclasses import replace

from multiway_text.encoder.recipe import RECIPES as ENCODER
from multiway_text.encoder.recipe import Recipe

_SQUAD = ENCODER["extract"]
RECIPES: dict[str, Recipe] = {
    "squad": _SQUAD,
    # Half a minute on one core, on the documentation that comes with Python: shows that every part works.
    "smoke": replace(
        _SQUAD,
        base="",
        max_length=64,
        train=replace(_SQUAD.train, steps=60, warmup_steps=6, learning_rate=1e-3),
    ),
}
