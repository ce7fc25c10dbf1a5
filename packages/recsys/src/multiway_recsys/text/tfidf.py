"""Text vectors without any download: TF-IDF of words and word pairs, reduced by a truncated SVD (LSA)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from multiway_core.errors import DataError
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from multiway_recsys.text.tokens import split_words


@dataclass(frozen=True)
class TfidfEncoder:
    """Fitted on some texts, applied to any: unit vectors (zero for a text without a known word)."""

    vectorizer: TfidfVectorizer
    svd: TruncatedSVD

    @classmethod
    def fit(
        cls, texts: Sequence[str], *, width: int = 128, max_terms: int = 50_000, seed: int = 0
    ) -> TfidfEncoder:
        """Learn terms and directions of the training texts. Raises DataError if they hold hardly any words."""
        vectorizer = TfidfVectorizer(
            tokenizer=split_words,
            token_pattern=None,
            lowercase=False,
            ngram_range=(1, 2),
            min_df=2 if len(texts) > 100 else 1,
            max_features=max_terms,
            sublinear_tf=True,
            dtype=np.float32,
        )
        try:
            terms = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise DataError(f"no words to make text vectors of in {len(texts)} texts") from error
        directions = min(width, min(terms.shape) - 1)
        if directions < 1:
            raise DataError(f"{len(texts)} texts with {terms.shape[1]} terms are too few for text vectors")
        return cls(vectorizer, TruncatedSVD(directions, random_state=seed).fit(terms))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, width) float32."""
        return np.asarray(normalize(self.svd.transform(self.vectorizer.transform(texts))), np.float32)


def news_text(title: str, abstract: str) -> str:
    """What stands for a news where one text is asked for: the title, and the abstract behind it."""
    return f"{title}. {abstract}" if title and abstract else title or abstract
