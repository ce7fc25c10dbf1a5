"""Training of the bundled reader: data mixture, stages and schedule.

The vision encoder first learns to read cropped lines through the CTC head; then the resampler and the decoder learn
to write what the encoder sees, from strings of a character or two to whole lines.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from multiway_core import checkpoint as tensors
from multiway_core import files, hub
from multiway_core.errors import InputError
from multiway_core.training import (
    BatchSource,
    HeldOut,
    Loss,
    Objective,
    TrainConfig,
    TrainJob,
    TrainOptions,
    is_embedding_like,
    loss_on,
)
from tokenizers import Tokenizer
from torch import Tensor, nn

from multiway_document.kosmos2_5 import alignment, chat, checkpoint
from multiway_document.kosmos2_5.batches import LineBatch, LineBatches, WritingBatch, WritingBatches
from multiway_document.kosmos2_5.config import KOSMOS_2_5_MINI
from multiway_document.kosmos2_5.objective import IGNORED, Reader, ctc_loss, token_loss
from multiway_document.kosmos2_5.tokenizer import train_small_tokenizer
from multiway_document.line_reading import LINE_READER_FILE, STEPS_PER_COLUMN
from multiway_document.rendering.fonts import FontLibrary, Split
from multiway_document.rendering.lines import LineSampler
from multiway_document.rendering.pool import LinePool, write_shard
from multiway_document.rendering.text import TextSource


class LineObjective:
    """CTC on the encoder, and columns that stay known: the resampler's queries are to look at them in their order.

    Without the second loss the encoder forgets where a patch stands (a linear probe finds the column of 11 % of the
    patches), and no resampler can put in order what it made of them. ``compiled`` fuses the network's element-wise work
    (one compilation a width group).
    """

    resampler_weight = 0.4

    def __init__(self, *, compiled: bool) -> None:
        self.compiled = compiled
        self._encoded: Any = None

    def __call__(self, reader: nn.Module, batch: LineBatch) -> Loss:
        assert isinstance(reader, Reader)
        if self._encoded is None:
            vision, head = reader.kosmos.vision, reader.line_reader

            def encoded(
                pixels: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
            ) -> tuple[torch.Tensor, torch.Tensor]:
                features_BNE = vision(pixels, rows, columns)
                return features_BNE, head(features_BNE[:, :-1])

            self._encoded = torch.compile(encoded, dynamic=False) if self.compiled else encoded
        patches = batch.patches.padded(reader.kosmos.config.vision.max_patches)
        features_BNE, logits_BTK = self._encoded(patches.pixels_BNP, patches.rows_BN, patches.columns_BN)
        reading = ctc_loss(logits_BTK, batch.steps, batch.targets, batch.lengths)
        queries = alignment.resampler_loss(
            reader.kosmos.resampler, features_BNE, patches.multiplicity_BN, batch.steps // STEPS_PER_COLUMN
        )
        weight = int(batch.lengths.sum())
        metrics = {"reading": reading.detach() / weight, "queries": queries.detach()}
        total = reading + weight * self.resampler_weight * queries
        return Loss(total, weight=weight, samples=len(batch.lengths), metrics=metrics)


class WritingObjective:
    """Next-token prediction of the text behind the prompt; the encoder stays as the CTC stage left it.

    The losses of :mod:`alignment` go with it: which column each query shows, and where the next character stands.
    """

    resampler_weight = 1.0
    decoder_weight = 0.5
    guided_from = (
        1  # first decoder layer with a guided head; the layers before it see no more than single characters
    )

    def __call__(self, reader: nn.Module, batch: WritingBatch) -> Loss:
        assert isinstance(reader, Reader)
        model, text = reader.kosmos, reader.kosmos.text
        with torch.no_grad():
            features_BNE = model.encode(batch.patches)
            columns_BT = _target_columns(reader, features_BNE, batch)
        tokens_BL, places_BL, segments_BL = model.prompt(batch.suffix)
        layers = range(self.guided_from, len(text.decoder.layers))
        with alignment.attention_inputs(text.decoder, layers) as inputs:
            hidden_BLE = text.hidden(
                tokens_BL,
                image_embeddings_BQE=model.resampler(features_BNE, batch.patches.multiplicity_BN),
                image_slots_BT=places_BL,
                segments_BT=segments_BL,
            )
        length = batch.suffix.shape[1]
        writing = token_loss(
            text.logits(hidden_BLE[:, -length - 1 : -1]),
            batch.targets,
            model.config.tokens,
            neighbour_std=1.0,
        )
        weight = int((batch.targets != IGNORED).sum())
        queries = alignment.resampler_loss(
            model.resampler, features_BNE, batch.patches.multiplicity_BN, batch.steps // STEPS_PER_COLUMN
        )
        valid_BL = tokens_BL != model.config.tokens.pad
        heads = torch.stack(
            [
                alignment.decoder_loss(
                    alignment.attention_of(text.decoder, index), x, places_BL, columns_BT, valid_BL
                )
                for index, x in zip(layers, inputs, strict=True)
            ]
        )
        total = writing + weight * (self.resampler_weight * queries + self.decoder_weight * heads.mean())
        metrics = {"writing": writing.detach() / weight, "queries": queries.detach()}
        metrics.update({f"head_{index}": head for index, head in zip(layers, heads.detach(), strict=True)})
        return Loss(total, weight=weight, samples=len(batch.suffix), metrics=metrics)


def _target_columns(reader: Reader, features_BNE: Tensor, batch: WritingBatch) -> Tensor:
    """Column of every target character, as the line reader finds it; ``UNKNOWN`` elsewhere."""
    logits_BTK = reader.line_reader(features_BNE[:, :-1])
    lines = [row[row > 0].tolist() for row in batch.classes]
    found = alignment.character_columns(logits_BTK, batch.steps, lines)
    columns_BT = torch.full_like(batch.targets, alignment.UNKNOWN)
    for row, columns in enumerate(found):
        if columns:
            columns_BT[row, batch.classes[row] > 0] = torch.tensor(columns, device=columns_BT.device)
    return columns_BT


def leaves_matrix_alone(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    """Which matrices Muon does not move: embeddings, latents, and the first and last projections."""
    if name.endswith(("resampler.latents", "line_reader.scores.weight", "patch_projection.weight")):
        return True
    return is_embedding_like(name, parameter, module)


@dataclass(frozen=True)
class Stage:
    """One training run; the next stage starts from its averaged weights.

    kind: "lines" trains the encoder with the CTC head; "writing" the resampler and the decoder on a frozen encoder.
    lengths: for "writing", (first step, most characters) of the curriculum.
    """

    name: str
    kind: Literal["lines", "writing"]
    steps: int
    learning_rate: float
    schedule: Literal["constant", "linear"]
    warmup_steps: int = 50
    lengths: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A bundled model from random weights, or from ``init_from``: the numbers of lines, and the stages.

    Every part resumes: finished shards and stages are kept, an unfinished stage goes on from its last checkpoint, and
    the weights are those of an uninterrupted run.
    """

    rendered_lines: int
    stages: tuple[Stage, ...]
    patches_per_batch: int = 6400
    tokens_per_batch: int = 10_000
    held_out_lines: int = 2000
    tokenizer_lines: int = 40_000
    compiled: bool = True

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """The stages, one after another, each from the averaged weights of the one before."""
        if options.data:
            raise InputError("the reader is trained on lines that it renders itself: no data")
        config, seed, output = KOSMOS_2_5_MINI, options.seed, options.output
        init_from = None if options.init_from is None else hub.resolve(options.init_from)
        pool = _rendered(output / "rendered", self.rendered_lines, seed, "train")
        held_out = _rendered(output / "rendered-held-out", self.held_out_lines, seed, "held_out")
        writes = any(stage.kind == "writing" for stage in self.stages)
        has_written = init_from is not None and checkpoint.has_decoder(init_from)
        tokenizer = None
        if has_written or writes:
            path, start = output / "tokenizer.json", init_from if has_written else None
            tokenizer = _tokenizer(path, self.tokenizer_lines, seed, start)
        reader = Reader(config)
        reader.reset_parameters(seed)
        if init_from is not None:
            load_reader(reader, init_from)
        for number, stage in enumerate(self.stages):
            is_writing = stage.kind == "writing"
            reader.kosmos.text.requires_grad_(is_writing)
            reader.kosmos.vision.requires_grad_(not is_writing)
            reader.line_reader.requires_grad_(not is_writing)
            has_written = has_written or is_writing
            # A run that ends before the decoder wrote anything leaves a reader without one.
            written = tokenizer if has_written else None
            yield TrainJob(
                reader,
                WritingObjective() if is_writing else LineObjective(compiled=self.compiled),
                self._batches(stage, pool, tokenizer, seed + number),
                options.apply(_train_config(stage)),
                functools.partial(export, tokenizer=written),
                HeldOut(loss_on(*_held_out(stage, self._batches(stage, held_out, tokenizer, seed)))),
                name=stage.name,
                embedding_like=leaves_matrix_alone,
            )

    def _batches(self, stage: Stage, pool: LinePool, tokenizer: Tokenizer | None, seed: int) -> BatchSource:
        if stage.kind == "lines":
            return LineBatches(pool, patches_per_batch=self.patches_per_batch, seed=seed)
        assert tokenizer is not None
        return WritingBatches(
            pool,
            KOSMOS_2_5_MINI.tokens,
            tokenizer,
            lengths=stage.lengths,
            tokens_per_batch=self.tokens_per_batch,
            num_queries=KOSMOS_2_5_MINI.num_queries,
            max_patches=KOSMOS_2_5_MINI.vision.max_patches,
            seed=seed,
        )


