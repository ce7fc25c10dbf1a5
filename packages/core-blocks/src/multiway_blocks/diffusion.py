"""Per-token diffusion: the head that denoises one latent vector, and its noise schedule.

Next-token diffusion (LatentLM, arXiv 2412.08635, section 2.3) samples each latent by a small network that is
conditioned on the hidden state of a language model.

Shape suffixes: N latents, D latent size, H hidden size, S diffusion steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from multiway_blocks.feedforward import GatedFeedForward
from multiway_blocks.kernels.adaln_modulate import adaln_modulate
from multiway_blocks.kernels.adaln_modulate import cpu as adaln_cpu
from multiway_blocks.linear import Linear
from multiway_blocks.norm import RMSNorm


class DiffusionLayer(nn.Module):
    """``x + gate * FFN(norm(x) * (1 + scale) + shift)``, the three modulated by the condition (AdaLN-Zero).

    The sum is left to the next layer, whose norm takes it in the same pass over memory.
    """

    def __init__(self, hidden_size: int, inner_size: int, eps: float) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden_size, eps)
        self.feedforward = GatedFeedForward(hidden_size, inner_size, activation=nn.functional.silu)
        self.modulation = Linear(hidden_size, 3 * hidden_size, bias=False)
        nn.init.zeros_(self.modulation.weight)

    def forward(self, x: Residual, modulation_3NH: Tensor) -> Residual:
        """``modulation``: shift, scale and gate."""
        shift_NH, scale_NH, gate_NH = modulation_3NH
        normed_NH, x_NH = x.normed(shift_NH, scale_NH, self.norm.weight, self.norm.eps)
        return Residual(x_NH, self.feedforward(normed_NH), gate_NH)


class Residual(NamedTuple):
    """``x + gate * branch`` (N, H), not added yet; ``x`` alone at the beginning."""

    x_NH: Tensor
    branch_NH: Tensor | None = None
    gate_NH: Tensor | None = None

    def normed(
        self, shift_NH: Tensor, scale_NH: Tensor, weight_H: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor]:
        """``norm(sum) * weight * (1 + scale) + shift``, and the sum."""
        x_NH, branch_NH, gate_NH = self
        if torch.compiler.is_compiling():  # which fuses the plain form with its neighbours
            if branch_NH is not None and gate_NH is not None:
                x_NH = x_NH + gate_NH * branch_NH
            normed_NH = nn.functional.rms_norm(x_NH, x_NH.shape[-1:], weight_H, eps)
            return normed_NH * (1 + scale_NH) + shift_NH, x_NH
        modulations = (shift_NH, scale_NH) if gate_NH is None else (shift_NH, scale_NH, gate_NH)
        if (
            x_NH.is_cpu
            and not torch.is_grad_enabled()
            and all(row.shape == x_NH.shape and row.is_contiguous() for row in modulations)
            and adaln_cpu.supports(x_NH.dtype)
        ):  # a step of few rows is mostly the way through checks and dispatcher, which is cut short here
            inner_NH, sum_NH = (x_NH, None) if branch_NH is None else (branch_NH.contiguous(), x_NH)
            return adaln_cpu.forward(inner_NH, gate_NH, sum_NH, weight_H, shift_NH, scale_NH, eps)[:2]
        if branch_NH is None or gate_NH is None:
            return adaln_modulate(x_NH, shift_NH, scale_NH, weight_H, eps), x_NH
        return adaln_modulate(branch_NH, shift_NH, scale_NH, weight_H, eps, gate_NH, x_NH)


class DiffusionHead(nn.Module):
    """Predicts the velocity of a noisy latent from its time step and a condition; no map in it has a bias.

    Args:
        latent_size: D.
        hidden_size: H, also of the condition.
        num_layers: modulated feed-forward layers.
        inner_size: their inner size.
        frequency_size: size of the sinusoidal code of a time step.
        max_period: its longest period, in steps.
    """

    frequencies: Tensor

    def __init__(
        self,
        latent_size: int,
        hidden_size: int,
        num_layers: int,
        inner_size: int,
        *,
        frequency_size: int = 256,
        max_period: float = 10000.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.input = Linear(latent_size, hidden_size, bias=False)
        self.condition = Linear(hidden_size, hidden_size, bias=False)
        self.time_in = Linear(frequency_size, hidden_size, bias=False)
        self.time_out = Linear(hidden_size, hidden_size, bias=False)
        self.layers = nn.ModuleList(DiffusionLayer(hidden_size, inner_size, eps) for _ in range(num_layers))
        self.final_modulation = Linear(hidden_size, 2 * hidden_size, bias=False)
        self.output = Linear(hidden_size, latent_size, bias=False)
        self.eps = eps
        for map_ in (self.time_in, self.time_out):
            nn.init.normal_(map_.weight, std=0.02)
        for map_ in (self.final_modulation, self.output):
            nn.init.zeros_(map_.weight)
        half = frequency_size // 2
        with torch.device("cpu"):  # no checkpoint fills it, not even for a model built on the meta device
            frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(max_period) / half))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def embed_times(self, times_S: Tensor) -> Tensor:
        """Codes (S, H) of time steps (S,); a sampler's steps need be embedded once only."""
        angles = times_S[:, None].float() * self.frequencies
        code = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.time_in.weight.dtype)
        return self.time_out(nn.functional.silu(self.time_in(code)))

    def modulations(self, condition: Tensor) -> list[Tensor]:
        """What a condition (..., N, H) does to each layer, (..., 3, N, H), and to the output, (..., 2, N, H).

        A sampler knows all its steps beforehand: for (S, N, H) the matrices are read once instead of once a step.
        """
        activated = nn.functional.silu(condition)
        maps = [*(cast(DiffusionLayer, layer).modulation for layer in self.layers), self.final_modulation]
        size = condition.shape[-1]
        return [map_(activated).unflatten(-1, (-1, size)).movedim(-2, -3).contiguous() for map_ in maps]

    def denoise(self, x_ND: Tensor, condition_NH: Tensor) -> Tensor:
        """Velocity (N, D) of latents (N, D), given ``self.condition(hidden states) + embed_times(...)`` (N, H)."""
        return self.denoise_modulated(x_ND, self.modulations(condition_NH))

    def denoise_modulated(self, x_ND: Tensor, modulations: Sequence[Tensor]) -> Tensor:
        """:meth:`denoise` with the :meth:`modulations` of its condition."""
        x = Residual(self.input(x_ND))
        for layer, modulation_3NH in zip(self.layers, modulations[:-1], strict=True):
            x = layer(x, modulation_3NH)
        shift_NH, scale_NH = modulations[-1]
        return self.output(x.normed(shift_NH, scale_NH, None, self.eps)[0])

    def forward(self, x_ND: Tensor, times_N: Tensor, hidden_NH: Tensor) -> Tensor:
        """Velocity (N, D) of latents ``x`` at ``times`` (N,), conditioned on hidden states (N, H)."""
        return self.denoise(x_ND, self.condition(hidden_NH) + self.embed_times(times_N))


