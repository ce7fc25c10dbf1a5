"""The presets of ``train`` and ``pretrain``: those of LongViT, with slides read by OpenSlide."""

from __future__ import annotations

import dataclasses

from multiway_vision_language.longvit.recipe import RECIPES as LONGVIT

from multiway_pathology.slides import open_slide

RECIPES = {name: dataclasses.replace(recipe, open_slide=open_slide) for name, recipe in LONGVIT.items()}
