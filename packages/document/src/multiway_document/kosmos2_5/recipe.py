"""How the bundled reader is trained: data mixture, stages and schedule.

The vision encoder first learns to read cropped lines through the CTC head.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multiway_core import checkpoint as tensors
from multiway_core import files
from multiway_core.training import Loss, is_embedding_like
from tokenizers import Tokenizer
from torch import nn

from multiway_document.kosmos2_5 import checkpoint
from multiway_document.kosmos2_5.config import KOSMOS_2_5_MINI
from multiway_document.kosmos2_5.line_reader import LINE_READER_FILE, STEPS_PER_COLUMN, line_patches
from multiway_document.kosmos2_5.model import Patches
from multiway_document.kosmos2_5.objective import Reader, ctc_loss
from multiway_document.kosmos2_5.tokenizer import train_small_tokenizer
from multiway_document.rendering.pool import LinePool
from multiway_document.rendering.text import TextSource

# Lines are grouped by width so that a batch has one shape: few shapes, so that each is compiled once.
BUCKET_COLUMNS = (6, 12, 20, 32, 44, 60)


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


class LineObjective:
    """CTC on the encoder; ``compiled`` fuses the network's element-wise work (one compilation a width group)."""

    def __init__(self, *, compiled: bool) -> None:
        self.compiled = compiled
        self._logits: Any = None

    def __call__(self, reader: nn.Module, batch: LineBatch) -> Loss:
        assert isinstance(reader, Reader)
        if self._logits is None:
            vision, head = reader.kosmos.vision, reader.line_reader

            def logits(pixels: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
                return head(vision(pixels, rows, columns))

            self._logits = torch.compile(logits, dynamic=False) if self.compiled else logits
        patches = batch.patches
        logits_BTK = self._logits(patches.pixels_BNP, patches.rows_BN, patches.columns_BN)
        total = ctc_loss(logits_BTK, batch.steps, batch.targets, batch.lengths)
        return Loss(total, weight=int(batch.lengths.sum()), samples=len(batch.lengths))


def leaves_matrix_alone(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    """Which matrices Muon does not move: embeddings, latents, and the first and last projections."""
    if name.endswith(("resampler.latents", "line_reader.scores.weight", "patch_projection.weight")):
        return True
    return is_embedding_like(name, parameter, module)


def export(reader: Reader, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the trained reader as a model folder that the pipeline (and `transformers`) loads, in bfloat16."""
    checkpoint.save(reader.kosmos, folder, dtype=torch.bfloat16, max_shard_bytes=15_000_000)
    tensors.save(reader.line_reader, folder, filename=LINE_READER_FILE, dtype=torch.bfloat16)
    files.write_text(folder / "tokenizer.json", tokenizer.to_str() + "\n")


def train_tokenizer(num_lines: int = 40_000, seed: int = 0) -> Tokenizer:
    """The reader's tokenizer, trained on the same text that is rendered for it."""
    texts = TextSource.discover(split="train")
    rng = np.random.default_rng(seed)
    lines = (texts.line(rng, 80, 10) for _ in range(num_lines))
    return train_small_tokenizer(lines, KOSMOS_2_5_MINI.tokens.num_text_tokens)