def _held_out(stage: Stage, batches: BatchSource) -> tuple[Objective, list[Any], str]:
    """Nats a character on lines in typefaces and from documents that training does not see."""
    # The batches of a last step have the lengths of the curriculum's end.
    found = [batches(stage.steps, shard, 4) for shard in range(4)]
    if stage.kind == "writing":
        return WritingObjective(), found, "writing"
    return LineObjective(compiled=False), found, "reading"


RECIPES: dict[str, Recipe | chat.Recipe] = {
    # Five to six hours on one core, rendering included.
    "ocr-small": Recipe(
        rendered_lines=360_000,
        stages=(
            Stage("lines", "lines", steps=4000, learning_rate=1.5e-3, schedule="constant"),
            Stage("lines-anneal", "lines", steps=7200, learning_rate=1.5e-3, schedule="linear", warmup_steps=0),
            Stage(
                "writing", "writing", steps=1400, learning_rate=1.5e-3, schedule="linear",
                lengths=((0, 8), (120, 16), (280, 32), (450, 56), (600, 88)),
            ),
        ),
    ),
    # A few minutes on one core: shows that every part works, not a model to use.
    "smoke": Recipe(
        rendered_lines=600,
        tokenizer_lines=2000,
        stages=(
            Stage("lines", "lines", steps=6, learning_rate=1.5e-3, schedule="constant", warmup_steps=2),
            Stage(
                "writing", "writing", steps=4, learning_rate=1e-3, schedule="constant", warmup_steps=2,
                lengths=((0, 4), (2, 12)),
            ),
        ),
        patches_per_batch=800,
        tokens_per_batch=1500,
        held_out_lines=60,
        compiled=False,
    ),
    "chat": chat.Recipe(),
}  # fmt: skip
LINES_PER_SHARD = 20_000


