"""Search without retraining: members are ranked by the distillation loss that they have with inherited weights.

Every member is scored on one batch, and in each round the half that fewer others dominate goes on to twice as many
(successive halving); a member dominates another if it costs no more and loses less. Nothing needs labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from multiway_blocks.text_encoder import TextEncoder
from multiway_core.errors import InputError

from multiway_text.autodistil.objective import SandwichDistillation
from multiway_text.autodistil.space import Subnet, flops, parameters, published_parameters, shape
from multiway_text.sequences import Rows

Cost = Literal["parameters", "flops"]


@dataclass(frozen=True)
class Candidate:
    """A member, what it costs, its mean loss, on how many batches, and whether no other one dominates it."""

    subnet: Subnet
    parameters: int
    published_parameters: float
    flops: int
    loss: float
    batches: int
    on_front: bool = False

    def cost(self, kind: Cost) -> int:
        """What counts against the budget."""
        return self.parameters if kind == "parameters" else self.flops


class Search:
    """Members of a super-network and their losses on held-out batches. ``length``: of the text that FLOPs are of."""

    def __init__(
        self,
        supernet: TextEncoder,
        objective: SandwichDistillation,
        batches: Sequence[Rows],
        length: int = 128,
    ) -> None:
        if not batches:
            raise InputError("a search needs held-out text")
        self.supernet, self.objective, self.batches, self.length = supernet.eval(), objective, batches, length
        with torch.no_grad():
            self.taught = [objective.teacher(rows.ids_BT, rows.valid_BT) for rows in batches]
        self._losses: dict[Subnet, list[tuple[float, int]]] = {}

    @torch.no_grad()
    def score(self, subnet: Subnet, batches: int) -> Candidate:
        """A member on the first batches; what was computed before is kept."""
        losses = self._losses.setdefault(subnet, [])
        for index in range(len(losses), min(batches, len(self.batches))):
            rows = self.batches[index]
            loss = self.objective.member_loss(self.supernet, subnet, rows, self.taught[index])
            losses.append((float(loss), int(rows.valid_BT.sum())))
        used = losses[: min(batches, len(self.batches))]
        config = shape(subnet, self.supernet.config, self.objective.head_size)
        return Candidate(
            subnet,
            parameters(config),
            published_parameters(subnet, config.vocab_size, config.num_positions),
            flops(config, self.length),
            sum(loss * weight for loss, weight in used) / sum(weight for _, weight in used),
            len(used),
        )

    def run(self, *, budget: float | None = None, cost: Cost = "parameters") -> list[Candidate]:
        """Candidates that went through all rounds, best first, those within the budget alone.

        Raises InputError for a cost that is unknown, or a budget that no member meets.
        """
        if cost not in ("parameters", "flops"):
            raise InputError(f"unknown budget {cost!r}; there are: parameters, flops")
        found = [self.score(subnet, 1) for subnet in self.objective.space.subnets()]
        cheapest = min(candidate.cost(cost) for candidate in found)
        if budget is not None:
            found = [candidate for candidate in found if candidate.cost(cost) <= budget]
        if not found:
            raise InputError(f"no member has at most {budget:,.0f} {cost}; the smallest has {cheapest:,}")
        batches = 1
        while batches < len(self.batches):
            batches *= 2
            kept = _by_dominators(found, cost)[: max(1, (len(found) + 1) // 2)]
            found = [self.score(candidate.subnet, batches) for candidate in kept]
        front = {candidate.subnet for candidate in found if not _dominators(candidate, found, cost)}
        found = [Candidate(**{**vars(one), "on_front": one.subnet in front}) for one in found]
        return sorted(found, key=lambda one: (one.loss, one.cost(cost)))


def _dominators(one: Candidate, others: Sequence[Candidate], cost: Cost) -> int:
    own = one.cost(cost)
    return sum(
        (other.cost(cost) <= own and other.loss < one.loss)
        or (other.cost(cost) < own and other.loss <= one.loss)
        for other in others
    )


def _by_dominators(found: Sequence[Candidate], cost: Cost) -> list[Candidate]:
    return sorted(found, key=lambda one: (_dominators(one, found, cost), one.loss))
