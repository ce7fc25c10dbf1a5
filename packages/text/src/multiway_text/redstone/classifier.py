"""A trainable classifier of texts: hashed words and pairs of words, and a logistic regression over them.

RedStone's classifiers (math, questions) are fastText's, whose weights are not published. This one is scikit-learn's, of
the same kind: linear over n-grams that are hashed into a table. Its file is safetensors, a weight for each place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.errors import CheckpointError, InputError, os_reason
from multiway_core.files import atomic_write

FORMAT = "multiway.text.classifier/1"
PLACES = 1 << 18


@dataclass(frozen=True)
class TextClassifier:
    """Text -> probability (0..1) that it is of the domain.

    Attributes:
        weight: float32 of shape (places,), a power of two of them; its signed sum over a text's n-grams is the logit.
        bias: the logit of a text without any n-gram.
        domain: what the classifier says yes to.
    """

    weight: np.ndarray
    bias: float
    domain: str = ""

    def __call__(self, text: str) -> float:
        logit = float((_vectorizer(len(self.weight)).transform([text]) @ self.weight)[0]) + self.bias
        return float(1 / (1 + np.exp(-np.clip(logit, -500, 500))))

    def save(self, path: Path) -> None:
        """Write the classifier as a safetensors file. Raises OutputError."""
        from safetensors.numpy import save

        tensors = {"weight": self.weight, "bias": np.array([self.bias], np.float64)}
        with atomic_write(path) as file:
            # One key: safetensors writes several in a random order.
            file.write(save(tensors, metadata={FORMAT: self.domain}))


def train_classifier(
    texts: Sequence[str], is_domain: Sequence[bool], domain: str = "", seed: int = 0
) -> TextClassifier:
    """A classifier of labelled texts; the same texts and seed give the same bits.

    Raises InputError: not both labels are there, or scikit-learn is not installed.
    """
    labels = np.array(is_domain, bool)
    if labels.all() or not labels.any():
        raise InputError("a classifier needs texts of the domain and others")
    features = _vectorizer(PLACES).transform(texts)
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(
        loss="log_loss", alpha=1e-6, max_iter=20, tol=None, class_weight="balanced", random_state=seed
    )
    model.fit(features, labels)
    return TextClassifier(model.coef_[0].astype(np.float32), float(model.intercept_[0]), domain)


def load_classifier(path: Path) -> TextClassifier:
    """A classifier from its file. Raises InputError: no such file; CheckpointError: it holds no classifier."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise CheckpointError(f"{path}: no classifier of texts: expected the format {FORMAT}")
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
    except OSError as error:
        raise InputError(f"cannot read {path}: {os_reason(error)}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: no classifier of texts: {error}") from error
    if weight.dtype != np.float32 or weight.ndim != 1 or bias.shape != (1,) or not weight.size:
        raise CheckpointError(f"{path}: no classifier of texts: its tensors have other shapes")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise CheckpointError(f"{path}: the classifier's weights are not finite")
    return TextClassifier(weight, float(bias[0]), metadata[FORMAT])


def _vectorizer(places: int) -> Any:
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
    except ModuleNotFoundError as error:
        raise InputError("classifiers need scikit-learn: pip install 'multiway-text[redstone]'") from error
    return HashingVectorizer(ngram_range=(1, 2), n_features=places, token_pattern=r"\\?\w+|[^\w\s]")
