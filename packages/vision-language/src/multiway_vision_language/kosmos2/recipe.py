"""Fine-tuning Kosmos-2 on captions with boxes (arXiv 2306.14824, section 3.3 and appendix A).

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multiway_core import files
from multiway_core.errors import DataError, InputError
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions
from torch import Tensor, nn

from multiway_vision_language.auto_model import load_pretrained
from multiway_vision_language.datasets.samples import GroundingSample
from multiway_vision_language.kosmos2 import checkpoint
from multiway_vision_language.kosmos2.model import Kosmos2
from multiway_vision_language.kosmos2.objective import next_token_loss
from multiway_vision_language.kosmos2.processor import Kosmos2Processor, TokenBatch
from multiway_vision_language.kosmos2.targets import read_captions, target_tokens
from multiway_vision_language.kosmos2_small import checkpoint as small_checkpoint
from multiway_vision_language.kosmos2_small.model import Kosmos2Small
from multiway_vision_language.locations import Edge
from multiway_vision_language.pictures import open_picture

PAPER_LEARNING_RATE, SMALL_LEARNING_RATE = 1e-5, 2e-4
PAPER_WARMUP_STEPS = 375
HELD_OUT, MAX_HELD_OUT = 20, 64
"""One caption in so many is held out; the score takes at most so many of those."""
_CACHED_PICTURES = 64
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
        self._pixels = functools.lru_cache(_CACHED_PICTURES)(self._read)

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


@dataclass(frozen=True)
class FineTuning:
    """Fine-tuning a model on captions with boxes (``options.data``: one JSONL file, see :func:`read_captions`).

    The numbers are the paper's instruction tuning: AdamW (0.9, 0.98), weight decay 0.01, linear decay to 0, all
    parameters trained. Pictures are warped to the square as at inference, where the published pre-training cut its
    middle out. One caption in 20 is held out where there are 20. The model is written in the layout of the one that
    training began with (``options.init_from``): Kosmos-2 in the hub's, which `transformers` loads as well.

    Attributes:
        epochs: times the data is seen; ``options.steps`` overrides.
        learning_rate: the peak; None is the paper's for Kosmos-2, and more for the small network.
        batch_size: captions of a shard.
        freeze_vision: leave the vision tower as it is. The small network's backbones always stay.
    """

    epochs: float = 3.0
    learning_rate: float | None = None
    batch_size: int = 8
    freeze_vision: bool = False

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run.

        Raises :class:`DataError` for a bad row, :class:`InputError` for missing options or data that changed since the
        run began.
        """
        if len(options.data) != 1 or options.init_from is None:
            missing = "--init-from MODEL (a folder or a hub id)" if options.data else "--data FILE.jsonl"
            raise InputError(f"--preset fine-tune needs {missing}")
        if self.epochs <= 0:
            raise InputError(f"epochs must be above 0, got {self.epochs:g}")
        data = Path(options.data[0])
        samples = read_captions(data)
        model, processor = load_pretrained(options.init_from)
        folder = checkpoint.find(options.init_from)
        _require_same_data(options.output / "data.sha256", data)
        kept = samples[HELD_OUT - 1 :: HELD_OUT]
        taught = [sample for index, sample in enumerate(samples) if index % HELD_OUT != HELD_OUT - 1]
        batches = CaptionBatches(taught, processor, batch_size=self.batch_size, seed=options.seed)
        accumulation = options.accumulation or 1
        steps = max(1, round(self.epochs * len(taught) / (self.batch_size * accumulation)))
        small = isinstance(model, Kosmos2Small)
        if isinstance(model, Kosmos2Small):
            model.freeze_backbones()
            # What was taught is to be heard: the detector does not answer before it.
            model.config = replace(model.config, photographs=False)
        else:
            model.vision.requires_grad_(not self.freeze_vision)
        learning_rate = self.learning_rate or (SMALL_LEARNING_RATE if small else PAPER_LEARNING_RATE)
        config = TrainConfig(
            steps=steps,
            learning_rate=learning_rate,
            warmup_steps=min(PAPER_WARMUP_STEPS, steps // 10),
            schedule="linear",
            betas=(0.9, 0.98),
            weight_decay=0.01,
            clip_norm=2.0,
            precision="bf16" if torch.device(options.device).type == "cuda" else "fp32",
            accumulation=accumulation,
            log_every=max(1, min(20, steps // 10)),
        )

        def export(trained: Any, output: Path) -> None:
            if small:
                small_checkpoint.save(trained, folder / checkpoint.TOKENIZER_FILE, output)
            else:
                checkpoint.save(trained, output)
                copy_files(folder, output)

        return TrainJob(
            model,
            caption_objective,
            batches,
            options.apply(config),
            export,
            held_out=_held_out(CaptionBatches(kept, processor, batch_size=1, seed=0)) if kept else None,
            facts={"captions": len(taught), "held_out_captions": len(kept)},
        )


def _held_out(batches: CaptionBatches) -> HeldOut:
    """Cross-entropy a token of captions that are not trained on."""

    def score(model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        losses = []
        for step in range(min(len(batches.samples), MAX_HELD_OUT)):
            batch = batches(step, 0, 1)
            losses.append(
                caption_objective(model, CaptionBatch(batch.pixels_BCHW.to(device), batch.tokens.to(device)))
            )
        return {
            "loss": sum(float(loss.total) for loss in losses) / sum(float(loss.weight) for loss in losses)
        }

    return HeldOut(score)


def _require_same_data(record: Path, data: Path) -> None:
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    if record.is_file() and record.read_text(encoding="utf-8").strip() != digest:
        raise InputError(f"{data} is not what the run in {record.parent} began with; give another --output")
    files.write_text(record, digest + "\n")


def copy_files(source: Path, folder: Path) -> None:
    """Tokenizer and processor files of a published model, which training leaves as they are."""
    for name in _CARRIED:
        if (source / name).is_file():
            files.write_bytes(folder / name, (source / name).read_bytes())
