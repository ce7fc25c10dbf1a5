"""xTune's losses (Zheng et al. 2021): consistency of an example with its augmentation (R1), and of the model with that
of the first stage (R2).

Wherever two distributions are compared, no gradient flows through the first argument of the divergence. Their
logarithms are taken in float32. Shape suffixes: B rows, T tokens, N compared distributions, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["element", "row"]
"""What a divergence is divided by: all numbers compared (rows x classes), as the authors' code does, or the rows."""


def divergence(target_NC: Tensor, input_NC: Tensor, reduction: Reduction = "element") -> Tensor:
    """KL(p_target || p_input) of logits, a scalar; the target gets no gradient. 0 without rows."""
    log_target_NC = target_NC.detach().float().log_softmax(-1)
    log_input_NC = input_NC.float().log_softmax(-1)
    total = (log_target_NC.exp() * (log_target_NC - log_input_NC)).sum()
    count = len(input_NC) * (input_NC.shape[-1] if reduction == "element" else 1)
    return total / max(1, count)


def consistency(plain_NC: Tensor, augmented_NC: Tensor, reduction: Reduction = "element") -> Tensor:
    """R1, both directions: KL(sg[plain] || augmented) + KL(sg[augmented] || plain)."""
    return divergence(plain_NC, augmented_NC, reduction) + divergence(augmented_NC, plain_NC, reduction)


def position_log_probs(logits_BT: Tensor, valid_BT: Tensor) -> Tensor:
    """Logarithms of the probabilities of a window's places, in float32; padding has none."""
    return logits_BT.float().masked_fill(~valid_BT, -torch.inf).log_softmax(1)


def buckets(log_BT: Tensor, aligned_BT: Tensor, has_rest_B: Tensor) -> Tensor:
    """(K,): log-probabilities of the aligned places of all rows, then the mass of each row's other places.

    ``has_rest_B``: rows whose other places are compared.
    """
    rest_BT = log_BT[has_rest_B].masked_fill(aligned_BT[has_rest_B], -torch.inf)
    return torch.cat([log_BT[aligned_BT], rest_BT.logsumexp(1)])


def span_consistency(
    plain: tuple[Tensor, Tensor, Tensor], augmented: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """R1 of one end of the answer: the mean of both directions, summed over places and divided by the rows.

    Args:
        plain, augmented: logits (B, T), valid (B, T), aligned (B, T) of an example and its augmentation. Row by row
            as many places are aligned in the one as in the other, in the same order.
    """
    has_rest_B = torch.ones(len(plain[0]), dtype=torch.bool, device=plain[0].device)
    for _, valid_BT, aligned_BT in (plain, augmented):
        has_rest_B &= (valid_BT & ~aligned_BT).any(1)
    one_K, other_K = (
        buckets(position_log_probs(logits_BT, valid_BT), aligned_BT, has_rest_B)
        for logits_BT, valid_BT, aligned_BT in (plain, augmented)
    )
    return (_divergence_of_logs(one_K, other_K) + _divergence_of_logs(other_K, one_K)) / 2 / len(has_rest_B)


def span_divergence(target_BT: Tensor, input_BT: Tensor, valid_BT: Tensor) -> Tensor:
    """R2 of one end: KL(sg[target] || input) over the places of the same windows, divided by the rows."""
    target_K, input_K = (position_log_probs(logits, valid_BT)[valid_BT] for logits in (target_BT, input_BT))
    return _divergence_of_logs(target_K, input_K) / max(1, len(input_BT))


def _divergence_of_logs(target_K: Tensor, input_K: Tensor) -> Tensor:
    target_K = target_K.detach()
    return (target_K.exp() * (target_K - input_K)).sum()
