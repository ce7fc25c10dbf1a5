"""The objective of latents against a loop over them."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.diffusion import CosineSchedule, DiffusionHead
from multiway_blocks.next_token_diffusion import next_token_diffusion_loss
from torch import Tensor

HIDDEN = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(0))
PLACES = torch.tensor([[0, 1, 1, 0, 0, 1], [0, 0, 1, 0, 0, 0]]).bool()
LATENTS = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def head() -> DiffusionHead:
    torch.manual_seed(2)
    head = DiffusionHead(3, 12, 2, 20, frequency_size=16)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head


def loss(head: DiffusionHead, hidden: Tensor = HIDDEN, draws: int = 4) -> Tensor:
    torch.manual_seed(5)
    return next_token_diffusion_loss(head, CosineSchedule(), hidden, PLACES, LATENTS, draws=draws)


def test_loss_equals_a_loop(head) -> None:
    found, schedule = loss(head, draws=3), CosineSchedule()
    torch.manual_seed(5)
    times, noise = torch.randint(1000, (12,)), torch.randn(12, 3)
    for index, (row, place) in enumerate(PLACES.nonzero().tolist()):
        total = torch.zeros(())
        for draw in range(3):
            pick = draw * 4 + index
            alpha, sigma = schedule.alpha_S[times[pick]], schedule.sigma_S[times[pick]]
            noisy = alpha * LATENTS[index] + sigma * noise[pick]
            v = head(noisy[None], times[pick][None], HIDDEN[row, place - 1][None])[0]
            total = total + (v - (alpha * noise[pick] - sigma * LATENTS[index])).square().mean()
        torch.testing.assert_close(found[index], total / 3)


def test_a_latent_hears_the_state_before_it_only(head) -> None:
    hidden = HIDDEN.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(head, hidden).sum(), hidden)
    heard = torch.zeros_like(PLACES)
    heard[:, :-1] = PLACES[:, 1:]
    assert torch.equal(gradient.abs().sum(-1) > 0, heard)


def test_noise_that_a_zero_head_cannot_see_costs_the_power_of_the_velocity() -> None:
    """A new head says 0, so its loss is the mean square of ``alpha e - sigma z``."""
    torch.manual_seed(0)
    found = loss(DiffusionHead(3, 12, 2, 20, frequency_size=16), draws=2000)
    schedule = CosineSchedule()
    power = schedule.alpha_S.square().mean() + schedule.sigma_S.square().mean() * LATENTS.square().mean(-1)
    torch.testing.assert_close(found, power, rtol=0.1, atol=0)


def test_no_latent_is_no_loss(head) -> None:
    none = torch.zeros_like(PLACES)
    found = next_token_diffusion_loss(head, CosineSchedule(), HIDDEN, none, torch.zeros(0, 3))
    assert found.shape == (0,)
    found.sum().backward()


def test_what_cannot_be_learnt_is_refused(head) -> None:
    with pytest.raises(ValueError, match="draws must be at least 1"):
        loss(head, draws=0)
    first = PLACES.clone()
    first[0, 0] = True
    with pytest.raises(ValueError, match="4 places for latents behind a row's first position and 5 latents"):
        next_token_diffusion_loss(head, CosineSchedule(), HIDDEN, first, torch.zeros(5, 3))
