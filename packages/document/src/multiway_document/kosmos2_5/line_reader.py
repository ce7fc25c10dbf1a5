"""The fast engine: a CTC head on the vision encoder reads cropped text lines in one pass.

The head is an addition of ours (the published model has none): it lies beside the checkpoint in
``line_reader.safetensors`` and leaves KOSMOS-2.5's own layout untouched. It trains the encoder quickly, reads a page
without autoregression, and cross-checks what the decoder writes.

Shape suffixes: B batch, C patch columns, N = 2 C patches, E hidden size, T = 4 C time steps, K classes (0 = blank).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from multiway_blocks.vision import VisionEncoder
from numpy.typing import NDArray
from torch import Tensor, nn

from multiway_document.alphabet import ALPHABET
from multiway_document.kosmos2_5.config import TokenConfig
from multiway_document.kosmos2_5.model import Patches
from multiway_document.line_reading import LINE_HEIGHT, STEPS_PER_COLUMN, LineReading, best_path


class LineReader(nn.Module):
    """CTC head: both patches of a column -> four steps of class scores."""

    def __init__(self, hidden_size: int, num_classes: int = len(ALPHABET) + 1) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.mix = nn.Linear(2 * hidden_size, 2 * hidden_size)
        self.scores = nn.Linear(2 * hidden_size, STEPS_PER_COLUMN * num_classes)

    def forward(self, features_BNE: Tensor) -> Tensor:
        """Encoder features of two patch rows (B, 2 C, E) -> class logits (B, T, K)."""
        top_BCE, bottom_BCE = features_BNE.chunk(2, dim=1)
        hidden = nn.functional.gelu(self.mix(torch.cat([top_BCE, bottom_BCE], dim=-1)))
        return self.scores(hidden).unflatten(-1, (STEPS_PER_COLUMN, self.num_classes)).flatten(1, 2)


def line_patches(
    lines: Sequence[NDArray[np.uint8]], *, num_columns: int | None = None
) -> tuple[Patches, Tensor]:
    """Cropped lines (32, width) as patches of two rows, padded to the widest or to ``num_columns``.

    Every line is normalised by its own mean and deviation, as KOSMOS-2.5 normalises pictures, and its grey is repeated
    over the three channels. Returns the patches and the number of CTC steps of each line (B,) int64.
    """
    columns = [max(1, -(-line.shape[1] // 16)) for line in lines]
    num_columns = max(columns) if num_columns is None else num_columns
    pixels = torch.zeros(len(lines), LINE_HEIGHT, num_columns * 16)
    rows_BRC = torch.zeros(len(lines), 2, num_columns, dtype=torch.long)
    columns_BRC = torch.zeros_like(rows_BRC)
    for index, (line, count) in enumerate(zip(lines, columns, strict=True)):
        tensor = torch.from_numpy(line.astype(np.float32))
        normal = (tensor - tensor.mean()) / max(float(tensor.std(correction=0)), tensor.numel() ** -0.5)
        pixels[index, :, : tensor.shape[1]] = normal
        # The paper goes on to the end of the last patch.
        pixels[index, :, tensor.shape[1] : count * 16] = normal.max()
        rows_BRC[index, 0, :count] = 1
        rows_BRC[index, 1, :count] = 2
        columns_BRC[index, :, :count] = torch.arange(1, count + 1)
    grid = pixels.view(len(lines), 2, 16, num_columns, 16).permute(0, 1, 3, 2, 4)
    patches_BNP = grid.reshape(len(lines), 2 * num_columns, 256).repeat_interleave(3, dim=-1)
    rows_BN, columns_BN = rows_BRC.flatten(1), columns_BRC.flatten(1)
    steps_B = torch.tensor(columns) * STEPS_PER_COLUMN
    return Patches(patches_BNP, rows_BN, columns_BN, (rows_BN != 0).float()), steps_B


def line_prompt(tokens: TokenConfig, width: int) -> list[int]:
    """``<ocr>`` and the box of the whole crop: the decoder only writes the text, since the line is found already."""
    x1 = min((width - 1) // tokens.location_step, tokens.num_locations - 1)
    y1 = (LINE_HEIGHT - 1) // tokens.location_step
    return [tokens.ocr, tokens.box, tokens.x(0), tokens.y(0), tokens.x(x1), tokens.y(y1), tokens.box_end]


def greedy_readings(logits_BTK: Tensor, steps_B: Tensor) -> list[LineReading]:
    """Best path of each line's class scores, over its own steps."""
    probabilities_BT, classes_BT = (part.cpu() for part in logits_BTK.float().softmax(dim=-1).max(dim=-1))
    return [
        best_path(classes_T[:steps].numpy(), probabilities_T[:steps].numpy())
        for classes_T, probabilities_T, steps in zip(
            classes_BT, probabilities_BT, steps_B.tolist(), strict=True
        )
    ]


class TorchLineNetwork:
    """:func:`read_lines` with one network; ``mixed_precision`` computes products in bfloat16 under autocast."""

    def __init__(self, vision: VisionEncoder, head: LineReader, *, mixed_precision: bool = False) -> None:
        self.vision, self.head, self.mixed_precision = vision, head, mixed_precision

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        device = self.vision.patch_projection.weight.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.mixed_precision):
            return read_lines(self.vision, self.head, crops)


@torch.inference_mode()
def read_lines(
    vision: VisionEncoder,
    head: LineReader,
    lines: Sequence[NDArray[np.uint8]],
    *,
    patches_per_batch: int = 4096,
) -> list[LineReading]:
    """Read cropped lines (see ``segmentation.crop_line``), widest together with its like; order is kept."""
    weight = vision.patch_projection.weight
    readings: dict[int, LineReading] = {}
    for batch in width_batches([line.shape[1] for line in lines], patches_per_batch):
        patches, steps_B = line_patches([lines[index] for index in batch])
        patches = patches.to(weight.device, weight.dtype)
        logits_BTK = head(vision(patches.pixels_BNP, patches.rows_BN, patches.columns_BN))
        readings.update(zip(batch, greedy_readings(logits_BTK, steps_B), strict=True))
    return [readings[index] for index in range(len(lines))]


def width_batches(widths: Sequence[int], patches_per_batch: int) -> Iterator[list[int]]:
    """Indices of lines that are read together, narrow ones first: each batch is padded to its widest line."""
    batch: list[int] = []
    for index in sorted(range(len(widths)), key=lambda index: widths[index]):
        columns = -(-widths[index] // 16)
        if batch and 2 * columns * (len(batch) + 1) > patches_per_batch:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
