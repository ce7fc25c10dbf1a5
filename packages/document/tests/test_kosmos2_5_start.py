"""How a reader starts to be trained, and what stands before a prompt, against what the docstrings say."""

from __future__ import annotations

import pytest
import torch
from multiway_document.kosmos2_5.objective import Reader

from packages.document.tests.test_kosmos2_5_line_writer import CONFIG, TOKENS

LAYERS, HIDDEN = 2, 32


@pytest.fixture(scope="module")
def reader() -> Reader:
    reader = Reader(CONFIG)
    reader.reset_parameters(seed=0)
    return reader


def test_residual_branches_start_small(reader: Reader) -> None:
    for layer in reader.kosmos.text.decoder.layers:
        output = layer.attention.output.weight
        assert float(output.std()) == pytest.approx((HIDDEN * 2 * LAYERS) ** -0.5, rel=0.1)
        assert float(layer.attention.query.weight.std()) == pytest.approx(HIDDEN**-0.5, rel=0.1)


def test_the_projection_of_pictures_keeps_lengths_of_the_size_of_words(reader: Reader) -> None:
    projection = reader.kosmos.resampler.projection.weight.detach()
    torch.testing.assert_close(
        torch.linalg.svdvals(projection), torch.full((min(projection.shape),), HIDDEN**0.5)
    )


def test_neighbouring_locations_start_as_neighbours(reader: Reader) -> None:
    table = reader.kosmos.text.embedding.weight.detach()
    for axis in range(2):
        curve = table[TOKENS.first_location + axis : TOKENS.vocab_size : 2]
        assert float(curve.norm(dim=1).mean()) == pytest.approx(1, rel=0.1)
        likeness = torch.nn.functional.cosine_similarity(curve[1:], curve[:-1])
        far = torch.nn.functional.cosine_similarity(curve[16:], curve[:-16])
        assert float(likeness.mean()) > 0.5 > float(far.abs().mean())


def test_pictures_stand_before_a_prompt_and_padding_before_them(reader: Reader) -> None:
    bos, image, end, pad = TOKENS.bos, TOKENS.image, TOKENS.image_end, TOKENS.pad
    tokens, places, segments = reader.kosmos.prompt(torch.tensor([[pad, 20], [21, 22]]))
    queries = CONFIG.num_queries
    assert tokens[1, [0, 1, queries + 2]].tolist() == [bos, image, end]
    assert tokens[1, queries + 3 :].tolist() == [21, 22]
    assert tokens[0, [0, 1, 2]].tolist() == [pad, bos, image]
    assert places.nonzero()[:, 1].tolist() == [*range(3, 3 + queries), *range(2, 2 + queries)]
    assert segments.nonzero()[:, 1].tolist() == [*range(2, 4 + queries), *range(1, 3 + queries)]
    assert set(segments.flatten().tolist()) == {0, 1}
