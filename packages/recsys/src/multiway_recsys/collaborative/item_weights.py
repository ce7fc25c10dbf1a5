"""Item-to-item weights that are computed from a click log at once: what a click on one news says for another.

    item_knn       cosine of the news' readers, shrunk for news of few (Sarwar et al., WWW 2001)
    rp3beta        walks of three steps news -> reader -> news, less for popular ends (Paudel et al., TiiS 2016)
    ease           the closed-form linear autoencoder with an empty diagonal (Steck, WWW 2019)
    random_walks   walks with restarts along the directed click graph: the untrained control of graph and chains

A candidate's score is the sum of the weights from the clicks of the reader (`history_scores`). Shapes: R readers, N
news (row 0 is no news), M impressions, C candidates in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_recsys.data.tables import Ragged

MAX_DENSE_NEWS = 6000  # EASE inverts a matrix of news by news
_ROWS_AT_ONCE = 1024

Weights: TypeAlias = sp.csr_array


def click_matrix(histories: Ragged, num_news: int) -> sp.csr_array:
    """(R, N) float64 with 1 where a reader clicked."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    known = histories.values > 0
    clicks = sp.coo_array(
        (np.ones(int(known.sum())), (rows[known], histories.values[known])), shape=(len(histories), num_news)
    ).tocsr()
    clicks.data[:] = 1
    return clicks


def item_knn(clicks_RN: sp.csr_array, *, shrink: float = 10.0, neighbours: int = 100) -> Weights:
    """Cosine between the sets of readers, n_ij / (sqrt(n_i n_j) + shrink), of the nearest ``neighbours``."""
    both = _without_diagonal(clicks_RN.T @ clicks_RN)
    readers = np.sqrt(np.asarray(clicks_RN.sum(axis=0)).ravel())
    entries = both.tocoo()
    both.data = entries.data / (readers[entries.row] * readers[entries.col] + shrink)
    return _largest(both, neighbours)


def rp3beta(
    clicks_RN: sp.csr_array, *, alpha: float = 1.0, beta: float = 0.4, neighbours: int = 100
) -> Weights:
    """Probability of three steps of a walk, each to the power ``alpha``, over the end's readers to the ``beta``."""
    to_news = _rows_to_one(clicks_RN)
    to_readers = _rows_to_one(clicks_RN.T.tocsr())
    to_news.data, to_readers.data = to_news.data**alpha, to_readers.data**alpha
    walks = _without_diagonal(to_readers @ to_news)
    readers = np.maximum(np.asarray(clicks_RN.sum(axis=0)).ravel(), 1)
    walks.data = walks.data / readers[walks.indices] ** beta
    return _largest(walks, neighbours)


def ease(clicks_RN: sp.csr_array, *, l2: float = 100.0) -> Weights:
    """B = I - P / diag(P) with P = (X'X + l2 I)^-1. Raises InputError above ``MAX_DENSE_NEWS`` news."""
    size = clicks_RN.shape[1]
    if size > MAX_DENSE_NEWS:
        raise InputError(f"EASE inverts a matrix of {size} x {size} news; at most {MAX_DENSE_NEWS} are taken")
    gram = np.asarray((clicks_RN.T @ clicks_RN).todense(), np.float64)
    gram[np.diag_indices(size)] += l2
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)[None, :]
    np.fill_diagonal(weights, 0)
    return sp.csr_array(weights)


def random_walks(
    graph_NN: sp.csr_array, *, steps: int = 3, restart: float = 0.3, neighbours: int = 100
) -> Weights:
    """Share of visits of walks from each news along its successors' edges (N, N), the start itself left out."""
    step = _rows_to_one(graph_NN)
    reached = sp.eye_array(step.shape[0], format="csr")
    visits = sp.csr_array(step.shape)
    for number in range(steps):
        reached = _largest(reached @ step, neighbours)
        visits = visits + restart * (1 - restart) ** number * reached
    return _largest(_without_diagonal(visits), neighbours)


def history_scores(
    weights: Weights, histories: Ragged, candidates: Ragged, *, half_life: float | None = None
) -> NDArray[np.float64]:
    """(C,) sums of the weights from each impression's clicks to its candidates.

    ``half_life``: so many clicks ago a click counts half; None: all alike.
    """
    scores = np.zeros(len(candidates.values))
    rows = np.repeat(np.arange(len(candidates)), candidates.lengths)
    clicks = history_matrix(histories, weights.shape[0], half_life=half_life)
    for start in range(0, len(histories), _ROWS_AT_ONCE):
        low, high = candidates.offsets[[start, min(start + _ROWS_AT_ONCE, len(histories))]]
        found = (clicks[start : start + _ROWS_AT_ONCE] @ weights).tocsr()
        found.sort_indices()
        places = rows[low:high] - start, candidates.values[low:high]
        scores[low:high] = np.asarray(found[places]).ravel()
    return scores


def history_matrix(histories: Ragged, num_news: int, *, half_life: float | None = None) -> sp.csr_array:
    """(M, N): what each click of a history counts; see `history_scores`."""
    lengths = histories.lengths
    rows = np.repeat(np.arange(len(histories)), lengths)
    ago = np.repeat(histories.offsets[1:], lengths) - 1 - np.arange(len(histories.values))
    counts = np.ones(len(ago)) if half_life is None else 0.5 ** (ago / half_life)
    known = histories.values > 0
    return sp.coo_array(
        (counts[known], (rows[known], histories.values[known])), shape=(len(histories), num_news)
    ).tocsr()


FITTED: dict[str, Callable[..., Weights]] = {"item_knn": item_knn, "rp3beta": rp3beta, "ease": ease}
"""By name: weights of a click matrix."""


def _rows_to_one(matrix: sp.csr_array) -> sp.csr_array:
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    scaled = sp.csr_array(matrix, dtype=np.float64, copy=True)
    scaled.data /= np.repeat(np.where(sums > 0, sums, 1), np.diff(scaled.indptr))
    return scaled


def _without_diagonal(matrix: sp.csr_array) -> sp.csr_array:
    entries = matrix.tocoo()
    off = entries.row != entries.col
    kept = (entries.data[off].astype(np.float64), (entries.row[off], entries.col[off]))
    return sp.coo_array(kept, shape=matrix.shape).tocsr()


def _largest(matrix: sp.csr_array, count: int) -> sp.csr_array:
    """The ``count`` largest of each row; of equal ones those of the smaller column."""
    entries = matrix.tocoo()
    order = np.lexsort((entries.col, -entries.data, entries.row))
    starts = np.searchsorted(entries.row[order], np.arange(matrix.shape[0]))
    rank = np.arange(len(order)) - starts[entries.row[order]]
    kept = order[rank < count]
    return sp.coo_array(
        (entries.data[kept], (entries.row[kept], entries.col[kept])), shape=matrix.shape
    ).tocsr()