def _train_config(stage: Stage) -> TrainConfig:
    return TrainConfig(
        steps=stage.steps,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
        schedule=stage.schedule,
        optimizer="muon",
        betas=(0.9, 0.98),
        weight_decay=0.02,
        precision="bf16",
        ema_decay=0.999 if stage.schedule == "constant" else 0.99,
        log_every=20,
    )


def _rendered(folder: Path, lines: int, seed: int, split: Split) -> LinePool:
    sampler: LineSampler | None = (
        None  # looking for fonts and texts takes seconds, which a resumed run need not spend
    )
    for shard, start in enumerate(range(0, lines, LINES_PER_SHARD)):
        if (folder / f"shard_{shard:04d}.index.npz").is_file():
            continue
        if sampler is None:
            sampler = LineSampler(FontLibrary.discover().split(split), TextSource.discover(split=split))
        rng = np.random.default_rng([seed, shard])
        write_shard(folder, shard, sampler, rng, min(LINES_PER_SHARD, lines - start))
    return LinePool(folder)


def _tokenizer(path: Path, num_lines: int, seed: int, model_folder: Path | None) -> Tokenizer:
    # A decoder goes on with the ids it knows.
    if not path.is_file():
        if model_folder is not None:
            text = (model_folder / "tokenizer.json").read_text(encoding="utf-8")
        else:
            text = train_tokenizer(num_lines, seed).to_str() + "\n"
        files.write_text(path, text)
    return Tokenizer.from_file(str(path))


def load_reader(reader: Reader, folder: Path) -> None:
    """Fill a reader from a model folder that :func:`export` wrote; what the folder lacks stays as it is."""
    if checkpoint.has_decoder(folder):
        reader.kosmos.load_state_dict(checkpoint.load(folder).state_dict())
    else:
        reader.kosmos.vision.load_state_dict(checkpoint.load_vision(folder).state_dict())
    tensors.load(reader.line_reader, folder / LINE_READER_FILE, dtype=torch.float32)


def export(reader: Reader, folder: Path, *, tokenizer: Tokenizer | None = None) -> None:
    """Write a model folder that the pipeline loads, in bfloat16: the encoder and its line reader.

    With a ``tokenizer`` the decoder goes with them, and the folder is one that `transformers` loads as well.
    """
    if tokenizer is not None:
        checkpoint.save(reader.kosmos, folder, dtype=torch.bfloat16, max_shard_bytes=15_000_000)
        files.write_text(folder / "tokenizer.json", tokenizer.to_str() + "\n")
    else:
        checkpoint.save_vision(reader.kosmos, folder, dtype=torch.bfloat16)
    tensors.save(reader.line_reader, folder, filename=LINE_READER_FILE, dtype=torch.bfloat16)


def train_tokenizer(num_lines: int, seed: int) -> Tokenizer:
    """The reader's tokenizer, trained on the same text that is rendered for it."""
    texts = TextSource.discover(split="train")
    rng = np.random.default_rng(seed)
    lines = (texts.line(rng, 80, 10) for _ in range(num_lines))
    return train_small_tokenizer(lines, KOSMOS_2_5_MINI.tokens.num_text_tokens)
