"""Re-ranking by rule: which news may be shown, and the popularity ranking that a cold-start reader gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

DAY = 86_400  # seconds
HALF_LIFE_DAYS = 2.0  # after which a reader without history is shown news half as readily


@dataclass(frozen=True)
class RerankingOptions:
    """How a list is made from scores.

    ``diversity`` and ``per_category``: see :func:`multiway_recsys.serving.diversity.diversify`. ``max_age_days`` leaves
    out news older than that (where their time is known). ``exclude_seen`` leaves out what the reader has clicked,
    ``blocked`` ids that must not be shown.
    """

    diversity: float = 0.3
    per_category: int | None = None
    max_age_days: float | None = None
    exclude_seen: bool = True
    blocked: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 <= self.diversity <= 1:
            raise InputError(
                f"diversity {self.diversity}: expected 0 (best scores only) to 1 (most different)"
            )
        if self.per_category is not None and self.per_category < 1:
            raise InputError(f"{self.per_category} articles a category: must be at least 1")
        if self.max_age_days is not None and not self.max_age_days > 0:
            raise InputError(f"a largest age of {self.max_age_days} days: must be more than 0")


def candidate_mask(
    published_N: NDArray[np.int64] | None,
    now: int | None,
    rules: RerankingOptions,
    blocked_rows: NDArray[np.integer],
) -> NDArray[np.bool_] | None:
    """Which of the N news may be shown at all at the time ``now``; None where nothing limits them.

    News from the future of ``now`` may not (they are embargoed, or the request is about the past). News whose time is
    not known (0) may.
    """
    if (published_N is None or now is None) and not len(blocked_rows):
        return None
    size = len(published_N) if published_N is not None else int(blocked_rows.max()) + 1
    allowed = np.ones(size, bool)
    if published_N is not None and now is not None:
        known = published_N > 0
        allowed &= ~known | (published_N <= now)
        if rules.max_age_days is not None:
            allowed &= ~known | (published_N >= now - rules.max_age_days * DAY)
    allowed[blocked_rows] = False
    return allowed


def time_decayed_popularity(
    clicks_P: NDArray[np.floating],
    published_P: NDArray[np.int64] | None,
    now: int | NDArray[np.int64] | None,
) -> NDArray[np.float32]:
    """Scores of P news for a reader of whom nothing is known: clicks so far, halved every ``HALF_LIFE_DAYS``.

    ``log(2 + clicks)``: a news that nobody has clicked yet still has a chance by being fresh. Where the time of a news
    is not known (0) only its clicks count.
    """
    scores = np.log2(2.0 + np.maximum(clicks_P, 0))
    if published_P is not None and now is not None:
        age_days = np.where(published_P > 0, np.maximum(now - published_P, 0) / DAY, 0.0)
        scores = scores * 0.5 ** (age_days / HALF_LIFE_DAYS)
    return scores.astype(np.float32)
