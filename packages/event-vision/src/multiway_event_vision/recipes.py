"""All recipes of detectors by name: what `multiway-event-detection train --preset` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from multiway_core.training import Recipe

from multiway_event_vision.baselines.recipe import RECIPES as DENSE
from multiway_event_vision.ssla_det.recipe import RECIPES as SSLA
from multiway_event_vision.street.recipe import RECIPES as STREET

RECIPES: Final[Mapping[str, Recipe]] = {**SSLA, **STREET, **DENSE}
