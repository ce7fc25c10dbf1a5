"""Training batches: pure functions of (seed, step, shard), so that a killed run continues exactly.

Shape suffixes: B impressions, H clicks, C candidates.
"""

from __future__ import annotations

import numpy as np
from multiway_core.errors import DataError
from numpy.typing import NDArray

from multiway_recsys.data.tables import Behaviors, Ragged
from multiway_recsys.glocim.batch import Batch, BatchMaker
from multiway_recsys.glocim.config import GlocimConfig
from multiway_recsys.glocim.features import Features, last_values

__all__ = ["Features", "TrainingBatches", "random_bits"]

# Batches that are cut out of one stretch of the shuffled rows sorted by history length: little padding, and a
# batch of a stretch holds histories of nearly one length.
_STRETCH = 16
_NEGATIVES, _HISTORY = np.uint64(1), np.uint64(2)  # what a random number is for


class TrainingBatches:
    """Each clicked candidate with ``config.negatives`` others of its impression, drawn anew in every epoch.

    Random numbers are a hash of (seed, epoch, row, what for), not a stream: they depend neither on the batch size nor
    on how many processes share the work. ``frozen_negatives`` draws once for all epochs, as GLORY and GLoCIM do.

    Impressions without a click or without any other candidate teach nothing and are left out (``num_left_out``).
    Raises DataError if the behaviours have no labels or nothing is left.
    """

    def __init__(
        self,
        features: Features,
        behaviors: Behaviors,
        config: GlocimConfig,
        *,
        seed: int,
        batch_size: int,
        frozen_negatives: bool = False,
    ) -> None:
        if behaviors.labels is None:
            raise DataError("training needs labelled impressions (N1-0 N2-1 ...), and these have no labels")
        self.config, self.seed, self.batch_size = config, seed, batch_size
        self.frozen_negatives = frozen_negatives
        self.make = BatchMaker(features, config)
        self.behaviors = behaviors
        impressions = np.repeat(np.arange(len(behaviors)), behaviors.candidates.lengths)
        clicked = behaviors.labels == 1
        others = np.bincount(impressions[~clicked], minlength=len(behaviors))
        offsets = np.zeros(len(behaviors) + 1, np.int64)
        np.cumsum(others, out=offsets[1:])
        self.others = Ragged(behaviors.candidates.values[~clicked], offsets)
        kept = clicked & (others[impressions] > 0)
        self.impressions, self.clicked = impressions[kept], behaviors.candidates.values[kept]
        self.num_left_out = len(behaviors) - len(np.unique(self.impressions))
        if not len(self.clicked):
            raise DataError(
                "no impression has both a clicked and a not clicked candidate: nothing to train on"
            )
        self._epoch: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        """Rows of an epoch: clicked candidates."""
        return len(self.clicked)

    @property
    def batches_per_epoch(self) -> int:
        """Batches (of one shard each) in an epoch."""
        return -(-len(self) // self.batch_size)

    def steps(self, epochs: float, num_shards: int = 1) -> int:
        """Optimizer steps that so many epochs take."""
        return max(1, round(epochs * self.batches_per_epoch / num_shards))

    def __call__(self, step: int, shard: int, num_shards: int) -> Batch:
        """The batch of one shard of one step."""
        epoch, index = divmod(step * num_shards + shard, self.batches_per_epoch)
        rows = self.rows(epoch, index)
        impressions = self.impressions[rows]
        histories_BH = trimmed(
            last_values(
                self.behaviors.histories.values,
                self.behaviors.histories.offsets,
                impressions,
                self.config.history_length,
            ),
            self.config,
        )
        if self.config.history_dropout:
            chance = random_bits(self.seed, epoch, rows, _HISTORY) / 2.0**64
            histories_BH[chance < self.config.history_dropout] = 0
        candidates_BC = np.concatenate([self.clicked[rows][:, None], self.negatives(epoch, rows)], axis=1)
        return self.make(
            histories_BH,
            candidates_BC,
            users_B=self.behaviors.users[impressions],
            times_B=self.behaviors.times[impressions],
        )

    def rows(self, epoch: int, index: int) -> NDArray[np.int64]:
        """The rows (clicked candidates) of a batch of an epoch."""
        cached = self._epoch
        if cached is None or cached[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self))
            lengths = np.minimum(
                self.behaviors.histories.lengths[self.impressions], self.config.history_length
            )
            stretch = np.arange(len(self)) // (_STRETCH * self.batch_size)
            order = order[np.lexsort((lengths[order], stretch))]
            cached = self._epoch = (epoch, order, rng.permutation(self.batches_per_epoch))
        _, order, batches = cached
        start = int(batches[index]) * self.batch_size
        return order[start : start + self.batch_size]

    def negatives(self, epoch: int, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Not clicked candidates of the rows' impressions without repetition: (B, negatives) int32.

        An impression with fewer than are asked for has its list repeated before drawing, as in GLORY.
        """
        wanted = self.config.negatives
        impressions = self.impressions[rows]
        counts = self.others.lengths[impressions]
        copies = np.where(counts < wanted, wanted // counts + 1, 1)
        width = int((counts * copies).max())
        places = np.arange(width)
        keys = random_bits(
            self.seed,
            0 if self.frozen_negatives else epoch,
            rows[:, None] * np.int64(1 << 20) + places,
            _NEGATIVES,
        )
        keys[places >= (counts * copies)[:, None]] = np.iinfo(np.uint64).max
        drawn = np.argpartition(keys, wanted - 1, axis=1)[:, :wanted]
        drawn = np.take_along_axis(drawn, np.take_along_axis(keys, drawn, 1).argsort(1), 1)
        return self.others.values[self.others.offsets[impressions][:, None] + drawn % counts[:, None]]


def trimmed(histories_BH: NDArray[np.int32], config: GlocimConfig) -> NDArray[np.int32]:
    """Without the columns that are padding in all rows; the released chain encoder needs all of them."""
    if config.chain == "released":
        return histories_BH
    longest = int((histories_BH != 0).sum(axis=1).max(initial=1))
    return histories_BH[:, histories_BH.shape[1] - max(1, longest) :]


def random_bits(seed: int, epoch: int, counters: NDArray[np.int64], purpose: np.uint64) -> NDArray[np.uint64]:
    """64 random bits for each counter, a hash of all arguments (splitmix64, Steele et al. 2014)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        key = np.array(seed, np.uint64)
        for part in (np.uint64(epoch), purpose):
            key = _mixed(key + golden * (part + np.uint64(1)))
        return _mixed(key + golden * (counters.astype(np.uint64) + np.uint64(1)))


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
