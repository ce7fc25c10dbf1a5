"""Decoding with drafts gives what greedy decoding gives, in fewer steps."""

from __future__ import annotations

import pytest
import torch
from multiway_core.errors import ConfigError
from multiway_core.generation import (
    GenerationConfig,
    LookupDraft,
    StaticKVCache,
    StopOnRepetition,
    generate,
    generate_with_drafts,
)
from torch import Tensor

VOCABULARY, WIDTH, EOS, PAD = 19, 12, 0, 1
PROMPTS = [[3, 5, 7, 11], [4], [9, 8, 7, 6, 5, 4, 3], [13, 14], [15, 16, 3]]


class Attention:
    """One attention layer over embeddings and positions: depends on every earlier token and its place."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def weight(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.embedding, self.positions = weight(VOCABULARY, WIDTH), weight(150, WIDTH) * 0.3
        self.qkv, self.head = weight(3, WIDTH, WIDTH) * 0.4, weight(2 * WIDTH, VOCABULARY)
        self.steps = 0

    def step(self, tokens_BT: Tensor, cache: StaticKVCache, valid_BT: Tensor) -> Tensor:
        self.steps += 1
        time, start = tokens_BT.shape[1], cache.length
        position_BT = (cache.num_valid_B[:, None] + valid_BT.cumsum(1) - 1).clamp(min=0)
        x = self.embedding[tokens_BT] + self.positions[position_BT]
        q, k, v = (x[:, None] @ weight for weight in self.qkv)
        keys, values = cache.update(0, k, v)
        valid_BS = torch.cat([cache.valid_BS[:, :start], valid_BT], dim=1)
        causal_TS = torch.arange(start + time) <= start + torch.arange(time)[:, None]
        scores = (q @ keys.transpose(2, 3)).masked_fill(~(valid_BS[:, None] & causal_TS)[:, None], -1e300)
        cache.advance(valid_BT)
        return torch.cat([x, (scores.softmax(-1) @ values)[:, 0]], dim=2) @ self.head

    def verify(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        return self.step(tokens_BT, cache, torch.ones_like(tokens_BT, dtype=torch.bool))

    def decode(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        return self.verify(tokens_BT, cache)[:, -1]

    def prefill(self, prompts: list[list[int]], max_length: int) -> tuple[Tensor, StaticKVCache]:
        longest = max(map(len, prompts))
        cache = StaticKVCache(1, len(prompts), 1, WIDTH, longest + max_length, dtype=torch.float64)
        tokens = torch.tensor([[PAD] * (longest - len(prompt)) + prompt for prompt in prompts])
        valid = torch.tensor([[False] * (longest - len(p)) + [True] * len(p) for p in prompts])
        return self.step(tokens, cache, valid)[:, -1], cache


class Rough:
    """Knows the answer, and is wrong in a share of its tokens."""

    def __init__(self, answers: list[list[int]], wrong: float) -> None:
        self.answers, self.wrong = answers, wrong
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, row: int, tokens: list[int], count: int) -> list[int]:
        assert tokens == self.answers[row][: len(tokens)]
        guess = self.answers[row][len(tokens) :][:count]
        return [
            (token + 1) % VOCABULARY if torch.rand((), generator=self.generator) < self.wrong else token
            for token in guess
        ]


def config(**options) -> GenerationConfig:
    return GenerationConfig(**{"max_new_tokens": 40, "eos_token_ids": (EOS,), "pad_token_id": PAD} | options)


@pytest.mark.parametrize("wrong", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "options", [{}, {"no_repeat_ngram_size": 2}, {"eos_token_ids": ()}, {"max_new_tokens": 1}]
)
def test_equals_greedy(wrong, options):
    settings = config(**options)
    limit = settings.max_new_tokens
    for seed in range(3):
        model = Attention(seed)
        expected = generate(model.decode, *model.prefill(PROMPTS, limit - 1), settings)
        greedy_steps, model.steps = model.steps, 0
        answers = [tokens.tolist() for tokens in expected.tokens]
        # The cache has no slot to spare, so rejected tokens must give theirs back.
        logits, cache = model.prefill(PROMPTS, limit - 1)
        draft = Rough(answers, wrong)
        output = generate_with_drafts(model.verify, draft, logits, cache, settings, draft_length=5)
        assert [tokens.tolist() for tokens in output.tokens] == answers
        assert output.stop_reasons == expected.stop_reasons
        for ours, theirs in zip(output.log_probs, expected.log_probs, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
        if wrong == 0.0:
            # Each step but the first verifies five tokens and adds one of its own.
            assert model.steps <= 2 + max(map(len, answers)) // 6
        elif wrong == 1.0:
            assert model.steps == greedy_steps


def test_cache_after_defragmenting_predicts_the_same():
    model = Attention(5)
    _, cache = model.prefill(PROMPTS, 20)
    tokens = torch.randint(2, VOCABULARY, (len(PROMPTS), 6), generator=torch.Generator().manual_seed(0))
    model.verify(tokens, cache)
    cache.invalidate(torch.rand(len(PROMPTS), 6, generator=torch.Generator().manual_seed(1)) < 0.5)
    valid, length = cache.num_valid_B.clone(), cache.length
    next_token = torch.full((len(PROMPTS), 1), 4)
    expected = model.decode(next_token, cache)
    cache.truncate(length)
    cache.defragment()
    assert cache.length == int(valid.max()) < length
    assert torch.equal(cache.num_valid_B, valid)
    assert torch.equal(cache.valid_BS.sum(1), valid)
    torch.testing.assert_close(model.decode(next_token, cache), expected, rtol=0, atol=1e-12)


def test_lookup_draft():
    draft = LookupDraft([[5, 6, 7, 8, 9], []], context=2)
    assert list(draft(0, [5], 3)) == [6, 7, 8], "nothing to look up yet: the reference from its start"
    assert list(draft(0, [5, 4, 6, 7], 3))[:2] == [8, 9]
    assert list(draft(1, [3], 3)) == []
    assert list(draft(1, [3, 1, 2, 8, 9, 1, 2], 3)) == [8, 9, 1]
    assert list(draft(1, [3, 1, 2, 8, 9, 1, 2, 4, 1, 2], 2)) == [4, 1], "the latest occurrence"
    assert list(draft(1, [3, 1, 2, 8, 9, 1, 2, 4, 1, 2, 6], 2)) == []


def test_lookup_draft_saves_steps_on_repetitive_output():
    model = Attention(2)
    options = config(max_new_tokens=80, eos_token_ids=())
    expected = generate(model.decode, *model.prefill(PROMPTS, 100), options)
    model.steps = 0
    output = generate_with_drafts(model.verify, LookupDraft(), *model.prefill(PROMPTS, 100), options)
    assert [t.tolist() for t in output.tokens] == [t.tolist() for t in expected.tokens]
    assert model.steps < 75, "greedy takes 81, prefill included; the slowest of five rows counts"
    answers = [t.tolist() for t in expected.tokens]
    model.steps = 0
    generate_with_drafts(model.verify, LookupDraft(answers, context=3), *model.prefill(PROMPTS, 100), options)
    assert model.steps < 30


def test_what_drafts_cannot_do():
    model = Attention(0)
    logits, cache = model.prefill(PROMPTS, 50)
    for options in ({"temperature": 1.0}, {"num_beams": 2}):
        with pytest.raises(ConfigError, match="greedy"):
            generate_with_drafts(model.verify, LookupDraft(), logits, cache, config(**options))


def without_five(tokens, logits):
    return logits.index_fill(1, torch.tensor([5]), float("-inf"))


@pytest.mark.parametrize("wrong", [0.0, 0.5])
def test_constraints_with_memory_and_their_stops(wrong):
    for seed in range(3):
        model = Attention(seed)
        # Every token its own segment: these small models alternate a lot, so most rows are stopped.
        processors = [without_five, StopOnRepetition(None, cycles=range(1, 4), repeats=2)]
        expected = generate(model.decode, *model.prefill(PROMPTS, 39), config(), processors)
        assert "stopped:loop" in expected.stop_reasons
        answers = [tokens.tolist() for tokens in expected.tokens]
        logits, cache = model.prefill(PROMPTS, 39)
        draft = Rough(answers, wrong)
        output = generate_with_drafts(model.verify, draft, logits, cache, config(), processors)
        assert [tokens.tolist() for tokens in output.tokens] == answers
        assert output.stop_reasons == expected.stop_reasons
