"""Scenes as training sees them: their things, and what the frozen part of the towers makes of the picture.

The towers' published parts do not change in training, so a picture is looked at once. Looks are kept in files of some
scenes each: tensors in half precision, things as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from multiway_core import files
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from multiway_vision_language.kosmos2_small.model import Kosmos2Small, TowerFeatures
from multiway_vision_language.scenes.scene import Scene, Thing

_AT_ONCE = 8
_SCENES = "scenes"


class Looks(NamedTuple):
    """Towers' features of B pictures, and the scenes without their pixels."""

    towers: TowerFeatures
    scenes: list[Scene]

    def rows(self, rows: slice | list[int]) -> Looks:
        """Some of them, features in single precision and with channels last, as convolutions train fastest."""
        index = list(range(len(self.scenes)))[rows] if isinstance(rows, slice) else rows
        parts = [part[index].float().contiguous(memory_format=torch.channels_last) for part in self.towers]
        return Looks(TowerFeatures(*parts), [self.scenes[row] for row in index])


@torch.inference_mode()
def look_at(model: Kosmos2Small, scenes: Sequence[Scene]) -> Looks:
    """Look at scenes through the towers, which ought to be in channels-last form."""
    parts: list[TowerFeatures] = []
    for start in range(0, len(scenes), _AT_ONCE):
        pixels = np.stack([scene.picture for scene in scenes[start : start + _AT_ONCE]])
        features = model.look(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
        parts.append(TowerFeatures(*(part.contiguous().half() for part in features)))
    towers = TowerFeatures(*(torch.cat(rows) for rows in zip(*parts, strict=True)))
    return Looks(towers, [scene.without_picture() for scene in scenes])


def write_looks(looks: Looks, path: Path) -> None:
    """One file, whole or not at all."""
    tensors: dict[str, Tensor] = looks.towers._asdict()
    described = []
    for scene in looks.scenes:
        fields = asdict(scene)
        del fields["picture"]
        described.append(fields)
    files.write_bytes(path, save(tensors, metadata={_SCENES: json.dumps(described)}))


def read_looks(path: Path) -> Looks:
    """What :func:`write_looks` wrote."""
    with safe_open(path, framework="pt") as file:
        towers = TowerFeatures(*(file.get_tensor(name) for name in TowerFeatures._fields))
        described = json.loads(file.metadata()[_SCENES])
    nothing = np.empty((0, 0, 3), np.uint8)
    scenes = []
    for fields in described:
        things = tuple(Thing(**{**thing, "box": tuple(thing["box"])}) for thing in fields.pop("things"))
        scenes.append(Scene(nothing, things, **{**fields, "captions": tuple(fields["captions"])}))
    return Looks(towers, scenes)
