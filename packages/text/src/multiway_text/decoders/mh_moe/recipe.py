"""Training on bytes: random windows of a text, AdamW with a cosine (arXiv 2411.16205, section 4, in small)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from multiway_core.errors import InputError
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions
from torch import Tensor, nn

from multiway_text.decoders.mh_moe import checkpoint, processor
from multiway_text.decoders.mh_moe.config import MHMoEConfig
from multiway_text.decoders.mh_moe.model import MHMoE
from multiway_text.decoders.mh_moe.objective import language_loss
from multiway_text.documents import documents


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


def job(
    model: MHMoE,
    data_S: Tensor,
    config: TrainConfig,
    *,
    held_out_S: Tensor | None = None,
    batch_size: int = 16,
    length: int = 129,
) -> TrainJob:
    """Training on windows of ``length`` tokens, scored on a text that is held out."""

    def objective(module: nn.Module, tokens_BT: Tensor) -> Loss:
        assert isinstance(module, MHMoE)
        found = language_loss(module, tokens_BT)
        mean = found.entropy.detach() / found.num_tokens
        return Loss(
            found.total, found.num_tokens, {"nats": mean, "balance": found.balance.detach()}, batch_size
        )

    def source(step: int, shard: int, num_shards: int) -> Tensor:
        return windows(data_S, batch_size, length, config.seed * 1_000_003 + step * 97 + shard)

    def score(module: nn.Module) -> dict[str, float]:
        assert isinstance(module, MHMoE)
        assert held_out_S is not None
        return {"nats": evaluate(module, held_out_S, length=length)}

    return TrainJob(
        model, objective, source, config, checkpoint.save, None if held_out_S is None else HeldOut(score)
    )


@dataclass(frozen=True)
class Recipe:
    """A mixture of multi-head experts on the bytes of texts (``options.data``: files; else Python's documentation).

    The last tenth of the text is held out.
    """

    model: MHMoEConfig
    train: TrainConfig
    batch_size: int = 16
    length: int = 129

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run. Raises InputError for too little text."""
        text = "\n".join(document.text for document in documents(options.data))
        data_S = torch.tensor(
            processor.encode(text), dtype=torch.uint8 if processor.VOCAB_SIZE <= 256 else torch.int16
        )
        cut = len(data_S) * 9 // 10
        torch.manual_seed(options.seed)
        return job(
            MHMoE(self.model),
            data_S[:cut],
            options.apply(self.train),
            held_out_S=data_S[cut:][: 64 * self.length],
            batch_size=self.batch_size,
            length=self.length,
        )


def _sizes(**sizes: Any) -> MHMoEConfig:
    return MHMoEConfig(vocab_size=processor.VOCAB_SIZE, **sizes)


@torch.no_grad()
def evaluate(model: MHMoE, data_S: Tensor, *, length: int = 129, batch_size: int = 32) -> float:
    """Mean cross-entropy in nats of a text, cut in stretches of ``length`` of which each but the first token counts."""
    count = len(data_S) // length
    if not count:
        raise InputError(f"a text of {len(data_S)} tokens has no stretch of {length}")
    rows = data_S[: count * length].view(count, length).long()
    total = sum(float(language_loss(model, part).entropy) for part in rows.split(batch_size))
    return total / (count * (length - 1))


RECIPES = {
    "mh-moe-bytes": Recipe(
        _sizes(
            hidden_size=128, num_layers=4, num_heads=4, inner_size=512, mixture_every=2,
            split_heads=4, num_experts=8, experts_per_token=2, expert_size=128,
        ),
        train_config(2000, 2e-3),
    ),
    # Half a minute on one core: shows that every part works.
    "mh-moe-smoke": Recipe(
        _sizes(
            hidden_size=32, num_layers=2, num_heads=4, inner_size=64, mixture_every=2,
            split_heads=4, num_experts=4, experts_per_token=2, expert_size=32,
        ),
        train_config(20, 5e-3),
        batch_size=8,
        length=65,
    ),
}  # fmt: skip
