"""Training signals about places: against attention weights computed plainly."""

from __future__ import annotations

import math

import torch
from multiway_blocks.attention import Attention
from multiway_blocks.causal import causal_visibility
from multiway_blocks.decoder import Decoder
from multiway_blocks.resampler import Resampler
from multiway_blocks.transformer import Context
from multiway_document.kosmos2_5.alignment import (
    UNKNOWN,
    attention_inputs,
    attention_of,
    character_columns,
    decoder_loss,
    resampler_loss,
)


def test_columns_of_characters() -> None:
    path = [0, 3, 3, 0, 3, 0, 0, 5, 0, 0, 0, 0]  # "3 3 5" in steps 1, 4 and 7; four steps a column
    logits_BTK = torch.nn.functional.one_hot(torch.tensor([path, path]), 7).float()
    steps = torch.tensor([12, 8])
    assert character_columns(logits_BTK, steps, [[3, 3, 5], [3, 3, 5]]) == [[0, 1, 1], [0, 1, 1]]
    assert character_columns(logits_BTK, steps, [[3, 5], [3, 3, 4]]) == [[], []]  # read otherwise


def attention_weights(attention: Attention, query_TE: torch.Tensor, key_SE: torch.Tensor) -> torch.Tensor:
    query = attention.query(query_TE).view(len(query_TE), attention.num_heads, -1)
    key = attention.key(key_SE).view(len(key_SE), attention.num_heads, -1)
    return torch.einsum("thd,shd->hts", query, key) / math.sqrt(attention.head_dim)


def test_resampler_loss() -> None:
    torch.manual_seed(0)
    resampler = Resampler(8, 12, num_queries=5, num_heads=2)
    features = torch.randn(2, 2 * 3 + 1, 8)  # three columns of two patches, and the padding
    multiplicity = torch.tensor([[1.0, 1, 1, 1, 1, 1, 9], [1, 1, 0, 1, 1, 0, 11]])
    columns = torch.tensor([3, 2])
    expected = []
    for row in range(2):
        projected = resampler.projection(torch.nn.functional.normalize(features[row], dim=-1))
        keys = torch.cat([projected, resampler.latents])
        scores = attention_weights(resampler.attention, resampler.latents, keys)
        counts = torch.cat([multiplicity[row], torch.ones(5)])
        weights = counts * scores.exp() / (counts * scores.exp()).sum(-1, keepdim=True)
        for query in range(int(columns[row])):
            expected.append(-(weights[0, query, query].log() + weights[1, query, 3 + query].log()) / 2)
    loss = resampler_loss(resampler, features, multiplicity, columns)
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in resampler.parameters() if p.grad is not None)


def test_decoder_loss() -> None:
    torch.manual_seed(1)
    attention = Attention(12, 2, bias=True)
    x = torch.randn(
        2, 9, 12
    )  # row 0: <s> <image> 4 places </image> and two tokens; row 1 one place to the right
    places = torch.zeros(2, 9, dtype=torch.bool)
    places[0, 2:6] = True
    places[1, 3:7] = True
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[1, 0] = False
    columns = torch.tensor([[1, 3], [UNKNOWN, 0]])
    expected = []
    for row, token, column in ((0, 0, 1), (0, 1, 3), (1, 1, 0)):
        at = 6 + token  # the token before it looks for it
        keys = [key for key in range(at + 1) if valid[row, key]]
        weights = attention_weights(attention, x[row, at : at + 1], x[row, keys])[0, 0].softmax(-1)
        first = 2 + row
        expected.append(-weights[keys.index(first + column)].log())
    loss = decoder_loss(attention, x, places, columns, valid)
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    nothing = decoder_loss(attention, x, places, torch.full((2, 2), UNKNOWN), valid)
    assert nothing.item() == 0.0


def test_inputs_of_attention_are_those_of_the_forward_pass() -> None:
    torch.manual_seed(2)
    decoder = Decoder(hidden_size=12, num_layers=3, num_heads=2, inner_size=16)
    x, valid = torch.randn(1, 4, 12), torch.ones(1, 4, dtype=torch.bool)
    with attention_inputs(decoder, range(1, 3)) as inputs:
        decoder(x, valid)
    decoder(x, valid)  # not collected any more
    assert len(inputs) == 2
    first = decoder.layers[0](x, Context(causal_visibility(valid)))
    torch.testing.assert_close(inputs[0], decoder.layers[1].attention_norm(first))
    assert attention_of(decoder, 1) is decoder.layers[1].attention
