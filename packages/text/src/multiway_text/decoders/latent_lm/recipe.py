"""Training: first the tokenizer, then the Transformer on its latents, class-conditional (LatentLM, section 3.1).

Any pictures in memory will do; ``benchmarks/text/latent_lm_digits.py`` trains on digits of 8 x 8 pixels in a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from multiway_core.errors import InputError
from multiway_core.training import Loss, TrainConfig, Trainer, TrainResult, load_ema_into
from torch import Tensor, nn

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


def train_tokenizer(
    tokenizer: PictureTokenizer,
    pixels_NCHW: Tensor,
    config: TrainConfig,
    folder: Path,
    *,
    batch_size: int = 64,
) -> TrainResult:
    """Train in place on pictures in [-1, 1]; continues a run that ``folder`` holds."""
    draw = pick(len(pixels_NCHW), batch_size, config.seed)

    def objective(model: nn.Module, pixels: Tensor) -> Loss:
        assert isinstance(model, PictureTokenizer)
        loss, error = tokenizer_loss(model, pixels)
        return Loss(loss * len(pixels), len(pixels), {"squared_error": error.detach()}, len(pixels))

    def source(step: int, shard: int, num_shards: int) -> Tensor:
        return pixels_NCHW[draw(step, shard)]

    result = Trainer(tokenizer, objective, source, config, folder).fit()
    if config.ema_decay:
        load_ema_into(tokenizer, folder)
    tokenizer.eval()
    return result


@torch.no_grad()
def encode_all(tokenizer: PictureTokenizer, pixels_NCHW: Tensor, *, batch_size: int = 256) -> Posterior:
    """The posteriors of many pictures, computed once."""
    found = [tokenizer.eval().encode(part) for part in pixels_NCHW.split(batch_size)]
    variances = [part.log_variance_BND for part in found if part.log_variance_BND is not None]
    return Posterior(
        torch.cat([part.mean_BND for part in found]), torch.cat(variances) if variances else None
    )


def train_class_conditional(
    model: LatentLM,
    tokenizer: PictureTokenizer,
    pixels_NCHW: Tensor,
    labels_N: Tensor,
    config: TrainConfig,
    folder: Path,
    *,
    batch_size: int = 64,
    draws: int = 4,
    token_weight: float = 0.1,
) -> TrainResult:
    """Train in place on rows of class, <BOD>, latents, <EOD>, eos; latents are sampled anew in every step.

    ``token_weight``: of the tokens' mean loss beside the latents'.
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

    result = Trainer(model, objective, source, config, folder).fit()
    if config.ema_decay:
        load_ema_into(model, folder)
    model.eval()
    return result
