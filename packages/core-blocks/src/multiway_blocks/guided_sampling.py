"""Sampling of the next latent from hidden states of a language model, with classifier-free guidance.

LatentLM (arXiv 2412.08635, section 2.3) and VibeVoice (arXiv 2508.19205, section 2.2): the velocity is
``v_without + guidance * (v_with - v_without)``, where the second context does not know the text (Ho & Salimans 2022,
equation 6). Both contexts are rows of one batch, since a step of few rows costs what reading the weights costs.

Shape suffixes: N latents, D latent size, R rows (2 N with guidance), H hidden size, S solver steps.
"""

from __future__ import annotations

from torch import Tensor

from multiway_blocks.diffusion import DiffusionHead
from multiway_blocks.diffusion_solver import DiffusionSolver, Draw


class LatentSampler:
    """A head, a solver and a weight of guidance; made once for all latents of a run, in the mode they are drawn in."""

    def __init__(self, head: DiffusionHead, solver: DiffusionSolver, guidance: float) -> None:
        self.head = head
        self.solver = solver
        self.guidance = guidance
        self._times_S1H = head.embed_times(solver.times_S.to(head.output.weight.device))[:, None]

    def __call__(self, hidden_RH: Tensor, draw: Draw) -> Tensor:
        """Latents (N, D) float32.

        ``hidden``: N rows, or 2 N for guidance: of the contexts with the text, and then of those without. ``draw``
        gives standard normal (N, D) on any device: the first noise, and what a stochastic solver adds.
        """

        def draw_here() -> Tensor:
            return draw().to(hidden_RH.device)

        noise_ND = draw_here()
        count, copies = len(noise_ND), len(hidden_RH) // len(noise_ND)
        condition_SRH = self.head.condition(hidden_RH) + self._times_S1H
        modulations = self.head.modulations(condition_SRH)

        def velocity(x_ND: Tensor, step: int) -> Tensor:
            x_RD = x_ND.to(hidden_RH.dtype).repeat(copies, 1)
            velocity_RD = self.head.denoise_modulated(
                x_RD, [of_step[step] for of_step in modulations]
            ).float()
            if copies == 1:
                return velocity_RD
            with_text_ND, without_ND = velocity_RD.split(count)
            return without_ND + self.guidance * (with_text_ND - without_ND)

        return self.solver.sample(velocity, noise_ND, draw_here)
