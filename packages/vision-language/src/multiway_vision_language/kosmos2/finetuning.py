"""Fine-tuning Kosmos-2 on captions with boxes (arXiv 2306.14824, section 3.3 and appendix A).

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from multiway_core import files
from multiway_core.errors import DataError, InputError
from multiway_core.training import Loss, TrainConfig, Trainer
from torch import Tensor, nn

from multiway_vision_language.datasets.samples import GroundingSample
from multiway_vision_language.kosmos2 import checkpoint
from multiway_vision_language.kosmos2.model import Kosmos2
from multiway_vision_language.kosmos2.objective import next_token_loss
from multiway_vision_language.kosmos2.processor import Kosmos2Processor, TokenBatch
from multiway_vision_language.kosmos2.targets import read_captions, target_tokens
from multiway_vision_language.locations import Edge
from multiway_vision_language.pictures import open_picture

PAPER_LEARNING_RATE = 1e-5
PAPER_WARMUP_STEPS = 375
_KEPT_PICTURES = 64
_CARRIED = (checkpoint.TOKENIZER_FILE, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
            "preprocessor_config.json", "processor_config.json", "generation_config.json")  # fmt: skip


@dataclass(frozen=True)
class CaptionBatch:
    """Pictures with the tokens to be written about them."""

    pixels_BCHW: Tensor
    tokens: TokenBatch


class CaptionBatches:
    """Batches of captions, a pure function of (step, shard): every epoch is a permutation drawn from (seed, epoch).

    Raises :class:`DataError` at once for a caption that is longer than the model, or whose phrases or boxes are bad.
    """

    def __init__(
        self,
        samples: Sequence[GroundingSample],
        processor: Kosmos2Processor,
        *,
        batch_size: int,
        seed: int,
        edge: Edge = "half_open",
    ) -> None:
        self.samples, self.processor, self.batch_size, self.seed = samples, processor, batch_size, seed
        self.targets = [target_tokens(processor, sample, edge=edge) for sample in samples]
        room = processor.config.text.max_positions
        for sample, target in zip(samples, self.targets, strict=True):
            if len(target) > room:
                raise DataError(
                    f"{sample.name}: {len(target)} tokens with the picture; the model has room for {room}"
                )
        self._pixels = functools.lru_cache(_KEPT_PICTURES)(self._read)

    def __call__(self, step: int, shard: int, num_shards: int) -> CaptionBatch:
        first = (step * num_shards + shard) * self.batch_size
        chosen = [self._sample(index) for index in range(first, first + self.batch_size)]
        pixels_BCHW = torch.stack([self._pixels(index) for index in chosen])
        return CaptionBatch(pixels_BCHW, self.processor.batch([self.targets[index] for index in chosen]))

    def _sample(self, index: int) -> int:
        epoch, place = divmod(index, len(self.samples))
        return int(np.random.default_rng([self.seed, epoch]).permutation(len(self.samples))[place])

    def _read(self, index: int) -> Tensor:
        sample = self.samples[index]
        try:
            return self.processor.pixels([open_picture(sample.image_path).image])[0]
        except InputError as error:
            raise DataError(f"{sample.name}: {error}") from error


def caption_objective(model: nn.Module, batch: CaptionBatch) -> Loss:
    """Cross-entropy of all that stands behind the pictures."""
    assert isinstance(model, Kosmos2)
    total, count = next_token_loss(model, batch.tokens, model.encode_images(batch.pixels_BCHW))
    return Loss(total, weight=count, samples=len(batch.pixels_BCHW))


def train(
    output: Path,
    *,
    data: Path,
    init_from: str,
    epochs: float = 3.0,
    learning_rate: float = PAPER_LEARNING_RATE,
    batch_size: int = 8,
    accumulation: int = 1,
    freeze_tower: bool = False,
    minutes: float | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Path:
    """Fine-tune ``init_from`` (a model folder or a hub id) on ``data`` and write ``output/model``; returns it.

    The data are what :func:`read_captions` takes. The numbers are the paper's instruction tuning: AdamW (0.9, 0.98),
    weight decay 0.01, linear decay to 0 from 1e-5, all parameters trained (``freeze_tower`` leaves out the vision
    tower). Pictures are warped to the square as at inference, where the published pre-training cut its middle out.
    A second call goes on from the last checkpoint. ``minutes`` ends the run early, with a checkpoint and a model. The
    model is written in the hub's layout, which `transformers` loads as well. On a GPU products are in bfloat16.

    Raises :class:`DataError` for a bad row, :class:`InputError` for data that changed since the run began, and what
    `Trainer.fit` raises.
    """
    samples = read_captions(data)
    if epochs <= 0:
        raise InputError(f"epochs must be above 0, got {epochs:g}")
    model, processor = checkpoint.load_pretrained(init_from, dtype=torch.float32)
    batches = CaptionBatches(samples, processor, batch_size=batch_size, seed=seed)
    _require_same_data(output / "data.sha256", data)
    steps = max(1, round(epochs * len(samples) / (batch_size * accumulation)))
    config = TrainConfig(
        steps=steps,
        learning_rate=learning_rate,
        warmup_steps=min(PAPER_WARMUP_STEPS, steps // 10),
        schedule="linear",
        betas=(0.9, 0.98),
        weight_decay=0.01,
        clip_norm=2.0,
        precision="bf16" if torch.device(device).type == "cuda" else "fp32",
        accumulation=accumulation,
        log_every=max(1, min(20, steps // 10)),
        seed=seed,
    )
    model.vision.requires_grad_(not freeze_tower)
    trainer = Trainer(model, caption_objective, batches, config, output, device=device)
    trainer.fit(stop_after_seconds=None if minutes is None else 60 * minutes)
    return _export(model.to("cpu"), output / "model", checkpoint.find(init_from))


def _require_same_data(record: Path, data: Path) -> None:
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    if record.is_file() and record.read_text(encoding="utf-8").strip() != digest:
        raise InputError(f"{data} is not what the run in {record.parent} began with; give another --output")
    files.write_text(record, digest + "\n")


def _export(model: Kosmos2, folder: Path, source: Path) -> Path:
    checkpoint.save(model, folder)
    for name in _CARRIED:
        if (source / name).is_file():
            files.write_bytes(folder / name, (source / name).read_bytes())
    return folder
