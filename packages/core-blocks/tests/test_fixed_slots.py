"""A decoding step of fixed shape: what a CUDA graph captures, run without one, and on a device that is not there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from multiway_blocks.gated_decoder import GatedDecoder
from multiway_blocks.text_decoder import CausalLM
from multiway_core.errors import InputError
from multiway_core.generation import FixedSlots, GenerationConfig, GraphedDecode, StaticKVCache, generate
from torch._subclasses.fake_tensor import FakeTensorMode

VOCABULARY = 19


def build() -> CausalLM:
    torch.manual_seed(0)

    def new_decoder() -> GatedDecoder:
        return GatedDecoder(hidden_size=24, num_layers=2, num_heads=4, num_kv_heads=2, inner_size=40)

    return CausalLM(VOCABULARY, 24, new_decoder).eval()


def record(step: Callable[[], object]) -> Callable[[], object]:
    """In the place of a graph: run it as a capture would, and again at every replay."""
    step()
    return step


@torch.inference_mode()
def test_steps_of_fixed_shape_are_the_usual_ones() -> None:
    """Rows padded on the left, across a width (128), until the cache is full."""
    model = build()
    prompt = torch.randint(0, VOCABULARY, (3, 126))
    valid = torch.ones_like(prompt, dtype=torch.bool)
    valid[1, :100] = valid[2, :3] = False
    caches = [model.new_cache(3, 132) for _ in range(2)]
    for cache in caches:
        for layer in range(cache.num_layers):
            for slots in cache.slots(layer):
                slots.fill_(torch.nan)  # as memory may be that nothing was written to
        model.prefill(prompt, cache, valid)
    graphed = GraphedDecode(model.decode, capture=record)
    for step in range(6):
        tokens = torch.randint(0, VOCABULARY, (3, 1))
        torch.testing.assert_close(graphed(tokens, caches[1]), model.decode(tokens, caches[0]))
        assert caches[1].length == 127 + step
        assert torch.equal(caches[1].valid_BS, caches[0].valid_BS)
        assert torch.equal(caches[1].num_valid_B, caches[0].num_valid_B)
    with pytest.raises(InputError, match="sequence too long"):
        graphed(tokens, caches[1])


@torch.inference_mode()
def test_sequences_that_end_leave_the_batch() -> None:
    model = build()
    prompt = torch.randint(0, VOCABULARY, (4, 5))
    tokens = []
    for decode in (model.decode, GraphedDecode(model.decode, capture=record)):
        cache = model.new_cache(4, 40)
        output = generate(
            decode, model.prefill(prompt, cache), cache,
            GenerationConfig(30, pad_token_id=0, eos_token_ids=(3, 7), temperature=30.0, seed=0),
        )  # fmt: skip
        tokens.append([row.tolist() for row in output.tokens])
    assert tokens[0] == tokens[1]
    assert len({len(row) for row in tokens[0]}) > 1


@pytest.mark.parametrize("padded", [False, True])
@torch.inference_mode()
def test_no_step_waits_for_the_device(padded: bool) -> None:
    """On tensors without memory every reading of a number raises, so what runs here can be captured."""
    with FakeTensorMode(), torch.device("cuda"):
        model = build()
        for layer in model.decoder.layers:  # made on the CPU, to be moved with the model
            layer.attention.rotary.inverse_frequency = layer.attention.rotary.inverse_frequency.cuda()
        cache = model.new_cache(2, 64)
        prompt = torch.zeros(2, 9, dtype=torch.long)
        model.prefill(prompt, cache, torch.ones(2, 9, dtype=torch.bool) if padded else None)
        step, new = prompt[:, :1], torch.zeros(2, 2, 1, 6)
        assert step.is_cuda
        for _ in range(3):
            slots = FixedSlots(cache, 32)
            assert model.decode(step, slots).shape == (2, VOCABULARY)
            assert [tuple(part.shape) for part in slots.update(0, new, new)] == [(2, 2, 32, 6)] * 2
        assert model.decode(step, cache).shape == (2, VOCABULARY)  # nor does the usual step


@torch.inference_mode()
def test_what_has_more_tokens_goes_to_the_model() -> None:
    model = build()
    cache = StaticKVCache(2, 1, 2, 6, 16)
    graphed = GraphedDecode(model.decode, capture=record)
    tokens = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(graphed(tokens, cache), model.decode(tokens, model.new_cache(1, 16)))
    with pytest.raises(InputError, match="takes one token a row, not 3"):
        model.decode(tokens, FixedSlots(cache, 16))
