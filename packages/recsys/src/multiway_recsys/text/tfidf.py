"""Text vectors without any download: TF-IDF of words, reduced by a truncated SVD (LSA)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from multiway_core.errors import DataError
from numpy.typing import NDArray

from multiway_recsys.text.tokens import split_words

if TYPE_CHECKING:  # scikit-learn takes seconds to import, and whoever only loads a model does not need it
    from sklearn.feature_extraction.text import TfidfVectorizer


@dataclass(frozen=True)
class TfidfEncoder:
    """Fitted on some texts, applied to any: unit vectors around the texts' mean (zero for a text without a known word).

    What all texts share (their mean; English function words; punctuation) would make any two of them alike.
    """

    terms: tuple[str, ...]  # (T,)
    idf: NDArray[np.float32]  # (T,)
    components: NDArray[np.float32]  # (width, T)
    mean: NDArray[np.float32]  # (width,)

    @classmethod
    def fit(
        cls, texts: Sequence[str], *, width: int = 128, max_terms: int = 50_000, seed: int = 0
    ) -> TfidfEncoder:
        """Learn terms and directions of the training texts. Raises DataError if they hold hardly any words."""
        from sklearn.decomposition import TruncatedSVD

        vectorizer = _new_vectorizer(min_df=2 if len(texts) > 100 else 1, max_features=max_terms)
        try:
            weights = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise DataError(f"no words to make text vectors of in {len(texts)} texts") from error
        directions = min(width, min(weights.shape) - 1)
        if directions < 1:
            raise DataError(f"{len(texts)} texts with {weights.shape[1]} terms are too few for text vectors")
        svd = TruncatedSVD(directions, random_state=seed)
        mean = svd.fit_transform(weights).mean(axis=0)
        return cls(
            terms=tuple(vectorizer.get_feature_names_out().tolist()),
            idf=vectorizer.idf_.astype(np.float32),
            components=svd.components_.astype(np.float32),
            mean=mean.astype(np.float32),
        )

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, width) float32."""
        weights = self._vectorizer.transform(texts)
        vectors = (weights @ self.components.T - self.mean).astype(np.float32)
        vectors[np.diff(weights.indptr) == 0] = 0
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    @cached_property
    def _vectorizer(self) -> TfidfVectorizer:
        vectorizer = _new_vectorizer(vocabulary={term: place for place, term in enumerate(self.terms)})
        vectorizer.idf_ = self.idf
        return vectorizer


def _new_vectorizer(**options: Any) -> TfidfVectorizer:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

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
