"""Training by the sandwich rule: in every step the largest and the smallest member, and some between them."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

import torch
from multiway_blocks import distillation
from multiway_blocks.text_encoder import TextEncoder
from multiway_core.errors import InputError
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_text.autodistil.elastic import LastStates, last_states
from multiway_text.autodistil.space import Space, Subnet, shape
from multiway_text.sequences import Rows, SequenceBatches

LossKind = Literal["kl", "mse"]


class Sandwich(NamedTuple):
    """Rows, and the members that learn from them."""

    rows: Rows
    subnets: tuple[Subnet, ...]


class SandwichBatches:
    """Batches with the members of each step: the largest, the smallest, and ``between`` drawn by seed and step."""

    def __init__(self, batches: SequenceBatches, space: Space, between: int = 2, seed: int = 0) -> None:
        self.batches, self.space, self.between, self.seed = batches, space, between, seed
        self.members = space.subnets()

    def __call__(self, step: int, shard: int, num_shards: int) -> Sandwich:
        """The members are those of the step, whatever the shard."""
        draw = random.Random(self.seed * 1_000_003 + step)
        drawn = draw.sample(self.members, min(self.between, len(self.members)))
        subnets = (self.space.largest, self.space.smallest, *drawn)
        return Sandwich(self.batches(step, shard, num_shards), tuple(dict.fromkeys(subnets)))


class SandwichDistillation:
    """The objective of the trainer: the members' losses, summed; each a mean over tokens.

    loss: ``kl``, MiniLMv2's relations in the teacher's last layer (the paper), or ``mse``, the squared error of their
        scores (the released code).
    """

    def __init__(
        self, teacher: TextEncoder, space: Space, *, loss: LossKind = "kl", relation_heads: int = 16
    ) -> None:
        if loss not in ("kl", "mse"):
            raise InputError(f"unknown loss {loss!r}; there are: kl, mse")
        self.teacher, self.space, self.loss, self.heads = (
            LastStates(teacher).eval(),
            space,
            loss,
            relation_heads,
        )
        self.head_size = space.head_size or teacher.config.attention_head_size
        widths = {"teacher": teacher.config.num_heads * teacher.config.attention_head_size}
        widths |= {f"member with {heads} heads": heads * self.head_size for heads in space.heads}
        for name, width in widths.items():
            if relation_heads < 1 or (width % relation_heads and loss == "kl"):
                raise InputError(
                    f"{relation_heads} relation heads do not divide the width {width} of the {name}; "
                    f"a divisor of the head size {self.head_size} divides all"
                )

    def __call__(self, supernet: nn.Module, batch: Sandwich) -> Loss:
        """The loss of a batch."""
        assert isinstance(supernet, TextEncoder)
        rows = batch.rows
        self.teacher.to(rows.ids_BT.device)
        with torch.no_grad():
            theirs = self.teacher(rows.ids_BT, rows.valid_BT)
        weight = int(rows.valid_BT.sum())
        losses = [self.member_loss(supernet, subnet, rows, theirs) for subnet in batch.subnets]
        return Loss(torch.stack(losses).sum() * weight, weight, samples=len(rows.ids_BT))

    def member_loss(
        self, supernet: TextEncoder, subnet: Subnet, rows: Rows, theirs: distillation.States
    ) -> Tensor:
        """One member's mean over tokens; ``theirs``: the teacher's states."""
        config = shape(subnet, supernet.config, self.head_size)
        own = last_states(supernet, config, rows.ids_BT, rows.valid_BT)
        compare = distillation.minilm_v2 if self.loss == "kl" else distillation.relation_scores
        return compare(own, theirs, self.heads, rows.valid_BT)
