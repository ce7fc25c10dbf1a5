"""From token ids to vectors: the one function that the pipeline, the server and the evaluation call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from multiway_text.encoder.sentence import SentenceModel

BATCH_TOKENS = 4096  # of a batch, padding included


@torch.inference_mode()
def embed_tokens(model: SentenceModel, encodings: Sequence[Sequence[int]]) -> Tensor:
    """Vectors (texts, width) float32 on the CPU, in the order of the texts.

    ``encodings``: ids with special tokens, none longer than ``model.max_length``. Texts of like length share a batch.
    """
    device = model.encoder.token_embedding.weight.device
    vectors_NE = torch.empty(len(encodings), model.width)
    order = sorted(range(len(encodings)), key=lambda row: len(encodings[row]))
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * len(encodings[order[stop]]) <= BATCH_TOKENS:
            stop += 1
        rows = order[start:stop]
        ids = [torch.tensor(encodings[row]) for row in rows]
        ids_BT = pad_sequence(ids, batch_first=True, padding_value=model.encoder.config.pad_id).to(device)
        lengths = torch.tensor([len(one) for one in ids], device=device)
        valid_BT = torch.arange(ids_BT.shape[1], device=device) < lengths[:, None]
        hidden_BTE = model.encoder(ids_BT, valid_BT).hidden_BTE.float()
        vectors_NE[rows] = model.settings.pool(hidden_BTE, valid_BT).cpu()
        start = stop
    return vectors_NE
