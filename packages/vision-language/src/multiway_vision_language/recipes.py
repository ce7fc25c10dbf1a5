"""All presets of `multiway-grounding train`."""

from __future__ import annotations

from typing import Final

from multiway_vision_language.kosmos2_small.recipe import RECIPES as GROUNDING
from multiway_vision_language.tasks.pretraining import RECIPES as PRETRAINING
from multiway_vision_language.tasks.recipe import RECIPES as PAIRS

RECIPES: Final = {**GROUNDING, **PAIRS, **PRETRAINING}
