"""Sampling of latents with guidance against the loop over steps, written out."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.diffusion import CosineSchedule, DiffusionHead
from multiway_blocks.diffusion_solver import DiffusionSolver
from multiway_blocks.guided_sampling import LatentSampler
from torch import Tensor


@pytest.fixture(scope="module")
def head() -> DiffusionHead:
    torch.manual_seed(0)
    head = DiffusionHead(3, 12, 2, 20, frequency_size=16)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head.requires_grad_(False)


def draws(seed: int, rows: int = 4):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(rows, 3, generator=generator)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("guided", [False, True])
def test_samples_equal_the_loop_of_steps(head, guided: bool, stochastic: bool) -> None:
    solver = DiffusionSolver(CosineSchedule(), 5, stochastic=stochastic)
    hidden = torch.randn(8 if guided else 4, 12, generator=torch.Generator().manual_seed(1))

    def predict(x: Tensor, step: int) -> Tensor:
        times = solver.times_S[step].expand(4)
        if not guided:
            return head(x, times, hidden)
        one, other = head(x, times, hidden[:4]), head(x, times, hidden[4:])
        return other + 1.7 * (one - other)

    expected = solver.sample(predict, (draw := draws(2))(), draw)
    found = LatentSampler(head, solver, 1.7)(hidden, draws(2))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_rows_do_not_disturb_each_other(head) -> None:
    solver = DiffusionSolver(CosineSchedule(), 5)
    hidden = torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    noise = draws(2)()
    together = LatentSampler(head, solver, 1.7)(hidden, lambda: noise)
    alone = [
        LatentSampler(head, solver, 1.7)(hidden[[i, i + 4]], lambda i=i: noise[i : i + 1]) for i in range(4)
    ]
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-5, rtol=1e-5)


def test_half_precision_stays_near(head) -> None:
    solver = DiffusionSolver(CosineSchedule(), 5)
    hidden = torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    wide = LatentSampler(head, solver, 1.3)(hidden, draws(2))
    half = DiffusionHead(3, 12, 2, 20, frequency_size=16).requires_grad_(False)
    half.load_state_dict(head.state_dict())
    found = LatentSampler(half.bfloat16(), solver, 1.3)(hidden.bfloat16(), draws(2))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wide, atol=0.15, rtol=0.1)
