"""Distillation losses against their formulas in float64, forward and backward; memory and swapped roles."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from multiway_blocks.distillation import (
    bitdistill,
    cross_modal_attention,
    hidden_loss,
    logits_loss,
    minilm,
    minilm_v2,
    relation_loss,
    relation_scores,
)
from multiway_blocks.kernels.relation_distillation import chunks, pairs
from multiway_core.errors import InputError
from torch import Tensor

VALID = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def states(heads: int, width: int, seed: int) -> list[Tensor]:
    return [x.requires_grad_() for x in draw(3, 2, heads, 7, width, seed=seed).unbind()]


def relation(a_BHTD: Tensor, b_BHSD: Tensor, heads: int, row: int, head: int, keys: Tensor) -> Tensor:
    """The log of one relation, as the papers write it."""
    a, b = (x[row].transpose(0, 1).flatten(1).chunk(heads, dim=1)[head] for x in (a_BHTD, b_BHSD))
    return (a @ b[keys].T / a.shape[1] ** 0.5).log_softmax(-1)


def spelled_out(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], heads: int, queries: Tensor, keys: Tensor
) -> Tensor:
    total, count = 0.0, 0
    for row in range(len(queries)):
        for head in range(heads):
            s = relation(*student, heads, row, head, keys[row])[queries[row]]
            t = relation(*teacher, heads, row, head, keys[row])[queries[row]].detach()
            total, count = total + (t.exp() * (t - s)).sum(), count + len(s)
    assert isinstance(total, Tensor)
    return total / count


def compare(actual: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(actual, expected)
    gradients = (torch.autograd.grad(x, inputs, allow_unused=True) for x in (actual, expected))
    for mine, theirs in zip(*gradients, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("at_once", [1, 20, 1 << 18])
def test_minilm(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "PRODUCTS_AT_ONCE", at_once)
    student, teacher = states(4, 3, 0), states(4, 5, 1)
    q, k, v = student
    tq, tk, tv = teacher
    expected = spelled_out((q, k), (tq, tk), 4, VALID, VALID) + spelled_out((v, v), (tv, tv), 4, VALID, VALID)
    compare(minilm((q, k, v), (tq, tk, tv), 4, VALID), expected, student)


def test_minilm_v2_with_other_heads_and_weights() -> None:
    student, teacher = states(4, 3, 0), states(2, 12, 1)
    expected = sum(
        weight * spelled_out((a, a), (b, b), 6, VALID, VALID)
        for weight, a, b in zip((1.0, 0.5, 2.0), student, teacher, strict=True)
    )
    compare(minilm_v2(tuple(student), tuple(teacher), 6, VALID, weights=(1.0, 0.5, 2.0)), expected, student)
    full = torch.ones_like(VALID)
    expected = sum(spelled_out((a, a), (b, b), 6, full, full) for a, b in zip(student, teacher, strict=True))
    compare(minilm_v2(tuple(student), tuple(teacher), 6), expected, student)


def test_dide() -> None:
    text, image = VALID[:, :5], torch.tensor([[True] * 6, [True] * 5 + [False]])
    own = [draw(2, 3, t, 4, seed=i).requires_grad_() for i, t in enumerate((5, 5, 6, 6))]
    other = [draw(2, 3, t, 6, seed=i + 9) for i, t in enumerate((5, 5, 6, 6))]
    expected = spelled_out((own[0], own[3]), (other[0], other[3]), 3, text, image)
    expected = expected + spelled_out((own[2], own[1]), (other[2], other[1]), 3, image, text)
    actual = cross_modal_attention(
        (own[0], own[1]), (own[2], own[3]), (other[0], other[1]), (other[2], other[3]), text, image
    )
    compare(actual, expected, own)


def test_scores_of_autodistil() -> None:
    student, teacher = states(4, 4, 0), states(2, 9, 1)  # widths 16 and 18: 15 and 18 are used
    total = torch.zeros((), dtype=torch.float64)
    for a, b in zip(student, teacher, strict=True):
        squares = []
        for row in range(2):
            x, y = (s[row].transpose(0, 1).flatten(1)[VALID[row]] for s in (a, b.detach()))
            for head in range(3):
                x_TW, y_TW = x[:, :15].chunk(3, 1)[head], y.chunk(3, 1)[head]
                squares.append((x_TW @ x_TW.T / 5**0.5 - y_TW @ y_TW.T / 6**0.5).square().flatten())
        total = total + torch.cat(squares).mean()
    compare(relation_scores(tuple(student), tuple(teacher), 3, VALID), total, student)


def test_bitdistill_is_minilm_v2_of_unit_vectors() -> None:
    student, teacher = states(4, 3, 0), states(2, 12, 1)
    unit = []
    for side in (student, teacher):
        cut = [x.transpose(1, 2).flatten(2).unflatten(2, (6, -1)) for x in side]
        # Scaled so that the temperature of the relation is 0.5 and not the root of the width.
        rows = [torch.nn.functional.normalize(x, dim=-1) * (2 * x.shape[-1] ** 0.5) ** 0.5 for x in cut]
        unit.append(tuple(x.transpose(1, 2) for x in rows))
    compare(bitdistill(tuple(student), tuple(teacher), 6, temperature=0.5), minilm_v2(*unit, 6), student)


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: minilm(a, b, 4, VALID),
        lambda a, b: minilm_v2(a, b, 4, VALID),
        lambda a, b: bitdistill(a, b, 4),
        lambda a, b: logits_loss(a[0], b[0]),
    ],
)
def test_divergence_is_from_the_teacher_to_the_student(loss: Callable) -> None:
    flat = tuple(0.1 * x.detach() for x in states(4, 3, 0))
    peaked = tuple(2 * x.detach() for x in states(4, 3, 1))
    forward, swapped = float(loss(flat, peaked)), float(loss(peaked, flat))
    assert abs(forward / swapped - 1) > 0.001  # the formulas above tell the two directions apart
    leaf = [x.clone().requires_grad_() for x in peaked]
    assert torch.autograd.grad(loss(tuple(leaf), flat), leaf[0])[0].abs().max() > 0
    assert not loss(flat, tuple(leaf)).requires_grad


def test_logits_loss_is_the_divergence() -> None:
    one, other = draw(5, 7, seed=0), draw(5, 7, seed=1)
    p, q = (other / 2).softmax(-1), (one / 2).softmax(-1)
    torch.testing.assert_close(logits_loss(one, other, 2.0), 4 * (p * (p / q).log()).sum())
    assert logits_loss(other, other).abs() < 1e-6


def test_hidden_loss() -> None:
    a, b = draw(2, 7, 3, seed=0), draw(2, 7, 3, seed=1)
    torch.testing.assert_close(hidden_loss(a, b, VALID), (a - b)[VALID].square().mean())
    torch.testing.assert_close(hidden_loss(a, b), torch.nn.functional.mse_loss(a, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_streamed_as_defined_in_lower_precision(dtype: torch.dtype) -> None:
    """Long rows, large scores and keys that are all padding but one."""
    arguments = [(6 * draw(3, 70, 8, seed=i)).to(dtype).requires_grad_() for i in range(4)]
    valid = torch.rand(3, 70, generator=torch.Generator().manual_seed(0)) < 0.5
    valid[2] = torch.arange(70) == 3
    grad = draw(3, 70, seed=9).float()
    streamed = pairs.relation_divergence(*arguments, valid)
    exact = pairs.definition(*(x.double() for x in arguments), valid)
    torch.testing.assert_close(streamed.double(), exact, rtol=1e-5, atol=1e-4)
    for mine, theirs in zip(
        torch.autograd.grad(streamed, arguments[:2], grad),
        torch.autograd.grad(exact, arguments[:2], grad.double()),
        strict=True,
    ):
        bound = float(theirs.abs().max()) * max(2e-6, torch.finfo(dtype).eps)
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=0, atol=bound)


def test_relations_are_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, sizes = pairs._scores, []

    def note(*arguments: object) -> tuple[Tensor, Tensor]:
        sizes.append(max(x.numel() for x in scores(*arguments)))
        return scores(*arguments)

    monkeypatch.setattr(pairs, "_scores", note)
    monkeypatch.setattr(pairs, "PRODUCTS_AT_ONCE", 3000)
    q, k, v = draw(3, 1, 4, 300, 4).requires_grad_().unbind()
    minilm((q, k, v), (q, k, v), 4).backward()
    assert 0 < max(sizes) <= 3000
    assert list(chunks.row_chunks(0, 3, 3, 9)) == []


def test_shapes_are_checked() -> None:
    a, b = draw(1, 2, 5, 3), draw(1, 2, 6, 3)
    with pytest.raises(InputError, match="4 relation heads do not divide the student's width 6"):
        relation_loss((a, a), (a, a), 4)
    with pytest.raises(InputError, match="batch and tokens must agree"):
        relation_loss((a, a), (b, b), 2)
