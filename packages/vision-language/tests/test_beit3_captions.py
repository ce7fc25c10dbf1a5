"""Caption decoding behind a cache against the whole network anew for every word, greedy and with beams."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from multiway_core.errors import InputError
from multiway_core.generation import GenerationConfig
from multiway_core.generation.beam import beam_search
from multiway_vision_language.beit3.config import TINY
from multiway_vision_language.beit3.generation import (
    CaptionDecoding,
    CaptionSteps,
    SpecialTokens,
    write_captions,
)
from multiway_vision_language.beit3.model import BEiT3ForCaptioning, caption_mask
from torch import Tensor

TOKENS = SpecialTokens(bos=0, pad=1, eos=2, mask=17)
CONFIG = dataclasses.replace(TINY, vocab_size=18, image_size=24, norm_eps=1e-3, max_text=12)


class WholeTexts:
    """Stands in for a cache: it holds the words, and every step reads picture and words from the start."""

    def __init__(self, model: BEiT3ForCaptioning, pixels: Tensor) -> None:
        self.model, self.pixels = model, pixels
        self.words = torch.full((len(pixels), 1), TOKENS.bos)

    @property
    def batch_size(self) -> int:
        return len(self.words)

    def require(self, tokens: int) -> None: ...

    def select(self, rows: Tensor) -> None:
        self.words, self.pixels = self.words[rows], self.pixels[rows]

    def scores(self) -> Tensor:
        masked = torch.cat([self.words, torch.full_like(self.words[:, :1], TOKENS.mask)], dim=1)
        return self.model(self.pixels, masked)[:, -1]

    def decode(self, tokens: Tensor, cache: WholeTexts) -> Tensor:
        self.words = torch.cat([self.words, tokens], dim=1)
        return self.scores()


@pytest.fixture(scope="module")
def model() -> BEiT3ForCaptioning:
    torch.manual_seed(3)
    model = BEiT3ForCaptioning(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4 + (parameter.ndim == 1) * 0.5)
        model.mlm_head.weight.mul_(0.5)
        model.mlm_head.bias[TOKENS.eos] += 0.5  # some captions end early
    return model


@pytest.mark.parametrize("num_beams", [1, 3])
@torch.no_grad()
def test_the_cache_changes_nothing(model: BEiT3ForCaptioning, num_beams: int) -> None:
    pixels = torch.randn(6, 3, 24, 24, generator=torch.Generator().manual_seed(4)) * 2
    decoding = CaptionDecoding(max_tokens=9, num_beams=num_beams)
    found = write_captions(model, pixels, decoding, TOKENS)
    config = GenerationConfig(9, (TOKENS.eos,), TOKENS.pad, num_beams=num_beams, length_penalty=0.6)
    whole = WholeTexts(model, pixels)
    expected = beam_search(whole.decode, whole.scores(), whole, config)
    assert found == [row.tolist() for row in expected.tokens]
    assert len({len(row) for row in found}) > 1
    assert len(set(map(tuple, found))) > 1


@torch.no_grad()
def test_the_score_of_a_beam_is_that_of_its_words(model: BEiT3ForCaptioning) -> None:
    """By exhaustion: no caption of at most two words scores better than what many beams find."""
    pixels = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(5)) * 2

    def log_probs(words: tuple[int, ...]) -> Tensor:
        ids = torch.tensor([[TOKENS.bos, *words, TOKENS.mask]])
        return model(pixels, ids)[0, -1].log_softmax(-1)

    scores = {}
    others = [token for token in range(18) if token != TOKENS.eos]
    for words in [(), *((a,) for a in others), *itertools.product(others, others)]:
        total = sum(float(log_probs(words[:i])[word]) for i, word in enumerate(words))
        if len(words) < 2:
            total += float(log_probs(words)[TOKENS.eos])
        scores[words] = total / min(len(words) + 1, 2) ** 0.6
    found = write_captions(model, pixels, CaptionDecoding(max_tokens=2, num_beams=17), TOKENS)
    assert tuple(found[0]) == max(scores, key=scores.__getitem__)


@torch.no_grad()
def test_steps_give_the_logits_of_the_whole_network(model: BEiT3ForCaptioning) -> None:
    pixels = torch.randn(2, 3, 24, 24)
    steps = CaptionSteps(model, TOKENS)
    cache, logits = steps.start(pixels, 5)
    words = torch.tensor([[4, 9, 11], [3, 3, 5]])
    whole = WholeTexts(model, pixels)
    torch.testing.assert_close(logits, whole.scores(), atol=2e-5, rtol=1e-4)
    for place in range(3):
        step = words[:, place : place + 1]
        torch.testing.assert_close(steps(step, cache), whole.decode(step, whole), atol=2e-5, rtol=1e-4)


def test_the_mask_lets_words_see_the_picture_and_the_past() -> None:
    mask = caption_mask(2, 3).int().tolist()
    assert mask == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_too_long_captions_are_refused(model: BEiT3ForCaptioning) -> None:
    with pytest.raises(InputError, match="12 tokens; this model has positions for 11"):
        write_captions(model, torch.zeros(1, 3, 24, 24), CaptionDecoding(max_tokens=12), TOKENS)
