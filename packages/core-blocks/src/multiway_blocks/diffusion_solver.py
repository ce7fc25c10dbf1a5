"""Samplers of a velocity-predicting diffusion model: DPM-Solver++ of order 1 and 2, deterministic and stochastic.

DPM-Solver++ (arXiv 2211.01095, algorithm 2 and appendix on SDEs). Order 1 gives DDIM without noise, and with noise the
ancestral sampler of DDPM (arXiv 2006.11239, equation 7) over a subset of steps.

Shape suffixes: N latents, D latent size, S solver steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from multiway_blocks.diffusion import CosineSchedule

Predict = Callable[[Tensor, int], Tensor]
"""Noisy latents (N, D) float32 and the index of a solver step -> velocity (N, D)."""
Draw = Callable[[], Tensor]
"""Standard normal (N, D), new at every call."""


class DiffusionSolver:
    """Walks from noise to latents in ``num_steps`` evaluations.

    Args:
        schedule: of the noise the model was trained with.
        num_steps: evaluations S, at most the schedule's steps.
        order: 2 uses the previous evaluation as well, except in the first and the last step.
        stochastic: adds fresh noise in every step (the SDE form).
    """

    def __init__(
        self, schedule: CosineSchedule, num_steps: int, *, order: int = 2, stochastic: bool = False
    ) -> None:
        if not 1 <= num_steps < schedule.num_steps:
            raise ValueError(f"num_steps must be 1 to {schedule.num_steps - 1}, not {num_steps}")
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, not {order}")
        spaced = torch.linspace(0, schedule.num_steps - 1, num_steps + 1, dtype=torch.float64)
        self.times_S = spaced.round().long().flip(0)[:-1]
        """Int64 time steps, from noise to data."""
        self.order = order
        self.stochastic = stochastic
        alphas, sigmas = schedule.alpha_S[self.times_S].double(), schedule.sigma_S[self.times_S].double()
        # The last step arrives at the data itself.
        self._alphas = [*alphas.tolist(), 1.0]
        self._sigmas = [*sigmas.tolist(), 0.0]

    def sample(self, predict: Predict, noise_ND: Tensor, draw: Draw | None = None) -> Tensor:
        """Latents (N, D) float32 from standard normal ``noise`` (N, D).

        ``draw`` gives the fresh noise of the stochastic form, once a step but for the last; by default it comes from
        torch's global generator.
        """
        x_ND = noise_ND.float()
        earlier_ND: Tensor | None = None
        for step in range(len(self.times_S)):
            alpha, sigma = self._alphas[step], self._sigmas[step]
            data_ND = alpha * x_ND - sigma * predict(x_ND, step).float()
            x_ND = self._advance(step, x_ND, data_ND, earlier_ND, draw)
            earlier_ND = data_ND
        return x_ND

    def _advance(
        self,
        step: int,
        x_ND: Tensor,
        data_ND: Tensor,
        earlier_ND: Tensor | None,
        draw: Draw | None,
    ) -> Tensor:
        sigma, next_alpha, next_sigma = self._sigmas[step], self._alphas[step + 1], self._sigmas[step + 1]
        if next_sigma == 0:
            return data_ND
        stride = self._log_ratio(step + 1) - self._log_ratio(step)
        decay = math.exp(-stride) if self.stochastic else 1.0
        weight = -next_alpha * math.expm1(-stride * (2 if self.stochastic else 1))
        mixed_ND = (next_sigma / sigma * decay) * x_ND + weight * data_ND
        if earlier_ND is not None and self.order == 2:
            previous_stride = self._log_ratio(step) - self._log_ratio(step - 1)
            mixed_ND = mixed_ND + (0.5 * weight * stride / previous_stride) * (data_ND - earlier_ND)
        if self.stochastic:
            fresh_ND = torch.randn_like(x_ND) if draw is None else draw().to(x_ND)
            mixed_ND = mixed_ND + next_sigma * math.sqrt(-math.expm1(-2 * stride)) * fresh_ND
        return mixed_ND

    def _log_ratio(self, step: int) -> float:
        """Half the log signal-to-noise ratio, the solver's own time."""
        return math.log(self._alphas[step] / self._sigmas[step])
