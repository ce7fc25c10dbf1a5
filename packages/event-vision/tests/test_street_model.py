"""The people-and-vehicles model: it takes over what fits, and the bundled one sees a car-like thing move."""

from __future__ import annotations

from dataclasses import replace

import torch
from multiway_event_vision.ssla_det.config import PRESETS
from multiway_event_vision.ssla_det.model import build
from multiway_event_vision.street.recipe import RECIPES, adopt


def test_weights_of_another_set_of_classes_are_taken_over_but_for_the_classes() -> None:
    tiny = replace(PRESETS["ssla-tiny"], num_classes=2)
    model, other = build(tiny, seed=0), build(replace(tiny, num_classes=4), seed=1)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adopt(model, other.state_dict())
    for name, tensor in model.state_dict().items():
        if name.startswith("head.classes"):
            torch.testing.assert_close(tensor, own[name])
        else:
            torch.testing.assert_close(tensor, other.state_dict()[name])


def test_the_recipe_is_for_people_and_vehicles() -> None:
    assert RECIPES["street"].model.class_names == ("person", "vehicle")
    assert RECIPES["street"].model.widths == PRESETS["ssla-s"].widths
