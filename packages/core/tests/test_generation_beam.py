"""Beam search against exhaustive search and against a plain search without cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from multiway_core.generation import GenerationConfig, StaticKVCache, generate
from torch import Tensor
from torch.nn.functional import pad

EOS = 0


class Recomputing:
    """Makes a decode step of any function (tokens (B, T), valid (B, T)) -> last logits.

    The key/value cache holds the token ids themselves, so what the search does to the cache's rows shows.
    """

    def __init__(self, last_logits: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.last_logits = last_logits

    def __call__(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        return self.step(tokens_BT, cache, torch.ones_like(tokens_BT, dtype=torch.bool))

    def step(self, tokens_BT: Tensor, cache: StaticKVCache, valid_BT: Tensor) -> Tensor:
        ids_B1TD = tokens_BT[:, None, :, None].double()
        keys, values = cache.update(0, ids_B1TD, -ids_B1TD)
        assert torch.equal(keys, -values)
        cache.advance(valid_BT)
        return self.last_logits(keys[:, 0, :, 0].long(), cache.valid_BS[:, : cache.length])

    def prefill(self, prompts: list[list[int]], max_length: int = 64) -> tuple[Tensor, StaticKVCache]:
        longest = max(len(prompt) for prompt in prompts)
        cache = StaticKVCache(1, len(prompts), 1, 1, max_length, dtype=torch.float64)
        tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        valid = torch.tensor([[False] * (longest - len(p)) + [True] * len(p) for p in prompts])
        return self.step(tokens, cache, valid), cache


def markov(seed: int, vocabulary: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A language that depends on the last two tokens."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(vocabulary, vocabulary, vocabulary, generator=generator, dtype=torch.float64) * 1.5
    return lambda tokens, valid: table[pad(tokens * valid, (1, 0))[:, -2], tokens[:, -1]]


def log_prob(model: Callable, prompt: list[int], tokens: tuple[int, ...]) -> list[float]:
    text = torch.tensor([prompt + list(tokens)])
    valid = torch.ones_like(text, dtype=torch.bool)
    start = len(prompt)
    return [
        float(model(text[:, : start + i], valid[:, : start + i])[0].log_softmax(0)[token])
        for i, token in enumerate(tokens)
    ]


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("seed", range(4))
def test_wide_beam_equals_exhaustive_search(seed, length_penalty):
    vocabulary, limit, prompts = 3, 4, [[1, 2], [2], [1, 1, 1]]
    model = markov(seed, vocabulary)
    decode = Recomputing(model)
    options = GenerationConfig(limit, (EOS,), 0, num_beams=vocabulary**limit, length_penalty=length_penalty)
    logits, cache = decode.prefill(prompts)
    output = generate(decode, logits, cache, options)
    for row, prompt in enumerate(prompts):
        everything = [
            text
            for length in range(1, limit + 1)
            for text in itertools.product(range(vocabulary), repeat=length)
            if EOS not in text[:-1] and (text[-1] == EOS or length == limit)
        ]
        scores = {
            text: sum(log_prob(model, prompt, text)) / len(text) ** length_penalty for text in everything
        }
        best = max(scores, key=scores.__getitem__)
        assert tuple(output.tokens[row].tolist()) == (best[:-1] if best[-1] == EOS else best)
        assert output.finished[row] == (best[-1] == EOS)
        assert output.beam_scores[row] == pytest.approx(scores[best], abs=1e-12)
        expected = log_prob(model, prompt, tuple(output.tokens[row].tolist()))
        assert output.log_probs[row].tolist() == pytest.approx(expected, abs=1e-12)


def plain_beam(
    model: Callable, prompt: list[int], options: GenerationConfig
) -> tuple[list[int], float, bool]:
    """The definition at the top of `beam.py`, in plain Python over whole texts."""
    beams, penalty = options.num_beams, options.length_penalty
    running: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    finished: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, options.max_new_tokens + 1):
        extended = []
        for score, text in running:
            whole = torch.tensor([prompt + list(text)])
            singles = model(whole, torch.ones_like(whole, dtype=torch.bool))[0].log_softmax(0).tolist()
            extended += [(score + single, (*text, token)) for token, single in enumerate(singles)]
        extended.sort(reverse=True)
        last = length == options.max_new_tokens
        ends = [(s / length**penalty, t) for s, t in extended[:beams] if t[-1] == EOS or last]
        finished = sorted(finished + ends, reverse=True)[:beams]
        running = [(s, t) for s, t in extended if t[-1] != EOS][:beams]
        if len(finished) == beams and running[0][0] / length**penalty <= finished[-1][0]:
            break
    score, text = finished[0]
    return list(text[:-1] if text[-1] == EOS else text), score, text[-1] == EOS


@pytest.mark.parametrize("num_beams", [2, 3, 5])
@pytest.mark.parametrize("length_penalty", [0.6, 1.0, 0.0, -0.5])
def test_ragged_batch_equals_a_plain_search_of_each_row(num_beams, length_penalty):
    model = markov(num_beams, vocabulary=11)
    decode = Recomputing(model)
    prompts = [[3, 4, 5], [6], [7, 8], [9, 1, 2, 3, 4], [10]]
    options = GenerationConfig(20, (EOS,), 0, num_beams=num_beams, length_penalty=length_penalty)
    logits, cache = decode.prefill(prompts)
    output = generate(decode, logits, cache, options)
    for row, prompt in enumerate(prompts):
        tokens, score, ended = plain_beam(model, prompt, options)
        assert output.tokens[row].tolist() == tokens
        assert output.beam_scores[row] == pytest.approx(score, abs=1e-12)
        assert output.finished[row] == ended
        logits, cache = decode.prefill([prompt])
        single = generate(decode, logits, cache, options)
        assert torch.equal(single.tokens[0], output.tokens[row])
        assert torch.equal(single.log_probs[0], output.log_probs[row])
