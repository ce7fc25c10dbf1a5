"""All recipes of interpolation by name: what `multiway-frame-interpolation train --preset` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from multiway_core.training import Recipe

from multiway_event_vision.frame_fusion.recipe import RECIPES as FUSION
from multiway_event_vision.time_replayer.recipe import RECIPES as TIME_REPLAYER

RECIPES: Final[Mapping[str, Recipe]] = {**FUSION, **TIME_REPLAYER}
