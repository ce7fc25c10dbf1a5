"""Text vectors without any download: TF-IDF of words, reduced by a truncated SVD (LSA)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from multiway_core.errors import DataError
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.preprocessing import normalize

from multiway_recsys.text.tokens import split_words


@dataclass(frozen=True)
class TfidfEncoder:
    """Fitted on some texts, applied to any: unit vectors around the texts' mean (zero for a text without a known word).

    What all texts share (their mean; English function words; punctuation) would make any two of them alike.
    """

    vectorizer: TfidfVectorizer
    svd: TruncatedSVD
    mean: NDArray[np.float32]  # (width,)

    @classmethod
    def fit(
        cls, texts: Sequence[str], *, width: int = 128, max_terms: int = 50_000, seed: int = 0
    ) -> TfidfEncoder:
        """Learn terms and directions of the training texts. Raises DataError if they hold hardly any words."""
        vectorizer = new_vectorizer(min_df=2 if len(texts) > 100 else 1, max_features=max_terms)
        try:
            terms = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise DataError(f"no words to make text vectors of in {len(texts)} texts") from error
        directions = min(width, min(terms.shape) - 1)
        if directions < 1:
            raise DataError(f"{len(texts)} texts with {terms.shape[1]} terms are too few for text vectors")
        svd = TruncatedSVD(directions, random_state=seed)
        return cls(vectorizer, svd, svd.fit_transform(terms).mean(axis=0).astype(np.float32))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, width) float32."""
        terms = self.vectorizer.transform(texts)
        vectors = self.svd.transform(terms) - self.mean
        vectors[np.diff(terms.indptr) == 0] = 0
        return np.asarray(normalize(vectors), np.float32)


def new_vectorizer(**options: Any) -> TfidfVectorizer:
    """Words, without function words and punctuation; ``options`` are scikit-learn's."""
    return TfidfVectorizer(
        tokenizer=_words,
        token_pattern=None,
        lowercase=False,
        stop_words=sorted(ENGLISH_STOP_WORDS),
        sublinear_tf=True,
        dtype=np.float32,
        **options,
    )


def _words(text: str) -> list[str]:
    return [word for word in split_words(text) if any(map(str.isalnum, word))]


def news_text(title: str, abstract: str) -> str:
    """What stands for a news where one text is asked for: the title, and the abstract behind it."""
    return f"{title}. {abstract}" if title and abstract else title or abstract
