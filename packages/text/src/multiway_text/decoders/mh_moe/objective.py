"""Next-token loss with the balance of experts, and how many experts a model uses.

Shape suffixes: B batch, T tokens, N experts, S routed (sub-)tokens, L mixture layers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from multiway_text.decoders.mh_moe.model import MHMoE


class LanguageLoss(NamedTuple):
    """Sums over predicted tokens."""

    total: Tensor
    """Cross-entropy and ``balance_weight`` times the balance loss for each token; what to minimise."""
    entropy: Tensor
    """Cross-entropy alone, in nats."""
    balance: Tensor
    """Mean balance loss of the mixtures, 1 at balance."""
    num_tokens: int


def language_loss(model: MHMoE, tokens_BT: Tensor) -> LanguageLoss:
    """Every token but a row's first is predicted; rows are packed, without padding (arXiv 2404.15045, equation 8)."""
    hidden_BTE, balance = model.hidden_and_balance(tokens_BT[:, :-1])
    logits = model.logits(hidden_BTE).flatten(0, 1).float()
    targets = tokens_BT[:, 1:].flatten()
    entropy = nn.functional.cross_entropy(logits, targets, reduction="sum")
    weighted = model.config.balance_weight * balance * len(targets)
    return LanguageLoss(entropy + weighted, entropy, balance, len(targets))


@torch.no_grad()
def expert_loads(model: MHMoE, tokens_BT: Tensor) -> Tensor:
    """Share of the routed (sub-)tokens' choices that each expert of each mixture gets: (L, N), rows sum to 1."""
    counts: list[Tensor] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], logits_SN: Tensor) -> None:
        chosen_SK = logits_SN.topk(model.config.experts_per_token, dim=-1).indices
        counts.append(torch.bincount(chosen_SK.flatten(), minlength=logits_SN.shape[1]))

    hooks = [mixture.gate.register_forward_hook(count) for mixture in model.mixtures()]
    try:
        model.hidden(tokens_BT)
    finally:
        for hook in hooks:
            hook.remove()
    if not counts:
        return torch.zeros(0, model.config.num_experts)
    counts_LN = torch.stack(counts).double()
    return counts_LN / counts_LN.sum(dim=1, keepdim=True)


def activation_ratio(loads_LN: Tensor) -> float:
    """Share of experts that get at least a quarter of a fair share of the load (arXiv 2404.15045, section 1)."""
    if not loads_LN.numel():
        return 1.0
    return float((loads_LN >= 1 / (4 * loads_LN.shape[1])).double().mean())
