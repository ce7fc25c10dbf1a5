"""The residual blocks by their formulas, written out; the stack: hidden states, checkpointing, caches."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.attention import Attention, CrossAttention, causal_mask
from multiway_blocks.causal import CausalStack
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.transformer import Context, LayerScale, ModalityExperts, PostNorm, PreNorm, Stack
from torch import Tensor, nn

SIZE = 12


def block(kind: type[PreNorm | PostNorm] = PreNorm, *, cross: bool = False, **options) -> PreNorm | PostNorm:
    torch.manual_seed(0)
    made = kind(
        Attention(SIZE, 3, bias=True),
        FeedForward(SIZE, 20),
        (nn.LayerNorm(SIZE, eps=1e-3), nn.LayerNorm(SIZE, eps=1e-3)),
        cross=(CrossAttention(SIZE, 3), nn.LayerNorm(SIZE)) if cross else None,
        **options,
    )
    return perturbed(made)


def perturbed(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.double().parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module.eval()


def vectors(rows: int = 2, tokens: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(rows, tokens, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def test_pre_norm() -> None:
    layer, x, context = block(cross=True), vectors(), Context(causal_mask(5, 5), memory_BME=vectors(2, 7, 2))
    expected = x + layer.attention(layer.attention_norm(x), Context(causal_mask(5, 5)))
    expected = expected + layer.cross_attention(
        layer.cross_attention_norm(expected), Context(memory_BME=vectors(2, 7, 2))
    )
    expected = expected + layer.feedforward(layer.feedforward_norm(expected))
    torch.testing.assert_close(layer(x, context), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("alpha", [1.0, 1.7])
@torch.no_grad()
def test_post_norm(alpha: float) -> None:
    layer = block(PostNorm, cross=True, alpha=alpha)
    x, memory = vectors(), Context(memory_BME=vectors(2, 7, 2))
    expected = layer.attention_norm(alpha * x + layer.attention(x))
    expected = layer.cross_attention_norm(alpha * expected + layer.cross_attention(expected, memory))
    expected = layer.feedforward_norm(alpha * expected + layer.feedforward(expected))
    torch.testing.assert_close(layer(x, memory), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", [PreNorm, PostNorm])
@torch.no_grad()
def test_dropout_and_drop_path_act_while_training_only(kind) -> None:
    layer, x = block(kind, dropout=0.4, drop_path=0.5), vectors(400, 2)
    plain = block(kind)(x, Context())
    torch.testing.assert_close(layer(x, Context()), plain, atol=0, rtol=0)
    layer.train()
    if kind is PreNorm:
        kept = (layer(x, Context()) != x).flatten(1).any(dim=1)
        assert 0.6 < kept.double().mean() < 0.9  # a row is left alone if both parts are left out: 1 in 4
    repeated = vectors(1, 2).expand(20_000, -1, -1)
    mixed = layer._mixed(layer.attention, repeated, Context(), 0)
    torch.testing.assert_close(mixed.mean(0), layer.attention(repeated[:1])[0], atol=0.05, rtol=0)


@torch.no_grad()
def test_wrappers_stand_around_any_part() -> None:
    """Experts by modality for norms, projections and networks; LayerScale around mixer and experts."""
    experts = ["image", "text"]
    attention = Attention(SIZE, 3, sub_norm=True)
    attention.query, attention.output, attention.norm = (
        ModalityExperts(lambda: nn.Linear(SIZE, SIZE), experts),
        ModalityExperts(lambda: nn.Linear(SIZE, SIZE), experts),
        ModalityExperts(lambda: nn.LayerNorm(SIZE), experts),
    )
    layer = PreNorm(
        LayerScale(attention, SIZE, initial=0.5),
        LayerScale(ModalityExperts(lambda: FeedForward(SIZE, 20), experts), SIZE, initial=0.5),
        tuple(ModalityExperts(lambda: nn.LayerNorm(SIZE), experts) for _ in range(2)),
    )
    perturbed(layer)
    x = vectors()
    out = layer(x, Context(segments=[(0, 2, "image"), (2, 5, "text")]))

    def each(part: ModalityExperts, x: Tensor) -> Tensor:
        return torch.cat([part.experts["image"](x[:, :2]), part.experts["text"](x[:, 2:])], dim=1)

    normed = each(layer.attention_norm, x)
    query, key, value = (
        y.unflatten(-1, (3, 4)).transpose(1, 2)
        for y in (each(attention.query, normed), attention.key(normed), attention.value(normed))
    )
    mixed = ((query @ key.transpose(-1, -2) / 2).softmax(-1) @ value).transpose(1, 2).flatten(2)
    expected = x + layer.attention.scale * each(attention.output, each(attention.norm, mixed))
    fed = each(layer.feedforward.part, each(layer.feedforward_norm, expected))
    expected = expected + layer.feedforward.scale * fed
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)
    assert layer.state_dict()["attention.scale"].shape == (SIZE,)


@torch.no_grad()
def test_layers_are_told_their_index_and_leave_their_states() -> None:
    class Counting(nn.Module):
        def forward(self, x: Tensor, context: Context, layer: int) -> Tensor:
            return x + 10**layer

    stack = Stack([Counting(), Counting(), Counting()], nn.LayerNorm(SIZE))
    states: list[Tensor] = []
    x = torch.zeros(1, 1, SIZE)
    out = stack(x, Context(), states)
    assert [int(state[0, 0, 0]) for state in states] == [0, 1, 11, 111]
    assert torch.equal(out, stack.norm(states[-1]))


def test_checkpointed_layers_have_the_same_gradients() -> None:
    layers, x = [block(), block()], vectors()
    calls: list[int] = []
    layers[0].register_forward_pre_hook(lambda module, inputs: calls.append(inputs[2]))
    gradients = []
    for stack in (Stack(layers), Stack(layers, checkpoint_activations=True)):
        stack.train().zero_grad()
        stack(x, Context(causal_mask(5, 5))).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in stack.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, atol=1e-12, rtol=0)
    assert calls == [0, 0, 0]  # once, and then twice: in the forward pass and again in the backward pass


@torch.no_grad()
def test_a_cache_of_the_stacks_own_sizes() -> None:
    layers = [PreNorm(Attention(SIZE, 3, num_kv_heads=1), FeedForward(SIZE, 20), (nn.Identity(),) * 2)] * 2
    stack = CausalStack(layers).to(torch.bfloat16)
    cache = stack.new_cache(3, 9)
    assert (cache.num_layers, cache.batch_size, cache.max_length) == (2, 3, 9)
    assert cache.slots(0)[0].shape == (3, 1, 9, 4)
    assert cache.dtype == torch.bfloat16
    x, valid = vectors(3, 6).bfloat16(), torch.ones(3, 6, dtype=torch.bool)
    whole = stack(x, valid)
    parts = [stack(x[:, :4], valid[:, :4], cache), stack(x[:, 4:], valid[:, 4:], cache)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=2e-2, rtol=2e-2)
