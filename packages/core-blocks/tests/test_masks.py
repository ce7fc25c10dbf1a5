"""Visibility by rule: known masks, the rule spelled out, and attention by parts equal to the dense mask."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.attention import attend
from multiway_blocks.masks import (
    Role,
    attend_by_rule,
    prefix_roles,
    pseudo_masked_roles,
    rule_layout,
    visible,
)
from multiway_core.errors import InputError
from torch import Tensor


def rows(mask: Tensor) -> list[str]:
    return ["".join("x" if seen else "." for seen in row) for row in mask.tolist()]


def test_causal_and_prefix_masks() -> None:
    roles, steps = prefix_roles(torch.tensor([0, 2]), 4)
    seen = visible(roles, steps)
    assert rows(seen[0]) == ["x...", "xx..", "xxx.", "xxxx"]
    assert rows(seen[1]) == ["xx..", "xx..", "xxx.", "xxxx"]
    valid = torch.tensor([[True] * 4, [True, False, True, True]])
    assert rows(visible(roles, steps, valid)[1]) == ["x...", "x...", "x.x.", "x.xx"]


def test_pseudo_masked_mask() -> None:
    seen = visible(*pseudo_masked_roles(1, torch.tensor([[0, 1, 1]])))[0]
    assert rows(seen) == [
        "x......",
        "xx.....",  # true tokens: up to their own step, both of the second block
        "xxxx...",
        "xxxx...",
        "x...x..",  # pseudo masks: true tokens of earlier steps, and their own block
        "xx...xx",
        "xx...xx",
    ]


def draw_case(seed: int, *, ordered: bool) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch, length = 3, int(torch.randint(1, 24, (), generator=generator))
    roles = torch.randint(0, 3, (batch, length), generator=generator)
    if ordered:
        roles = roles[:1].sort(dim=1)[0].expand(batch, -1)
    steps = torch.randint(-4, 5, (batch, length), generator=generator)
    valid = torch.rand(batch, length, generator=generator) < 0.8
    return roles, steps, valid


@pytest.mark.parametrize("seed", range(20))
def test_rule_in_words(seed: int) -> None:
    roles, steps, valid = draw_case(seed, ordered=False)
    seen = visible(roles, steps, valid)
    for b in range(len(roles)):
        for q, (role_q, step_q) in enumerate(zip(roles[b].tolist(), steps[b].tolist(), strict=True)):
            for k, (role_k, step_k) in enumerate(zip(roles[b].tolist(), steps[b].tolist(), strict=True)):
                expected = role_k == Role.CONTEXT
                if role_k == Role.TRUE and role_q == Role.TRUE:
                    expected = step_k <= step_q
                elif role_k == Role.TRUE and role_q == Role.PSEUDO:
                    expected = step_k < step_q
                elif role_k == Role.PSEUDO and role_q == Role.PSEUDO:
                    expected = step_k == step_q
                assert bool(seen[b, q, k]) == (expected and bool(valid[b, k]))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_parts_equal_the_dense_mask(seed: int, ordered: bool, biased: bool) -> None:
    roles, steps, valid = draw_case(seed, ordered=ordered)
    generator = torch.Generator().manual_seed(seed)
    batch, length = roles.shape
    heads, width = 2, 3
    bias = torch.randn(1, heads, length, length, generator=generator, dtype=torch.float64).requires_grad_()
    states = [
        torch.randn(batch, heads, length, width, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(3)
    ]
    seen = visible(roles, steps, valid)
    counted = valid & seen.any(-1)  # rows of padding carry no loss
    dense = torch.where(seen | ~seen.any(-1, keepdim=True), 0.0, -torch.inf)[:, None].double()
    layout = rule_layout(roles, steps, valid)
    wanted = states
    if biased:
        dense, layout, wanted = dense + bias, layout.with_bias(bias), [*states, bias]
    grad = torch.randn(batch, heads, length, width, generator=generator, dtype=torch.float64)
    grad = grad * counted[:, None, :, None]
    results = []
    for output in (attend(*states, dense), attend_by_rule(*states, layout)):
        assert output.isfinite().all()
        output = output * counted[:, None, :, None]
        results.append((output, *torch.autograd.grad(output, wanted, grad, allow_unused=True)))
    with torch.no_grad():  # the fused path
        fused = attend_by_rule(*states, layout) * counted[:, None, :, None]
    torch.testing.assert_close(fused, results[0][0])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_padding_changes_nothing() -> None:
    roles, steps = pseudo_masked_roles(6, torch.arange(3)[None])
    states = torch.randn(3, 1, 2, 12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(1, 12, dtype=torch.bool)
    valid[0, 4:6] = False
    whole = attend_by_rule(*states, rule_layout(roles, steps, valid))
    short = attend_by_rule(
        *states[:, :, :, valid[0]], rule_layout(*pseudo_masked_roles(4, torch.arange(3)[None]))
    )
    torch.testing.assert_close(whole[:, :, valid[0]], short)


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match=r"roles are \(1, 3\) and steps \(1, 4\)"):
        rule_layout(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long))
