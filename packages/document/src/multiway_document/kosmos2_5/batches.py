"""Training batches of rendered lines: pure functions of (seed, step, shard), so that a run resumes exactly.

Shape suffixes: B batch, T suffix tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from multiway_document.alphabet import ALPHABET
from multiway_document.kosmos2_5.config import TokenConfig
from multiway_document.kosmos2_5.line_reader import line_patches, line_prompt
from multiway_document.kosmos2_5.model import Patches
from multiway_document.kosmos2_5.objective import IGNORED
from multiway_document.line_reading import STEPS_PER_COLUMN
from multiway_document.rendering.pool import LinePool

# Lines are grouped by width so that a batch has one shape: few shapes, so that each is compiled once.
BUCKET_COLUMNS = (6, 12, 20, 32, 44, 60)
WRONG_SHARE = 0.05  # of the characters that the decoder sees behind it in training


@dataclass(frozen=True)
class LineBatch:
    """Cropped lines of one width group with their texts as CTC classes."""

    patches: Patches
    steps: torch.Tensor  # (B,) int64
    targets: torch.Tensor  # (sum of lengths,) int64
    lengths: torch.Tensor  # (B,) int64


class LineBatches:
    """Batches of rendered lines, a pure function of (seed, step, shard).

    Each batch takes lines of one width group and holds about ``patches_per_batch`` patches; a group is drawn in
    proportion to the patches of its lines, so that every line is as likely as any other.
    """

    def __init__(self, pool: LinePool, *, patches_per_batch: int, seed: int) -> None:
        self.pool, self.seed = pool, seed
        columns = -(-pool.widths // 16)
        fits = pool.widths // (16 // STEPS_PER_COLUMN) > pool.lengths
        lower = 0
        self.groups: list[tuple[int, int, np.ndarray]] = []  # columns, lines a batch, members
        for upper in BUCKET_COLUMNS:
            members = np.flatnonzero((columns > lower) & (columns <= upper) & fits)
            if len(members):
                self.groups.append((upper, max(1, patches_per_batch // (2 * upper)), members))
            lower = upper
        shares = np.array([len(members) / batch for _, batch, members in self.groups])
        self.shares = shares / shares.sum()

    def __call__(self, step: int, shard: int, num_shards: int) -> LineBatch:
        rng = np.random.default_rng([self.seed, step, shard])
        num_columns, size, members = self.groups[rng.choice(len(self.groups), p=self.shares)]
        lines = [self.pool[index] for index in rng.choice(members, size)]
        patches, steps_B = line_patches([shifted(image, rng) for image, _ in lines], num_columns=num_columns)
        return LineBatch(
            patches,
            steps_B,
            torch.from_numpy(np.concatenate([classes for _, classes in lines]).astype(np.int64)),
            torch.tensor([len(classes) for _, classes in lines]),
        )


def shifted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The line up to a pixel higher or lower and some pixels to the left: a rendered line is seen more than once."""
    image = np.roll(image, int(rng.integers(-1, 2)), axis=0)
    return image[:, int(rng.integers(0, min(3, image.shape[1]))) :]


@dataclass(frozen=True)
class WritingBatch:
    """Cropped lines with the prompt and the text that the decoder is to write behind it."""

    patches: Patches
    steps: torch.Tensor  # (B,) int64, CTC steps of each line
    suffix: torch.Tensor  # (B, T) int64, padded on the left
    targets: torch.Tensor  # (B, T) int64, IGNORED where nothing is to be learnt
    classes: torch.Tensor  # (B, T) int64, the CTC class of every character among the targets, 0 elsewhere


class WritingBatches:
    """As :class:`LineBatches`, for the decoder, with lines that grow.

    Attention through the resampler aligns only when it starts with strings of a character or two:
    ``lengths`` is a list of (first step, most characters), and a quarter of the batches is drawn from all shorter
    lengths alike. Text is written character by character.
    """

    def __init__(
        self,
        pool: LinePool,
        tokens: TokenConfig,
        tokenizer: Tokenizer,
        *,
        lengths: Sequence[tuple[int, int]],
        tokens_per_batch: int,
        num_queries: int,
        max_patches: int,
        seed: int,
    ) -> None:
        self.pool, self.tokens, self.seed = pool, tokens, seed
        self.lengths, self.tokens_per_batch = lengths, tokens_per_batch
        self.num_queries, self.max_patches = num_queries, max_patches
        self.columns = -(-pool.widths // 16)
        vocabulary = tokenizer.get_vocab()
        self.ids = np.array([0] + [tokens.first_text + vocabulary[character] for character in ALPHABET])
        self.newline = tokens.first_text + vocabulary["\n"]
        self._members: dict[tuple[int, int], np.ndarray] = {}

    def max_length(self, step: int) -> int:
        """Most characters of a line at a step of the curriculum."""
        return max(length for first, length in self.lengths if first <= step)

    def __call__(self, step: int, shard: int, num_shards: int) -> WritingBatch:
        rng = np.random.default_rng([self.seed, step, shard])
        longest = self.max_length(step)
        if rng.random() < 0.25:
            longest = int(rng.choice([length for _, length in self.lengths if length <= longest]))
        num_columns = next((c for c in BUCKET_COLUMNS if c * 16 >= longest * 11), BUCKET_COLUMNS[-1])
        members = self._fitting(longest, num_columns)
        length = longest + 9  # prompt, newline and end
        size = max(1, self.tokens_per_batch // (self.num_queries + 3 + length))
        lines = [self.pool[index] for index in rng.choice(members, size)]
        patches, steps_B = line_patches([shifted(image, rng) for image, _ in lines], num_columns=num_columns)
        patches = patches.padded(self.max_patches)
        suffix = np.full((size, length), self.tokens.pad)
        targets = np.full((size, length), IGNORED)
        classes_of_targets = np.zeros((size, length), np.int64)
        for row, (image, classes) in enumerate(lines):
            prompt = line_prompt(self.tokens, image.shape[1])
            answer = [*self.ids[classes], self.newline, self.tokens.eos]
            suffix[row, length - len(prompt) - len(answer) :] = [*prompt, *answer]
            targets[row, length - len(answer) :] = answer
            classes_of_targets[row, length - len(answer) : length - 2] = classes
        # A reader that has seen only true text behind it trusts its own mistakes: some of it is wrong.
        wrong = (classes_of_targets > 0) & (rng.random((size, length)) < WRONG_SHARE)
        suffix[wrong] = rng.choice(self.ids[1:], int(wrong.sum()))
        return WritingBatch(
            patches,
            steps_B,
            torch.from_numpy(suffix),
            torch.from_numpy(targets),
            torch.from_numpy(classes_of_targets),
        )

    def _fitting(self, longest: int, num_columns: int) -> np.ndarray:
        key = (longest, num_columns)
        if key not in self._members:
            fits = (
                (self.pool.lengths <= longest)
                & (self.columns <= num_columns)
                & (self.pool.lengths > longest // 4)
            )
            self._members[key] = np.flatnonzero(fits)
        return self._members[key]
