"""Training: first the tokenizer, then the Transformer on its latents, class-conditional (LatentLM, section 3.1).

Any pictures in memory will do; ``benchmarks/text/latent_lm_digits.py`` trains on digits of 8 x 8 pixels in a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from multiway_core import checkpoint as tensors
from multiway_core.errors import DataError, InputError
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions, loss_on
from torch import Tensor, nn

from multiway_text.decoders.latent_lm import checkpoint
from multiway_text.decoders.latent_lm.config import LatentLMConfig, TokenizerConfig
from multiway_text.decoders.latent_lm.model import LatentLM
from multiway_text.decoders.latent_lm.objective import Batch, hide_prompts, losses, tokenizer_loss
from multiway_text.decoders.latent_lm.processor import LatentLMProcessor
from multiway_text.decoders.latent_lm.tokenizer import PictureTokenizer, Posterior

CLASS_DROPOUT = 0.1
"""Share of rows whose text is hidden, so that guidance has its second context."""


def train_config(steps: int, learning_rate: float, seed: int = 0, ema_decay: float = 0.0) -> TrainConfig:
    """AdamW (0.9, 0.98), weight decay 0.01, clipping at 1, as the released code has; cosine with a short warm-up."""
    return TrainConfig(
        steps=steps,
        learning_rate=learning_rate,
        warmup_steps=min(100, max(1, steps // 10)),
        betas=(0.9, 0.98),
        weight_decay=0.01,
        final_learning_rate_ratio=0.02,
        ema_decay=ema_decay,
        keep_checkpoints=1,
        log_every=100,
        checkpoint_every_seconds=0,
        seed=seed,
    )


def pick(count: int, batch_size: int, seed: int) -> Callable[[int, int], Tensor]:
    """(step, shard) -> int64 (batch_size,) of indices below ``count``, the same at every call."""
    if count < 1 or batch_size < 1:
        raise InputError(f"a batch of {batch_size} out of {count} pictures cannot be drawn")

    def draw(step: int, shard: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step * 97 + shard)
        return torch.randint(count, (batch_size,), generator=generator)

    return draw


def tokenizer_job(
    tokenizer: PictureTokenizer,
    pixels_NCHW: Tensor,
    config: TrainConfig,
    *,
    held_out_NCHW: Tensor | None = None,
    batch_size: int = 64,
) -> TrainJob:
    """Training on pictures in [-1, 1]; the score is the loss on pictures that are held out."""
    draw = pick(len(pixels_NCHW), batch_size, config.seed)

    def objective(model: nn.Module, pixels: Tensor) -> Loss:
        assert isinstance(model, PictureTokenizer)
        loss, error = tokenizer_loss(model, pixels)
        return Loss(loss * len(pixels), len(pixels), {"squared_error": error.detach()}, len(pixels))

    def source(step: int, shard: int, num_shards: int) -> Tensor:
        return pixels_NCHW[draw(step, shard)]

    def export(model: PictureTokenizer, folder: Path) -> None:
        tensors.save(model, folder)

    score = None if held_out_NCHW is None else loss_on(objective, [held_out_NCHW], "squared_error")
    return TrainJob(tokenizer, objective, source, config, export, score and HeldOut(score), name="tokenizer")


@torch.no_grad()
def encode_all(tokenizer: PictureTokenizer, pixels_NCHW: Tensor, *, batch_size: int = 256) -> Posterior:
    """The posteriors of many pictures, computed once."""
    found = [tokenizer.eval().encode(part) for part in pixels_NCHW.split(batch_size)]
    variances = [part.log_variance_BND for part in found if part.log_variance_BND is not None]
    return Posterior(
        torch.cat([part.mean_BND for part in found]), torch.cat(variances) if variances else None
    )


def class_conditional_job(
    model: LatentLM,
    tokenizer: PictureTokenizer,
    pixels_NCHW: Tensor,
    labels_N: Tensor,
    config: TrainConfig,
    *,
    held_out: tuple[Tensor, Tensor] | None = None,
    batch_size: int = 64,
    draws: int = 4,
    token_weight: float = 0.1,
) -> TrainJob:
    """Training on rows of class, <BOD>, latents, <EOD>, eos; latents are sampled anew in every step.

    ``held_out``: pixels and labels to be scored on. ``token_weight``: of the tokens' mean loss beside the latents'.
    """
    posterior = encode_all(tokenizer, pixels_NCHW)
    model.measure_latents(tokenizer.sample(posterior, torch.Generator().manual_seed(config.seed)))
    processor = LatentLMProcessor(model, tokenizer)
    draw = pick(len(pixels_NCHW), batch_size, config.seed)

    def source(step: int, shard: int, num_shards: int) -> tuple[Batch, Tensor]:
        rows = draw(step, shard)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step * 97 + shard + 1)
        variance = None if posterior.log_variance_BND is None else posterior.log_variance_BND[rows]
        latents = tokenizer.sample(Posterior(posterior.mean_BND[rows], variance), generator)
        documents: list[list[Any]] = [
            [int(label), one] for label, one in zip(labels_N[rows].tolist(), latents, strict=True)
        ]
        hidden_B = torch.rand(len(rows), generator=generator) < CLASS_DROPOUT
        return processor.batch(documents, end=True), hidden_B

    def objective(module: nn.Module, item: tuple[Batch, Tensor]) -> Loss:
        assert isinstance(module, LatentLM)
        batch, hidden_B = item
        tokens = hide_prompts(batch.tokens_BT, hidden_B, module)
        found = losses(module, Batch(tokens, batch.valid_BT, batch.latents_ND), draws=draws)
        token_mean = found.token_total / found.num_tokens
        latent_mean = found.latent_total / found.num_latents
        total = (latent_mean + token_weight * token_mean) * found.num_latents
        metrics = {"token_loss": token_mean.detach(), "latent_loss": latent_mean.detach()}
        return Loss(total, found.num_latents, metrics, len(tokens))

    def export(trained: LatentLM, folder: Path) -> None:
        checkpoint.save(trained, tokenizer, folder)

    score = None
    if held_out is not None:
        pixels, labels = held_out
        latents = tokenizer.sample(encode_all(tokenizer, pixels), torch.Generator().manual_seed(config.seed))
        rows = [[int(label), one] for label, one in zip(labels.tolist(), latents, strict=True)]
        shown_B = torch.zeros(len(rows), dtype=torch.bool)
        score = loss_on(objective, [(processor.batch(rows, end=True), shown_B)], "latent_loss")
    return TrainJob(model, objective, source, config, export, score and HeldOut(score), name="latents")


@dataclass(frozen=True)
class Recipe:
    """Pictures by class: the tokenizer first, then the Transformer on its latents.

    ``options.data`` is a safetensors file with ``pixels`` (N, C, H, W) in [-1, 1] and ``labels`` (N,) int64; without
    one, dark and light pictures are drawn. One picture in ten is held out.
    """

    tokenizer: TokenizerConfig
    model: LatentLMConfig
    tokenizer_train: TrainConfig
    train: TrainConfig
    batch_size: int = 64
    token_weight: float = 0.1

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """The two jobs. Raises DataError for a file that is not as described."""
        pixels, labels = self._data(options)
        kept = torch.arange(len(pixels)) % 10 == 9
        torch.manual_seed(options.seed)
        tokenizer = PictureTokenizer(self.tokenizer)
        model = LatentLM(self.model)
        yield tokenizer_job(
            tokenizer,
            pixels[~kept],
            options.apply(self.tokenizer_train),
            held_out_NCHW=pixels[kept],
            batch_size=self.batch_size,
        )
        yield class_conditional_job(
            model,
            tokenizer,
            pixels[~kept],
            labels[~kept],
            options.apply(self.train),
            held_out=(pixels[kept], labels[kept]),
            batch_size=self.batch_size,
            token_weight=self.token_weight,
        )

    def _data(self, options: TrainOptions) -> tuple[Tensor, Tensor]:
        sizes = (self.tokenizer.num_channels, self.tokenizer.image_size, self.tokenizer.image_size)
        if not options.data:
            labels = torch.arange(100) % 2
            noise = torch.randn(100, *sizes, generator=torch.Generator().manual_seed(0))
            return (labels * 1.2 - 0.6)[:, None, None, None] + 0.1 * noise, labels
        try:
            found = safetensors.torch.load_file(options.data[0])
            pixels, labels = found["pixels"].float(), found["labels"].long()
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise DataError(
                f"{options.data[0]}: expected safetensors with pixels and labels ({error})"
            ) from error
        if pixels.shape[1:] != sizes or labels.shape != (len(pixels),) or len(pixels) < 10:
            raise DataError(
                f"{options.data[0]}: pixels {list(pixels.shape)}, labels {list(labels.shape)}; expected "
                f"{['N', *sizes]} and ['N'], ten at least"
            )
        return pixels, labels


RECIPES = {
    # The sizes of `benchmarks/text/latent_lm_digits.py`, for digits of 8 x 8 pixels in ten classes.
    "latent-lm-digits": Recipe(
        TokenizerConfig(
            image_size=8, num_channels=1, patch_size=2, latent_size=4, hidden_size=64, num_layers=2, num_heads=4,
            inner_size=256,
        ),
        LatentLMConfig(vocab_size=15, latent_size=4, hidden_size=96, num_layers=4, num_heads=4, head_layers=3),
        train_config(1500, 2e-3),
        train_config(3000, 2e-3, ema_decay=0.999),
    ),
    # A few seconds on one core: shows that every part works.
    "latent-lm-smoke": Recipe(
        TokenizerConfig(
            image_size=8, num_channels=1, patch_size=4, latent_size=3, hidden_size=16, num_layers=1, num_heads=2,
            inner_size=32,
        ),
        LatentLMConfig(vocab_size=7, latent_size=3, hidden_size=16, num_layers=1, num_heads=2, head_layers=1),
        train_config(20, 1e-2),
        train_config(20, 5e-3, ema_decay=0.9),
        batch_size=16,
        token_weight=1.0,
    ),
}  # fmt: skip
