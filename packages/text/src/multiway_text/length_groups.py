"""Batches of about equally long examples, in an order that the seed decides."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class LengthGroups:
    """Indices of the examples of each batch, as a pure function of the step.

    Args:
        lengths: tokens of each example.
        tokens: of a batch, with padding to its longest example.
        seed: of the order; each epoch has another.
    """

    def __init__(self, lengths: Sequence[int], tokens: int, *, seed: int = 0) -> None:
        self.lengths, self.tokens, self.seed = torch.tensor(lengths), tokens, seed
        self._epoch: tuple[int, list[list[int]]] = (-1, [])
        self.per_epoch = max(1, int(self.lengths.sum()) // tokens)

    def __call__(self, step: int, shard: int, num_shards: int) -> list[int]:
        """The examples of one shard of one step."""
        epoch, index = divmod(step * num_shards + shard, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._groups(epoch)
        groups = self._epoch[1]
        return groups[index % len(groups)]

    def _groups(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        # Lengths with some noise, so that neighbours differ from epoch to epoch.
        noisy = self.lengths + 6 * torch.rand(len(self.lengths), generator=generator)
        groups: list[list[int]] = [[]]
        longest = 0
        for i in noisy.argsort().tolist():
            longest = max(longest, int(self.lengths[i]))
            if groups[-1] and longest * (len(groups[-1]) + 1) > self.tokens:
                groups.append([])
                longest = int(self.lengths[i])
            groups[-1].append(i)
        order = torch.randperm(len(groups), generator=generator).tolist()
        return [groups[i] for i in order]
