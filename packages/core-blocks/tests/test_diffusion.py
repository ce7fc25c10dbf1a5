"""The diffusion head, its schedule and its samplers, against `diffusers` and against formulas."""

from __future__ import annotations

import math

import pytest
import torch
from multiway_blocks.diffusion import CosineSchedule, DiffusionHead
from multiway_blocks.diffusion_solver import DiffusionSolver
from torch import Tensor


@pytest.fixture(scope="module")
def schedule() -> CosineSchedule:
    return CosineSchedule()


def velocity(x: Tensor, time: int) -> Tensor:
    """A smooth field of latent and time in place of a trained head."""
    return torch.tanh(x * 0.7 + 0.3) * (0.5 + time / 1000) - 0.2 * x.flip(1)


def test_schedule_is_the_squared_cosine(schedule) -> None:
    assert torch.allclose(schedule.alpha_S**2 + schedule.sigma_S**2, torch.ones(1000))
    for time in (0, 250, 500, 750, 998):
        ratio = math.cos(((time + 1) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
        ratio /= math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        assert schedule.alpha_S[time].item() ** 2 == pytest.approx(ratio, rel=1e-4)
    assert schedule.sigma_S[-1] / schedule.alpha_S[-1] > 10_000


def test_velocity_and_noise_give_back_the_latents(schedule) -> None:
    latents, noise = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = torch.arange(0, 1000, 20)
    noisy, target = schedule.add_noise(latents, noise, times), schedule.velocity(latents, noise, times)
    alpha, sigma = schedule.alpha_S[times].double()[:, None], schedule.sigma_S[times].double()[:, None]
    torch.testing.assert_close(alpha * noisy - sigma * target, latents, atol=1e-6, rtol=0)
    torch.testing.assert_close(sigma * noisy + alpha * target, noise, atol=1e-6, rtol=0)


def test_time_steps_of_the_published_samplers(schedule) -> None:
    assert DiffusionSolver(schedule, 5).times_S.tolist() == [999, 799, 599, 400, 200]
    ten = [999, 899, 799, 699, 599, 500, 400, 300, 200, 100]
    assert DiffusionSolver(schedule, 10).times_S.tolist() == ten


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("stochastic", [False, True])
def test_solver_equals_diffusers(schedule, steps: int, order: int, stochastic: bool) -> None:
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        solver_order=order,
        algorithm_type="sde-dpmsolver++" if stochastic else "dpmsolver++",
    )
    peer.set_timesteps(steps)
    noise = torch.randn(6, 4, generator=torch.Generator().manual_seed(steps))
    theirs, generator = noise.clone(), torch.Generator().manual_seed(7)
    for time in peer.timesteps:
        theirs = peer.step(velocity(theirs, int(time)), time, theirs, generator=generator).prev_sample
    solver = DiffusionSolver(schedule, steps, order=order, stochastic=stochastic)
    assert solver.times_S.tolist() == peer.timesteps.tolist()
    generator = torch.Generator().manual_seed(7)
    ours = solver.sample(
        lambda x, step: velocity(x, int(solver.times_S[step])),
        noise,
        lambda: torch.randn(6, 4, generator=generator),
    )
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("steps", [4, 25])
def test_first_order_with_noise_is_ddpm(schedule, steps: int) -> None:
    """DDPM's posterior between two kept steps, written out in float64 (Ho et al. 2020, equation 7)."""
    solver = DiffusionSolver(schedule, steps, order=1, stochastic=True)
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    ours = solver.sample(lambda x, step: velocity(x, int(solver.times_S[step])), noise)
    generator, x = torch.Generator().manual_seed(1), noise.double()
    times = solver.times_S.tolist()
    for here, there in zip(times, [*times[1:], None], strict=True):
        alpha, sigma = schedule.alpha_S[here].double(), schedule.sigma_S[here].double()
        data = alpha * x - sigma * velocity(x, here)
        if there is None:
            x = data
            break
        power, next_power = alpha**2, schedule.alpha_S[there].double() ** 2
        beta = 1 - power / next_power
        mean = next_power.sqrt() * beta / (1 - power) * data
        mean = mean + (1 - beta).sqrt() * (1 - next_power) / (1 - power) * x
        variance = (1 - next_power) / (1 - power) * beta
        x = mean + variance.sqrt() * torch.randn(3, 4, generator=generator)
    torch.testing.assert_close(ours.double(), x, atol=1e-5, rtol=1e-5)


def test_solver_recovers_the_data_of_a_perfect_model(schedule) -> None:
    """A model that knows the answer: every sampler arrives at it."""
    data = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for order in (1, 2):
        solver = DiffusionSolver(schedule, 7, order=order)

        def predict(x: Tensor, step: int, solver=solver) -> Tensor:
            time = solver.times_S[step]
            alpha, sigma = schedule.alpha_S[time], schedule.sigma_S[time]
            return (alpha * x - data) / sigma

        torch.testing.assert_close(solver.sample(predict, torch.randn(5, 3)), data, atol=1e-4, rtol=0)


def test_solver_refuses_what_it_cannot_do(schedule) -> None:
    for steps in (0, -1, 1000):
        with pytest.raises(ValueError, match="num_steps"):
            DiffusionSolver(schedule, steps)
    with pytest.raises(ValueError, match="order"):
        DiffusionSolver(schedule, 5, order=3)


def test_head_starts_at_zero_and_then_hears_everything() -> None:
    torch.manual_seed(0)
    head = DiffusionHead(4, 12, 2, 20, frequency_size=16)
    x, times, hidden = torch.randn(3, 4), torch.tensor([0, 400, 999]), torch.randn(3, 12)
    assert head(x, times, hidden).abs().max() == 0  # AdaLN-Zero
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    whole = head(x, times, hidden)
    assert not any(name.endswith("bias") for name, _ in head.named_parameters())
    for changed in ((x + 0.1, times, hidden), (x, times.flip(0), hidden), (x, times, hidden + 0.1)):
        assert (head(*changed) - whole).abs().max() > 1e-3
    parts = [head(x[i : i + 1], times[i : i + 1], hidden[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(parts), whole)
    gradients = torch.autograd.grad(whole.square().sum(), list(head.parameters()))
    assert all(bool(gradient.abs().sum() > 0) for gradient in gradients)


def test_head_is_the_formula() -> None:
    torch.manual_seed(1)
    head = DiffusionHead(3, 8, 1, 10, frequency_size=6, max_period=100.0).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x, hidden, time = torch.randn(1, 3).double(), torch.randn(1, 8).double(), 37.0
    silu = torch.nn.functional.silu

    def norm(v: Tensor) -> Tensor:
        return v / (v.square().mean() + 1e-5).sqrt()

    angles = torch.tensor([time * 100.0 ** (-i / 3) for i in range(3)]).double()
    code = torch.cat([angles.cos(), angles.sin()])[None]
    c = hidden @ head.condition.weight.T + silu(code @ head.time_in.weight.T) @ head.time_out.weight.T
    layer, y = head.layers[0], x @ head.input.weight.T
    shift, scale, gate = (silu(c) @ layer.modulation.weight.T).chunk(3, dim=-1)
    z = norm(y) * layer.norm.weight * (1 + scale) + shift
    feedforward = layer.feedforward
    z = (silu(z @ feedforward.gate.weight.T) * (z @ feedforward.up.weight.T)) @ feedforward.down.weight.T
    y = y + gate * z
    shift, scale = (silu(c) @ head.final_modulation.weight.T).chunk(2, dim=-1)
    expected = (norm(y) * (1 + scale) + shift) @ head.output.weight.T
    torch.testing.assert_close(head(x, torch.tensor([time]), hidden), expected, atol=1e-5, rtol=1e-5)


def test_modulations_of_many_steps_at_once() -> None:
    torch.manual_seed(2)
    head = DiffusionHead(3, 8, 2, 10, frequency_size=6)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x, conditions = torch.randn(4, 3), torch.randn(5, 4, 8)
    together = head.modulations(conditions)
    assert [tuple(part.shape) for part in together] == [(5, 3, 4, 8), (5, 3, 4, 8), (5, 2, 4, 8)]
    for step in range(5):
        found = head.denoise_modulated(x, [part[step] for part in together])
        torch.testing.assert_close(found, head.denoise(x, conditions[step]))
    nothing = DiffusionHead(3, 8, 0, 10)  # no layer: only the output is modulated
    torch.nn.init.normal_(nothing.output.weight)
    assert nothing(x, torch.zeros(4), torch.randn(4, 8)).shape == (4, 3)


def test_a_compiler_sees_the_same_head(monkeypatch) -> None:
    torch.manual_seed(2)
    head = DiffusionHead(3, 8, 2, 10, frequency_size=6)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x, times, hidden = torch.randn(4, 3), torch.tensor([0, 3, 500, 999]), torch.randn(4, 8)
    expected = head(x, times, hidden)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(head(x, times, hidden), expected, atol=1e-5, rtol=1e-5)


def test_head_under_autocast() -> None:
    torch.manual_seed(2)
    head = DiffusionHead(3, 8, 2, 10, frequency_size=6)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, times, hidden = torch.randn(4, 3), torch.tensor([0, 3, 500, 999]), torch.randn(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = head(x, times, hidden)
        torch.autograd.grad(found.float().square().sum(), list(head.parameters()))
    torch.testing.assert_close(found.float(), head(x, times, hidden), atol=0.1, rtol=0.1)
