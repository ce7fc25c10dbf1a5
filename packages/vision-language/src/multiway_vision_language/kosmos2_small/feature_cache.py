"""The feature cache of training: what the frozen backbones give for a scene, beside the scene's objects.

The backbones' published weights do not change in training, so their features are computed once. A file holds some
scenes: features in half precision, objects as JSON.
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

from multiway_vision_language.kosmos2_small.model import BackboneFeatures, Kosmos2Small
from multiway_vision_language.scenes.scene import Scene, Thing

_AT_ONCE = 8
_SCENES = "scenes"


class CachedFeatures(NamedTuple):
    """Features of B pictures, and the scenes without their pixels."""

    backbones: BackboneFeatures
    scenes: list[Scene]

    def rows(self, rows: slice | list[int]) -> CachedFeatures:
        """Some of them, features in single precision and with channels last, as convolutions train fastest."""
        index = list(range(len(self.scenes)))[rows] if isinstance(rows, slice) else rows
        parts = [part[index].float().contiguous(memory_format=torch.channels_last) for part in self.backbones]
        return CachedFeatures(BackboneFeatures(*parts), [self.scenes[row] for row in index])


@torch.inference_mode()
def extract_features(model: Kosmos2Small, scenes: Sequence[Scene]) -> CachedFeatures:
    """Features of scenes; the backbones ought to be in channels-last form."""
    parts: list[BackboneFeatures] = []
    for start in range(0, len(scenes), _AT_ONCE):
        pixels = np.stack([scene.picture for scene in scenes[start : start + _AT_ONCE]])
        features = model.extract_features(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
        parts.append(BackboneFeatures(*(part.contiguous().half() for part in features)))
    backbones = BackboneFeatures(*(torch.cat(rows) for rows in zip(*parts, strict=True)))
    return CachedFeatures(backbones, [scene.without_picture() for scene in scenes])


def write_features(cached: CachedFeatures, path: Path) -> None:
    """One file, whole or not at all."""
    tensors: dict[str, Tensor] = cached.backbones._asdict()
    described = []
    for scene in cached.scenes:
        fields = asdict(scene)
        del fields["picture"]
        described.append(fields)
    files.write_bytes(path, save(tensors, metadata={_SCENES: json.dumps(described)}))


def read_features(path: Path) -> CachedFeatures:
    """What :func:`write_features` wrote."""
    with safe_open(path, framework="pt") as file:
        backbones = BackboneFeatures(*(file.get_tensor(name) for name in BackboneFeatures._fields))
        described = json.loads(file.metadata()[_SCENES])
    nothing = np.empty((0, 0, 3), np.uint8)
    scenes = []
    for fields in described:
        things = tuple(Thing(**{**thing, "box": tuple(thing["box"])}) for thing in fields.pop("things"))
        scenes.append(Scene(nothing, things, **{**fields, "captions": tuple(fields["captions"])}))
    return CachedFeatures(backbones, scenes)
