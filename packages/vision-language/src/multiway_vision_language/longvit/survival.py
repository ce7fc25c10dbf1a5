"""Survival in discrete time: intervals, the likelihood with censoring, a risk, and the concordance index.

Shape suffixes: B slides, K time intervals, N subjects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from multiway_core.errors import InputError
from numpy.typing import ArrayLike
from torch import Tensor

EPS = 1e-7
TIED = 1e-8


def time_bins(times: Sequence[float], events: Sequence[bool], count: int = 4) -> tuple[float, ...]:
    """Upper ends of all intervals but the last: quantiles of the times of those who had the event.

    Raises InputError: a negative or unknown time, or fewer than ``count`` different times of events.
    """
    check_times(times)
    observed = np.array([time for time, event in zip(times, events, strict=True) if event])
    if len(set(observed.tolist())) < count:
        raise InputError(
            f"survival needs events at {count} different times at least, not {len(set(observed.tolist()))}"
        )
    ends = np.quantile(observed, np.arange(1, count) / count)
    if len(set(ends.tolist())) < count - 1:
        raise InputError("survival needs events at more different times: two quantiles of them are equal")
    return tuple(float(end) for end in ends)


def check_times(times: Sequence[float]) -> None:
    """Raise InputError for a time that is negative, infinite or no number."""
    for row, time in enumerate(times, 1):
        if not (np.isfinite(time) and time >= 0):
            raise InputError(
                f"survival: the time of slide {row} is {time:g}; expected a number of at least 0"
            )


def interval_of(times: Tensor, bins: Sequence[float]) -> Tensor:
    """The interval (int64) of each time: how many ends it has reached."""
    return torch.bucketize(times, torch.tensor(bins, dtype=times.dtype), right=True)


def survival_loss(logits_BK: Tensor, interval_B: Tensor, event_B: Tensor) -> Tensor:
    """Negative log-likelihoods (B,): hazards h = sigmoid(logits), S_k the product of 1 - h up to k, S_-1 = 1.

    With the event in interval y: -log S_(y-1) - log h_y; without, observed through y: -log S_y.
    """
    hazard_BK = logits_BK.sigmoid()
    survival_BK = (1 - hazard_BK).cumprod(dim=1)
    before_BK = torch.cat([torch.ones_like(survival_BK[:, :1]), survival_BK], dim=1)

    def at(values: Tensor) -> Tensor:
        return values.gather(1, interval_B[:, None])[:, 0].clamp(min=EPS).log()

    happened = at(before_BK) + at(hazard_BK)
    lived = at(before_BK[:, 1:])
    return -torch.where(event_B, happened, lived)


def risk(logits_BK: Tensor) -> Tensor:
    """Minus the sum of the survival probabilities (B,): larger is earlier."""
    return -(1 - logits_BK.sigmoid()).cumprod(dim=1).sum(dim=1)


def concordance_index(times: ArrayLike, events: ArrayLike, risks: ArrayLike) -> float:
    """Harrell's concordance index for censored data, ties of the risk counting half.

    A pair is comparable if the one with the shorter time had the event, or if times are equal and one of both had it.
    Risks nearer than 1e-8 are tied. NaN where no pair is comparable.
    """
    time_N, event_N = np.asarray(times, float), np.asarray(events, bool)
    risk_N = np.asarray(risks, float)
    concordant = comparable = 0.0
    for index in np.flatnonzero(event_N):
        later_N = (time_N > time_N[index]) | ((time_N == time_N[index]) & ~event_N)
        difference = risk_N[index] - risk_N[later_N]
        tied = np.abs(difference) <= TIED
        concordant += float((difference[~tied] > 0).sum()) + 0.5 * float(tied.sum())
        comparable += float(later_N.sum())
    return concordant / comparable if comparable else float("nan")
