"""Vectors as files: NumPy's, Parquet, JSON lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.app import write_stdout
from multiway_core.errors import InputError
from multiway_core.files import atomic_write

from multiway_encoder.inputs import Texts

if TYPE_CHECKING:
    from multiway_text.encoder.result import Embeddings

_SUFFIXES = (".npy", ".parquet", ".jsonl")


@dataclass(frozen=True)
class Writer:
    """Where vectors go; None is standard output, as JSON lines."""

    path: Path | None

    @classmethod
    def of(cls, path: Path | None) -> Writer:
        """Raises InputError, before anything is computed, for an ending that means nothing."""
        if path is not None and path.suffix not in _SUFFIXES:
            raise InputError(f"--output {path}: expected a file ending in {', '.join(_SUFFIXES)}")
        if path is not None and path.suffix == ".parquet":
            try:
                import pyarrow  # noqa: F401
            except ModuleNotFoundError as error:
                raise InputError(
                    "Parquet files need pyarrow: pip install 'multiway-text[parquet]'"
                ) from error
        return cls(path)

    def write(self, texts: Texts, found: Embeddings) -> None:
        """npy: (texts, width) float32; the others with where each text stands. Raises OutputError."""
        if self.path is None:
            for start in range(0, len(texts.texts), 256):
                write_stdout("".join(_lines(texts, found, slice(start, start + 256))))
            return
        with atomic_write(self.path) as file:
            if self.path.suffix == ".npy":
                import numpy as np

                np.save(file, found.vectors, allow_pickle=False)
            elif self.path.suffix == ".parquet":
                import pyarrow as pa
                from pyarrow import parquet

                width = found.vectors.shape[1]
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(found.vectors.reshape(-1)), width)
                columns = {"source": texts.names, "text": texts.texts, "embedding": vectors}
                parquet.write_table(pa.table(columns), file)
            else:
                for line in _lines(texts, found, slice(None)):
                    file.write(line.encode())


def _lines(texts: Texts, found: Embeddings, rows: slice) -> list[str]:
    parts = zip(texts.names[rows], texts.texts[rows], found.vectors[rows], strict=True)
    return [
        json.dumps(
            {"source": name, "text": text, "embedding": [round(float(x), 7) for x in vector]},
            ensure_ascii=False,
        )
        + "\n"
        for name, text, vector in parts
    ]
