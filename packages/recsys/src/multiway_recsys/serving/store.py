"""Vectors of the news and the index over them, kept beside a model so that it serves at once.

serving/vectors.safetensors    what `Glocim.encode_news` gives
serving/index.usearch          the index of what may be shown at the model's own moment, where it is approximate
serving/made_from.json         digests of the files that they were made from; where those differ, nothing is used
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from multiway_core import config as configs
from multiway_core import tensor_files
from multiway_core.errors import ConfigError
from multiway_core.files import replace_folder, sha256, write_text
from safetensors.torch import save_file

from multiway_recsys.glocim.model import ClickedNews, EncodedNews
from multiway_recsys.serving.folder import FEATURES, GRAPH, TrainedRecommender
from multiway_recsys.serving.index import NewsIndex

FOLDER, VECTORS, INDEX, MADE_FROM = "serving", "vectors.safetensors", "index.usearch", "made_from.json"
_CANDIDATES = "candidates_NE"


@dataclass(frozen=True)
class Stored:
    """What was kept."""

    encoded: EncodedNews
    index_path: Path | None


def save(folder: Path, encoded: EncodedNews, index: NewsIndex) -> None:
    """Write ``folder/serving``; what was there is replaced. Raises OutputError."""
    folder = Path(folder)
    tensors = {_CANDIDATES: encoded.candidates_NE}
    for item in fields(ClickedNews):
        tensor = getattr(encoded.clicked, item.name)
        if tensor is not None:
            tensors[item.name] = tensor
    with replace_folder(folder / FOLDER, overwrite=True) as temporary:
        copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        save_file(copies, temporary / VECTORS)
        index.save(temporary / INDEX)
        write_text(temporary / MADE_FROM, json.dumps(_digests(folder), indent=2) + "\n")


def load(folder: Path, parts: TrainedRecommender, *, device: torch.device | str = "cpu") -> Stored | None:
    """What :func:`save` kept for these files; None where there is nothing, or it is of other files."""
    kept = Path(folder) / FOLDER
    try:
        if not (kept / MADE_FROM).is_file() or configs.read_json(kept / MADE_FROM) != _digests(Path(folder)):
            return None
    except (ConfigError, OSError):
        return None
    dtype = next(parts.model.parameters()).dtype
    stored = tensor_files.read(kept / VECTORS).items()
    tensors = {name: x.to(device, dtype if x.is_floating_point() else None) for name, x in stored}
    candidates_NE = tensors.pop(_CANDIDATES)
    if len(candidates_NE) != len(parts.news):
        return None
    index_path = kept / INDEX
    return Stored(
        EncodedNews(ClickedNews(**tensors), candidates_NE), index_path if index_path.is_file() else None
    )


def _digests(folder: Path) -> dict[str, str]:
    names = ("config.json", "model.safetensors", FEATURES, f"{GRAPH}/indices.npy", f"{GRAPH}/weights.npy")
    return {name: sha256(folder / name) for name in names}
