"""Training on bytes: random windows of a text, AdamW with a cosine (arXiv 2411.16205, section 4, in small)."""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_core.errors import InputError
from multiway_core.training import Loss, TrainConfig, Trainer, TrainResult
from torch import Tensor, nn

from multiway_text.decoders.mh_moe.model import MHMoE
from multiway_text.decoders.mh_moe.objective import language_loss


def train_config(steps: int, learning_rate: float, seed: int = 0) -> TrainConfig:
    """AdamW (0.9, 0.98), weight decay 0.01, a tenth of warm-up, cosine to a twentieth of the peak."""
    return TrainConfig(
        steps=steps,
        learning_rate=learning_rate,
        warmup_steps=max(1, steps // 10),
        betas=(0.9, 0.98),
        weight_decay=0.01,
        final_learning_rate_ratio=0.05,
        keep_checkpoints=1,
        log_every=50,
        checkpoint_every_seconds=0,
        seed=seed,
    )


def windows(data_S: Tensor, count: int, length: int, seed: int) -> Tensor:
    """Int64 (count, length) of random stretches of a text, int or uint8 (S,). Raises InputError if it is too short."""
    if length < 2 or len(data_S) < length:
        raise InputError(f"a text of {len(data_S)} tokens has no windows of {length} (2 at least)")
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(data_S) - length + 1, (count, 1), generator=generator)
    return data_S[starts + torch.arange(length)].long()


def train(
    model: MHMoE,
    data_S: Tensor,
    config: TrainConfig,
    folder: Path,
    *,
    batch_size: int = 16,
    length: int = 129,
) -> TrainResult:
    """Train in place on windows of ``length`` tokens; continues a run that ``folder`` holds."""

    def objective(module: nn.Module, tokens_BT: Tensor) -> Loss:
        assert isinstance(module, MHMoE)
        found = language_loss(module, tokens_BT)
        mean = found.entropy.detach() / found.num_tokens
        return Loss(
            found.total, found.num_tokens, {"nats": mean, "balance": found.balance.detach()}, batch_size
        )

    def source(step: int, shard: int, num_shards: int) -> Tensor:
        return windows(data_S, batch_size, length, config.seed * 1_000_003 + step * 97 + shard)

    result = Trainer(model, objective, source, config, folder).fit()
    model.eval()
    return result


@torch.no_grad()
def evaluate(model: MHMoE, data_S: Tensor, *, length: int = 129, batch_size: int = 32) -> float:
    """Mean cross-entropy in nats of a text, cut in stretches of ``length`` of which each but the first token counts."""
    count = len(data_S) // length
    if not count:
        raise InputError(f"a text of {len(data_S)} tokens has no stretch of {length}")
    rows = data_S[: count * length].view(count, length).long()
    total = sum(float(language_loss(model, part).entropy) for part in rows.split(batch_size))
    return total / (count * (length - 1))
