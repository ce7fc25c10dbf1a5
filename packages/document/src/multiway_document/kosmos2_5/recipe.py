"""How the bundled reader is trained: data mixture, stages and schedule.

The vision encoder first learns to read cropped lines through the CTC head; then the resampler and the decoder learn
to write what the encoder sees, from strings of a character or two to whole lines.
"""

from __future__ import annotations

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
from multiway_document.kosmos2_5.batches import LineBatch, WritingBatch
from multiway_document.kosmos2_5.config import KOSMOS_2_5_MINI
from multiway_document.kosmos2_5.line_reader import LINE_READER_FILE
from multiway_document.kosmos2_5.objective import Reader, ctc_loss, token_loss
from multiway_document.kosmos2_5.tokenizer import train_small_tokenizer
from multiway_document.rendering.text import TextSource


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


class WritingObjective:
    """Next-token prediction of the text behind the prompt; the encoder stays as the CTC stage left it."""

    def __init__(self, *, compiled: bool) -> None:
        self.compiled = compiled
        self._logits: Any = None

    def __call__(self, reader: nn.Module, batch: WritingBatch) -> Loss:
        assert isinstance(reader, Reader)
        model = reader.kosmos
        if self._logits is None:

            def logits(
                features: torch.Tensor,
                multiplicity: torch.Tensor,
                tokens: torch.Tensor,
                places: torch.Tensor,
                segments: torch.Tensor,
                length: int,
            ) -> torch.Tensor:
                hidden = model.text(
                    tokens,
                    image_embeddings_BQE=model.resampler(features, multiplicity),
                    image_places_BT=places,
                    segments_BT=segments,
                )
                return model.text.logits(hidden[:, -length - 1 : -1])

            self._logits = torch.compile(logits, dynamic=False) if self.compiled else logits
        with torch.no_grad():
            features = model.encode(batch.patches)
        tokens, places, segments = model.prompt(batch.suffix)
        logits_BTV = self._logits(
            features, batch.patches.multiplicity_BN, tokens, places, segments, batch.suffix.shape[1]
        )
        total = token_loss(logits_BTV, batch.targets, model.config.tokens, neighbour_std=1.0)
        return Loss(total, weight=int((batch.targets >= 0).sum()), samples=len(batch.suffix))


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
