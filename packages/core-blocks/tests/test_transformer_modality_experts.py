"""Tokens go through their own expert, whichever way the segments are given."""

from __future__ import annotations

import functools

import pytest
import torch
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.transformer import Context, ModalityExperts, Segment
from torch import nn

new_expert = functools.partial(FeedForward, 6, 8, sub_norm=True)


@pytest.fixture
def experts() -> ModalityExperts:
    torch.manual_seed(0)
    return ModalityExperts(new_expert, ["vision", "text", "pair"]).double()


LAYOUTS: dict[str, list[Segment]] = {
    "image then text": [(0, 3, "vision"), (3, 7, "text")],
    "text then image": [(0, 4, "text"), (4, 7, "vision")],
    "one expert for all": [(0, 7, "pair")],
    "interleaved": [(0, 1, "text"), (1, 3, "vision"), (3, 4, "text"), (4, 6, "vision"), (6, 7, "text")],
    "empty segments": [(0, 0, "vision"), (0, 7, "text"), (7, 7, "pair")],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_paths_equal_a_loop_over_tokens_with_gradients(experts: ModalityExperts, layout: str) -> None:
    segments = LAYOUTS[layout]
    x = torch.randn(2, 7, 6, dtype=torch.float64, requires_grad=True)
    expert_at = {place: expert for start, stop, expert in segments for place in range(start, stop)}
    expected = torch.stack(
        [torch.stack([experts.experts[expert_at[t]](x[b, t]) for t in range(7)]) for b in range(2)]
    )
    used = [p for name in set(expert_at.values()) for p in experts.experts[name].parameters()]
    weight = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view_as(expected)
    wanted = torch.autograd.grad((expected * weight).sum(), [x, *used])
    for given in (segments, [segments, segments]):
        out = experts(x, Context(segments=given))
        torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)
        gradients = torch.autograd.grad((out * weight).sum(), [x, *used])
        for ours, theirs in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_rows_may_differ(experts: ModalityExperts) -> None:
    rows = [LAYOUTS["interleaved"], LAYOUTS["text then image"], LAYOUTS["empty segments"]]
    x = torch.randn(3, 7, 6, dtype=torch.float64)
    together = experts(x, Context(segments=rows))
    for row, segments in enumerate(rows):
        torch.testing.assert_close(
            together[row : row + 1], experts(x[row : row + 1], Context(segments=segments))
        )


def test_an_expert_without_tokens_gets_no_gradient(experts: ModalityExperts) -> None:
    context = Context(segments=LAYOUTS["image then text"])
    experts(torch.randn(2, 7, 6, dtype=torch.float64), context).sum().backward()
    assert all(parameter.grad is None for parameter in experts.experts["pair"].parameters())
    assert all(parameter.grad is not None for parameter in experts.experts["text"].parameters())


@pytest.mark.parametrize(
    "segments", [[(0, 0, "text")], [[(0, 0, "text")], [(0, 0, "vision"), (0, 0, "text")]]]
)
def test_no_tokens_at_all(experts: ModalityExperts, segments) -> None:
    assert experts(torch.empty(2, 0, 6, dtype=torch.float64), Context(segments=segments)).shape == (2, 0, 6)


def test_norms_and_projections_can_be_experts() -> None:
    norm = ModalityExperts(lambda: nn.LayerNorm(4), ["vision", "text"])
    nn.init.constant_(norm.experts["text"].bias, 5.0)
    out = norm(torch.randn(1, 3, 4), Context(segments=[(0, 1, "vision"), (1, 3, "text")])).detach()
    assert out[0, 0].mean() == pytest.approx(0.0, abs=1e-5)
    assert out[0, 2].mean() == pytest.approx(5.0, abs=1e-5)
    assert set(norm.state_dict()) == {
        f"experts.{e}.{p}" for e in ("vision", "text") for p in ("weight", "bias")
    }
    wider = ModalityExperts(lambda: nn.Linear(4, 6), ["a"])
    assert wider(torch.randn(2, 3, 4), Context(segments=[(0, 3, "a")])).shape == (2, 3, 6)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([], "no segments"),
        ([(0, 3, "vision")], "3 of 7 tokens"),
        ([(0, 3, "vision"), (4, 7, "text")], "does not follow the token 3"),
        ([(0, 5, "vision"), (3, 7, "text")], "does not follow the token 5"),
        ([(0, 7, "audio")], "unknown expert 'audio'"),
        ([(0, 9, "text")], "9 of 7 tokens"),
        ([[(0, 7, "text")]], "1 lists of segments for 2 rows"),
    ],
)
def test_wrong_segments_are_refused(experts: ModalityExperts, segments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        experts(torch.zeros(2, 7, 6, dtype=torch.float64), Context(segments=segments))


def test_names_of_experts_must_differ() -> None:
    with pytest.raises(ValueError, match="names of their own"):
        ModalityExperts(new_expert, ["a", "a"])
