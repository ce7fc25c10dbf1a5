"""The backbones and cells as a closed-vocabulary detector: the result of the first training stage.

It is the baseline that the whole network is compared with: equal in size but for the decoder, deaf to relations.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from multiway_core import files
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from multiway_vision_language.kosmos2_small.model import Kosmos2Small
from multiway_vision_language.kosmos2_small.objective import NameTable
from multiway_vision_language.locations import NormalBox

_TABLE = "names.safetensors"


class NameDetector:
    """Where a picture shows things of known names."""

    def __init__(self, model: Kosmos2Small, names: NameTable) -> None:
        self.model = model
        self.names = names

    @torch.inference_mode()
    def find(self, pixels_BCHW: Tensor, name: str) -> tuple[NormalBox, float]:
        """The box of the cell that is surest of a name, and how sure it is. ``pixels``: of one picture, 0 to 255."""
        _, keys_BNK, boxes_BN4 = self.model.encode(self.model.extract_features(pixels_BCHW))
        chances_N = self.names(keys_BNK[0]).softmax(-1)[:, self.names.numbers[name]]
        cell = int(chances_N.argmax())
        left, top, right, bottom = (boxes_BN4[0, cell] / self.model.grid_size).tolist()
        return (left, top, right, bottom), float(chances_N[cell])


def save_names(names: NameTable, folder: Path) -> None:
    """Write the table beside a model."""
    known: Sequence[str] = sorted(names.numbers, key=names.numbers.__getitem__)
    tensors = {name: tensor.contiguous() for name, tensor in names.state_dict().items()}
    files.write_bytes(folder / _TABLE, save(tensors, metadata={"names": json.dumps(known)}))


def load_names(folder: Path) -> NameTable:
    """What :func:`save_names` wrote."""
    with safe_open(folder / _TABLE, framework="pt") as file:
        known = json.loads(file.metadata()["names"])
    tensors = load_file(folder / _TABLE)
    names = NameTable(known, tensors["rows"].shape[1])
    names.load_state_dict(tensors)
    return names.eval()
