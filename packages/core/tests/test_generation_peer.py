"""Decoding against transformers' generate and its logits warpers, on a random Llama in float64."""

from __future__ import annotations

import pytest
import torch
from multiway_core.generation import (
    GenerationConfig,
    NoRepeatNGram,
    StaticKVCache,
    Temperature,
    TopK,
    TopP,
    generate,
)
from torch import Tensor

pytestmark = [pytest.mark.peer, pytest.mark.requires("transformers")]


class Recomputing:
    """Makes a decode step of a transformers model: our cache holds the token ids, the model has none."""

    def __init__(self, model) -> None:
        self.model = model

    def last_logits(self, tokens: Tensor, valid: Tensor) -> Tensor:
        positions = (valid.cumsum(1) - 1).clamp(min=0)
        return self.model(input_ids=tokens, attention_mask=valid.long(), position_ids=positions).logits[:, -1]

    def __call__(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        return self.step(tokens_BT, cache, torch.ones_like(tokens_BT, dtype=torch.bool))

    def step(self, tokens_BT: Tensor, cache: StaticKVCache, valid_BT: Tensor) -> Tensor:
        ids_B1TD = tokens_BT[:, None, :, None].double()
        keys, _ = cache.update(0, ids_B1TD, ids_B1TD)
        cache.advance(valid_BT)
        return self.last_logits(keys[:, 0, :, 0].long(), cache.valid_BS[:, : cache.length])

    def prefill(self, prompts: list[list[int]], max_length: int = 64) -> tuple[Tensor, StaticKVCache]:
        longest = max(len(prompt) for prompt in prompts)
        cache = StaticKVCache(1, len(prompts), 1, 1, max_length, dtype=torch.float64)
        tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        valid = torch.tensor([[False] * (longest - len(p)) + [True] * len(p) for p in prompts])
        return self.step(tokens, cache, valid), cache


BOS = 1


@pytest.fixture(scope="module")
def llama():
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=BOS,
        eos_token_id=[2, 3],
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6 if parameter.ndim == 2 else 1)  # peaky predictions, so that rows differ and end
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 3},
        {"num_beams": 4, "length_penalty": 1.0},
        {"num_beams": 4, "length_penalty": 2.0},
        {"num_beams": 3, "length_penalty": 0.4, "no_repeat_ngram_size": 2},
        {"num_beams": 2, "length_penalty": 0.0},
        {"num_beams": 2, "length_penalty": -1.0},
    ],
)
def test_equals_transformers(llama, options):
    # Theirs counts the n-grams of the prompt too: its last token is one that is never generated.
    prompts = [[5, 6, BOS], [BOS], [7, 8, 9, 10, BOS], [11, BOS], [30, 31, BOS]]
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    theirs = llama.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=20,
        do_sample=False,
        suppress_tokens=[BOS, 0],
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    decode = Recomputing(llama)
    logits, cache = decode.prefill(prompts)
    config = GenerationConfig(20, (2, 3), 0, **options)

    def suppress(tokens, scores):
        return scores.index_fill(1, torch.tensor([0, BOS]), float("-inf"))

    ours = generate(decode, logits, cache, config, [suppress])
    for row in range(len(prompts)):
        expected = theirs.sequences[row, longest:].tolist()
        ends = [i for i, token in enumerate(expected) if token in (2, 3, 0)]
        assert ours.tokens[row].tolist() == expected[: ends[0] if ends else None]
        assert ours.finished[row] == bool(ends)
        if "num_beams" in options:
            assert ours.beam_scores[row] == pytest.approx(float(theirs.sequences_scores[row]), abs=1e-4)
    assert len({len(tokens) for tokens in ours.tokens}) > 1


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_filters_equal_the_logits_warpers(temperature):
    import transformers

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 101, generator=generator, dtype=torch.float64) * 3
    tokens = torch.randint(101, (16, 5), generator=generator)
    warped = transformers.TemperatureLogitsWarper(temperature)(tokens, logits)
    filtered = Temperature(temperature)(tokens, logits)
    assert torch.equal(filtered, warped)
    for k in (1, 7, 100, 500):
        assert torch.equal(TopK(k)(tokens, filtered), transformers.TopKLogitsWarper(k)(tokens, warped))
        for p in (0.05, 0.5, 0.9, 0.999):
            both = transformers.TopPLogitsWarper(p)(tokens, transformers.TopKLogitsWarper(k)(tokens, warped))
            assert torch.equal(TopP(p)(tokens, TopK(k)(tokens, filtered)), both)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_ngram_block_equals_theirs(size):
    import transformers

    generator = torch.Generator().manual_seed(size)
    for length in range(30):
        tokens = torch.randint(4, (8, length), generator=generator)
        logits = torch.randn(8, 6, generator=generator)
        theirs = transformers.NoRepeatNGramLogitsProcessor(size)(tokens, logits.clone())
        assert torch.equal(NoRepeatNGram(size)(tokens, logits), theirs)
