"""The articles of a portal: texts, categories, topics, and the similarity of topics."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError
from numpy.typing import NDArray

from multiway_recsys.simulator.headlines import lexicon, write_article

VECTOR_SIZE = 64


@dataclass(frozen=True)
class TextBank:
    """N articles about T topics, in no order of time."""

    titles: tuple[str, ...]
    abstracts: tuple[str, ...]
    categories: tuple[str, ...]
    subcategories: tuple[str, ...]
    entities: tuple[tuple[str, ...], ...]
    topics: NDArray[np.int32]  # (N,)
    vectors: NDArray[np.float32]  # (N, d), unit length

    def __len__(self) -> int:
        return len(self.titles)

    @property
    def num_topics(self) -> int:
        return int(self.topics.max()) + 1

    def topic_vectors(self) -> NDArray[np.float32]:
        """Mean direction of each topic's articles (T, d), unit length."""
        sums = np.zeros((self.num_topics, self.vectors.shape[1]), np.float32)
        np.add.at(sums, self.topics, self.vectors)
        return unit(sums)


def generated_texts(num_articles: int = 9000, *, seed: int = 0) -> TextBank:
    """Articles of our own generator about all topics of its lexicon, each equally often (give or take one)."""
    rng = np.random.default_rng([seed, 17])
    topics = lexicon()
    rows = rng.permutation(np.arange(num_articles) % len(topics)).astype(np.int32)
    articles = [write_article(int(row), rng) for row in rows]
    titles = tuple(article.title for article in articles)
    abstracts = tuple(article.abstract for article in articles)
    return TextBank(
        titles=titles,
        abstracts=abstracts,
        categories=tuple(topics[row].category for row in rows),
        subcategories=tuple(topics[row].name for row in rows),
        entities=tuple(article.entities for article in articles),
        topics=rows,
        vectors=text_vectors(
            [f"{title}. {abstract}" for title, abstract in zip(titles, abstracts, strict=True)]
        ),
    )


def real_headlines(
    path: Path, *, num_topics: int = 160, vectors: NDArray[np.floating] | None = None, seed: int = 0
) -> TextBank:
    """Real headlines as the articles: a JSON-lines file (gzip or not) with headline, short_description and category.

    Topics are k-means clusters of ``vectors`` (N, d), such as a sentence encoder's; without them of TF-IDF vectors.
    The clusters serve as subcategories. Raises DataError naming file and line.
    """
    from sklearn.cluster import KMeans

    rows = _read_headlines(Path(path))
    titles, abstracts, categories = (tuple(row[i] for row in rows) for i in range(3))
    if vectors is None:
        space = text_vectors([f"{title}. {abstract}" for title, abstract, _ in rows])
    elif len(vectors) != len(rows):
        raise DataError(f"{path}: {len(rows)} headlines, but {len(vectors)} vectors were given for them")
    else:
        centred = np.asarray(vectors, np.float32)
        space = unit(centred - centred.mean(0))
    if num_topics > len(rows):
        raise DataError(f"{path}: {len(rows)} headlines are too few for {num_topics} topics")
    topics = KMeans(num_topics, n_init=1, random_state=seed).fit_predict(space).astype(np.int32)
    return TextBank(
        titles=titles,
        abstracts=abstracts,
        categories=categories,
        subcategories=tuple(f"topic-{topic}" for topic in topics),
        entities=((),) * len(rows),
        topics=topics,
        vectors=space,
    )


def _read_headlines(path: Path) -> list[tuple[str, str, str]]:
    rows = []
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as file
        ):
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    texts = tuple(
                        " ".join(str(row[key]).split())
                        for key in ("headline", "short_description", "category")
                    )
                except (ValueError, KeyError, TypeError):
                    raise DataError(
                        f"{path}:{number}: expected a JSON object with headline, short_description and category"
                    ) from None
                if texts[0]:
                    rows.append((texts[0], texts[1], texts[2].lower()))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not rows:
        raise DataError(f"{path}: no headlines in it")
    return rows


def text_vectors(texts: list[str], size: int = VECTOR_SIZE) -> NDArray[np.float32]:
    """TF-IDF reduced to ``size`` dimensions (N, size), centred, unit length."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english").fit_transform(texts)
    size = min(size, weights.shape[1] - 1)
    reduced = TruncatedSVD(size, random_state=0).fit_transform(weights).astype(np.float32)
    return unit(reduced - reduced.mean(0))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length one; a zero row stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
