"""The CPU's fast path of a layer against scatter-compute-gather: values, moved states and every gradient."""

from __future__ import annotations

import pytest
import torch
from multiway_event_vision.ssla_det import native
from multiway_event_vision.ssla_det.layer import SslaLayer
from multiway_event_vision.ssla_det.spaces import Place

pytestmark = pytest.mark.skipif(not native.available(), reason="no C++ compiler")


def events(
    number: int, height: int, width: int, streams: int, features: int, seed: int
) -> tuple[torch.Tensor, Place]:
    generator = torch.Generator().manual_seed(seed)

    def draw(size: int) -> torch.Tensor:
        return torch.randint(size, (number,), generator=generator)

    place = Place(draw(streams).sort().values, draw(height), draw(width), height, width)
    return torch.randn(number, features, generator=generator, dtype=torch.float64), place


@pytest.mark.parametrize(
    ("number", "height", "width", "streams", "features", "hidden", "size"),
    [(300, 5, 7, 2, 2, 12, 3), (300, 5, 7, 1, 12, 12, 1), (900, 1, 2, 3, 5, 17, 3), (0, 4, 4, 1, 3, 8, 3)],
    ids=["borders", "one pixel", "frame smaller than a space, odd width", "no events"],
)
def test_same_function_and_gradients(
    number: int, height: int, width: int, streams: int, features: int, hidden: int, size: int
) -> None:
    torch.manual_seed(1)
    layer = SslaLayer(features, hidden, size).double()
    x_NC, place = events(number, height, width, streams, features, seed=2)
    state_PD = torch.randn(streams * height * width, hidden, dtype=torch.float64)
    ways = []
    for fused in (True, False):
        x, state = x_NC.clone().requires_grad_(), state_PD.clone().requires_grad_()
        out_ND, moved_PD = layer.weights().advance(x, place, state, fused=fused)
        # Weights that differ from number to number, for both results.
        loss = (out_ND * torch.arange(out_ND.numel()).view_as(out_ND).cos()).sum()
        loss = loss + (moved_PD * torch.arange(moved_PD.numel()).view_as(moved_PD).sin()).sum()
        layer.zero_grad()
        loss.backward()
        gradients = {
            name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None
        }
        ways.append({"out": out_ND, "moved": moved_PD, "x": x.grad, "state": state.grad, **gradients})
    assert ways[0].keys() == ways[1].keys()
    for name, value in ways[0].items():
        torch.testing.assert_close(
            value, ways[1][name], rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_gradients_are_those_of_differences() -> None:
    torch.manual_seed(3)
    weights = SslaLayer(3, 4, 3).double().weights()
    x_NC, place = events(12, 3, 3, 1, 3, seed=4)
    state_PD = torch.randn(9, 4, dtype=torch.float64)

    def function(x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return weights.advance(x, place, state)

    assert torch.autograd.gradcheck(function, (x_NC.requires_grad_(), state_PD.requires_grad_()))


def test_given_state_is_left_alone_unless_in_place() -> None:
    layer = SslaLayer(2, 4, 3)
    x_NC, place = events(20, 4, 4, 1, 2, seed=5)
    state_PD = torch.zeros(16, 4)
    _, moved_PD = layer.weights().advance(x_NC.float(), place, state_PD)
    assert not state_PD.any()
    assert moved_PD.any()
    with torch.no_grad():
        _, same_PD = layer.weights().advance(x_NC.float(), place, state_PD, in_place=True)
    assert same_PD is state_PD
    torch.testing.assert_close(state_PD, moved_PD.detach())
