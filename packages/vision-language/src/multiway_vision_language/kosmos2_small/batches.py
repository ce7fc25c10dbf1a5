"""Batches for the small network: pictures with many tasks each, as branches behind the picture's block.

A token sees the picture and its own task, and positions begin anew with each task, so every task looks as it does
alone, at a fraction of the work.

Shape suffixes: B pictures, T tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from multiway_vision_language.kosmos2_small.feature_cache import CachedFeatures, read_features
from multiway_vision_language.kosmos2_small.model import BackboneFeatures
from multiway_vision_language.kosmos2_small.processor import SmallProcessor
from multiway_vision_language.scenes.tasks import END, Task, make_tasks

IGNORED = -100
_FILES_AT_ONCE = 4


class PackedTasks(NamedTuple):
    """Tokens of pictures and tasks; ``targets`` is the next token where it counts, else :data:`IGNORED`."""

    tokens_BT: Tensor
    valid_BT: Tensor
    image_slots_BT: Tensor
    branches_BT: Tensor
    """0 for the picture's block, then 1, 2, ... for its tasks."""
    targets_BT: Tensor


class GroundingBatch(NamedTuple):
    """What a training step sees."""

    features: CachedFeatures
    packed: PackedTasks | None
    """None in the stage without text."""


def pack(processor: SmallProcessor, tasks: Sequence[Sequence[Task]], budget: int) -> PackedTasks:
    """Tasks of each picture, as many as fit into ``budget`` tokens."""
    opening = processor.prompt("")
    rows = []
    for own in tasks:
        tokens, branches, targets = list(opening), [0] * len(opening), [IGNORED] * len(opening)
        for number, (prompt, target) in enumerate(own, start=1):
            asked = processor.encode(prompt)
            answer = processor.encode(target.removesuffix(END))
            if target.endswith(END):
                answer.append(processor.tokens.eos)
            length = len(asked) + len(answer) - 1
            if length < 1 or len(tokens) - len(opening) + length > budget:
                continue
            tokens += (asked + answer)[:-1]
            branches += [number] * length
            targets += [IGNORED] * (len(asked) - 1) + answer
        rows.append((tokens, branches, targets))
    longest = max(len(tokens) for tokens, _, _ in rows)
    tokens_BT, branches_BT, targets_BT = (
        torch.tensor([row[part] + [pad] * (longest - len(row[part])) for row in rows])
        for part, pad in enumerate((processor.tokens.pad, 0, IGNORED))
    )
    slots_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
    (slots,) = processor.slots(opening)
    slots_BT[:, slots.start : slots.stop] = True
    return PackedTasks(tokens_BT, tokens_BT != processor.tokens.pad, slots_BT, branches_BT, targets_BT)


@dataclass
class GroundingBatches:
    """The trainer's source: the batch of a step, the same whenever it is asked for.

    Attributes:
        folder: files of the feature cache.
        steps: of the run; tasks become harder over its first sixth (`level` of :func:`make_tasks`).
        with_text: whether there are tasks at all.
    """

    folder: Path
    processor: SmallProcessor
    names: Sequence[str]
    photo_names: Sequence[str]
    unknown_nouns: Sequence[str]
    batch_size: int
    steps: int
    with_text: bool = True
    budget: int = 180
    seed: int = 0

    def __post_init__(self) -> None:
        self.files = sorted(self.folder.glob("*.safetensors"))
        self._group = -1
        self._mixed: list[CachedFeatures] = []
        self._order: list[tuple[int, int]] = []

    def level(self, step: int) -> int:
        """1 for single things, 2 with groups and captions, 3 everything."""
        done = step / self.steps
        return 1 if done < 0.08 else 2 if done < 0.16 else 3

    def __call__(self, step: int, shard: int, num_shards: int) -> GroundingBatch:
        rng = random.Random(f"{self.seed}/{step}/{shard}/{num_shards}")
        cached = self._draw(step * num_shards + shard)
        if not self.with_text:
            return GroundingBatch(cached, None)
        tasks = [
            make_tasks(scene, self.names, self.photo_names, self.level(step), rng, self.unknown_nouns)
            for scene in cached.scenes
        ]
        return GroundingBatch(cached, pack(self.processor, tasks, self.budget))

    def _draw(self, batch: int) -> CachedFeatures:
        """Batch ``batch`` of a walk through all files, a few of which are mixed with one another at a time."""
        if not self._mixed:
            self._mix(0)
        per_group = len(self._order) // self.batch_size
        group, place = divmod(batch, per_group)
        if group != self._group:
            self._mix(group)
        picked = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        parts = [self._mixed[file].rows([row]) for file, row in picked]
        columns = zip(*(part.backbones for part in parts), strict=True)
        backbones = BackboneFeatures(*(torch.cat(column) for column in columns))
        return CachedFeatures(backbones, [scene for part in parts for scene in part.scenes])

    def _mix(self, group: int) -> None:
        rng = random.Random(f"{self.seed}/{group}")
        self._group = group
        self._mixed = [read_features(path) for path in rng.choices(self.files, k=_FILES_AT_ONCE)]
        # Photographs on which nothing is named have nothing to teach.
        self._order = [
            (file, row)
            for file, cached in enumerate(self._mixed)
            for row, scene in enumerate(cached.scenes)
            if scene.things or scene.label
        ]
        rng.shuffle(self._order)