class CosineSchedule:
    """``x_t = alpha_t x_0 + sigma_t e`` for t in 0..num_steps-1 (Nichol & Dhariwal 2021, equation 17).

    Step sizes are cut at 0.999, so that the last step is all but pure noise. The tables are float32, computed the way
    the published models' scheduler computes them: the last entries depend on it.
    """

    def __init__(self, num_steps: int = 1000, *, offset: float = 0.008) -> None:
        def signal(time: float) -> float:
            return math.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2

        betas = [
            min(1 - signal((i + 1) / num_steps) / signal(i / num_steps), 0.999) for i in range(num_steps)
        ]
        with torch.device("cpu"):  # also when the model around it is built on the meta device
            power_S = torch.cumprod(1 - torch.tensor(betas, dtype=torch.float32), dim=0)
        self.alpha_S = power_S.sqrt()
        self.sigma_S = (1 - power_S).sqrt()
        self.num_steps = num_steps

    def add_noise(self, latents_ND: Tensor, noise_ND: Tensor, times_N: Tensor) -> Tensor:
        """Noisy latents (N, D) at int64 ``times`` (N,)."""
        alpha_N1, sigma_N1 = self._at(times_N, latents_ND)
        return alpha_N1 * latents_ND + sigma_N1 * noise_ND

    def velocity(self, latents_ND: Tensor, noise_ND: Tensor, times_N: Tensor) -> Tensor:
        """What the head learns to predict: ``alpha e - sigma x_0`` (Salimans & Ho 2022, section 4)."""
        alpha_N1, sigma_N1 = self._at(times_N, latents_ND)
        return alpha_N1 * noise_ND - sigma_N1 * latents_ND

    def _at(self, times_N: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        index = times_N.to(self.alpha_S.device)
        return self.alpha_S[index].to(like)[:, None], self.sigma_S[index].to(like)[:, None]
