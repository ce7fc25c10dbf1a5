"""Loads the network that a folder's ``model_type`` names."""

from __future__ import annotations

import torch
from multiway_core import config, hub
from multiway_core.errors import CheckpointError

from multiway_vision_language.kosmos2 import checkpoint as kosmos2
from multiway_vision_language.kosmos2.model import Kosmos2
from multiway_vision_language.kosmos2.processor import Kosmos2Processor
from multiway_vision_language.kosmos2_small import checkpoint as kosmos2_small

LOADERS = {
    kosmos2.LAYOUT.model_type: kosmos2.load_pretrained,
    kosmos2_small.MODEL_TYPE: kosmos2_small.load_pretrained,
}
"""``model_type`` of a folder's ``config.json`` -> what loads model and processor."""


def load_pretrained(
    name: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[Kosmos2, Kosmos2Processor]:
    """The model ``name`` (``bundled:NAME``, a folder, or a hub id) and its processor, in evaluation mode.

    Raises :class:`ModelNotFoundError`, :class:`ConfigError` or :class:`CheckpointError`.
    """
    folder = hub.resolve(name, revision=revision, allow_patterns=["config.json"])
    path = folder / "config.json"
    # The original kosmos-2.pt comes without a config.
    kind = config.read_json(path).get("model_type") if path.is_file() else kosmos2.LAYOUT.model_type
    if kind not in LOADERS:
        raise CheckpointError(f"{path}: model_type is {kind!r}; there are: {', '.join(LOADERS)}")
    return LOADERS[kind](name, revision=revision, dtype=dtype, device=device)
