"""Loads what a name stands for: a trained recommender, or a MIND folder, whose clicks then recommend."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch

from multiway_recsys.collaborative.recommender import LogRecommender
from multiway_recsys.data.mind import BEHAVIORS
from multiway_recsys.pipeline import NewsRecommender

Recommender: TypeAlias = NewsRecommender | LogRecommender


def from_pretrained(
    name: str = "bundled:news-portal",
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Recommender:
    """``bundled:NAME``, a folder that training wrote, a hub id, or a MIND folder.

    Raises as :meth:`NewsRecommender.from_pretrained` and :meth:`LogRecommender.from_folder`.
    """
    folder = Path(name)
    if any((place / BEHAVIORS).is_file() for place in (folder, folder / "train")):
        return LogRecommender.from_folder(folder)
    return NewsRecommender.from_pretrained(name, device=device, dtype=dtype)
