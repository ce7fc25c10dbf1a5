"""What masked language models have to repair: which tokens are hidden, and what stands in their place.

BERT hides single tokens; UniLM sometimes two or three in a row (Dong et al. 2019, section 2.4); UniLMv2 draws a block
of tokens with probability 0.4 (Bao et al. 2020, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from multiway_core.errors import ConfigError
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Masking:
    """How much is hidden, and how.

    Attributes:
        rate: share of the tokens that are hidden; of any text at least one is.
        span_share: probability that a place drawn begins a span of several tokens.
        span_lengths: shortest and longest of these spans, drawn uniformly.
        masked, random: of the hidden tokens, the share that ``[MASK]`` and a random token stands for; the rest stays.
    """

    rate: float = 0.15
    span_share: float = 0.0
    span_lengths: tuple[int, int] = (2, 3)
    masked: float = 0.8
    random: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1 or not 0 <= self.span_share <= 1:
            raise ConfigError(
                f"masking: rate {self.rate} and span_share {self.span_share} must be shares of 1"
            )
        if min(self.masked, self.random) < 0 or self.masked + self.random > 1:
            raise ConfigError(
                f"masking: masked {self.masked} and random {self.random} must add up to at most 1"
            )
        if not 1 <= self.span_lengths[0] <= self.span_lengths[1]:
            raise ConfigError(
                f"masking: span_lengths {self.span_lengths} must be the shortest and the longest"
            )

    def count(self, tokens: int) -> int:
        """How many of so many maskable tokens are hidden."""
        return max(1, round(self.rate * tokens)) if tokens else 0


BERT = Masking()
UNILM = Masking(span_share=0.2)
UNILM_V2 = Masking(span_share=0.4, span_lengths=(2, 6))


def choose_spans(
    maskable_T: NDArray[np.bool_], masking: Masking, generator: np.random.Generator
) -> list[range]:
    """Places to hide, as spans that do not overlap, in the random order in which they were drawn.

    Exactly `Masking.count` places in all; the last span is cut to that. A span ends before a token that is not
    ``maskable_T`` (special tokens) or hidden already.
    """
    free_T = maskable_T.copy()
    left = masking.count(int(free_T.sum()))
    spans: list[range] = []
    for place in generator.permutation(np.flatnonzero(free_T)).tolist():
        if left == 0:
            break
        if not free_T[place]:
            continue
        length = 1
        if masking.span_share and generator.random() < masking.span_share:
            length = int(generator.integers(masking.span_lengths[0], masking.span_lengths[1] + 1))
        length = min(length, left)
        taken = free_T[place : place + length]
        end = place + (len(taken) if taken.all() else int(taken.argmin()))
        free_T[place:end] = False
        left -= end - place
        spans.append(range(place, end))
    return spans


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a corruption needs: ``[CLS]``, ``[SEP]``, ``[MASK]``, and what a random token is drawn from."""

    cls_id: int
    sep_id: int
    mask_id: int
    text_ids: Ids


def corrupt(
    ids_T: Ids,
    places: Sequence[int],
    vocabulary: Vocabulary,
    masking: Masking,
    generator: np.random.Generator,
) -> Ids:
    """The tokens with those at ``places`` replaced: by ``[MASK]``, by random tokens of the text's, or by themselves."""
    changed_T = ids_T.copy()
    chance_N = generator.random(len(places))
    random_N = generator.choice(vocabulary.text_ids, len(places))
    index_N = np.asarray(places, np.int64)
    changed_T[index_N[chance_N < masking.masked]] = vocabulary.mask_id
    is_random_N = (chance_N >= masking.masked) & (chance_N < masking.masked + masking.random)
    changed_T[index_N[is_random_N]] = random_N[is_random_N]
    return changed_T
