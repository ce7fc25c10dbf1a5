"""From token ids to vectors: the one function that the pipeline, the server and the evaluation call."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from multiway_text.encoder.quantized import Int8Network
from multiway_text.encoder.sentence import SentenceModel

BATCH_TOKENS = 4096  # of a batch, padding included
PACKED_TOKENS = 16_384  # of texts that the int8 network takes together: 25 MB of states at width 384


@torch.inference_mode()
def embed_tokens(model: SentenceModel, encodings: Sequence[Sequence[int]]) -> Tensor:
    """Vectors (texts, width) float32 on the CPU, in the order of the texts.

    ``encodings``: ids with special tokens, none longer than ``model.max_length``.
    """
    vectors_NE = torch.empty(len(encodings), model.width)
    if model.int8 is None:
        _embed_padded(model, encodings, vectors_NE)
    else:
        _embed_packed(model, model.int8, encodings, vectors_NE)
    return vectors_NE


def _embed_padded(model: SentenceModel, encodings: Sequence[Sequence[int]], vectors_NE: Tensor) -> None:
    """Texts of like length share a batch."""
    device = model.encoder.token_embedding.weight.device
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


def _embed_packed(
    model: SentenceModel, network: Int8Network, encodings: Sequence[Sequence[int]], vectors_NE: Tensor
) -> None:
    """Texts one behind the other in the order in which they come: without padding no length needs company."""
    starts = torch.tensor([0, *map(len, encodings)]).cumsum(0)
    tokens = torch.tensor(list(chain.from_iterable(encodings)))
    first = 0
    while first < len(encodings):
        limit = int(starts[first]) + PACKED_TOKENS
        last = max(first + 1, int(torch.searchsorted(starts, limit, right=True)) - 1)
        own = starts[first : last + 1]
        hidden_NE = network(tokens[own[0] : own[-1]], own - own[0])
        vectors_NE[first:last] = model.settings.pool_packed(hidden_NE, own - own[0])
        first = last
