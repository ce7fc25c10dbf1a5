"""Losses of the text-to-speech model: next-token diffusion on frames, and the end of each phone.

The diffusion loss is LatentLM's (arXiv 2412.08635, section 2.3). A frame's condition is the hidden state *before* it.

Exposure bias is large: with the teacher's frames as inputs our model was wrong in 7 % of the words, with its own in
44 %. Hence scheduled sampling in parallel (arXiv 1906.07651): all frames of a batch are
sampled at once behind the teacher's, then again behind those, and are the inputs in the teacher's place.

Shape suffixes: B batch, T tokens, E hidden size, N frames, D latent size, C choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from multiway_blocks.diffusion_solver import DiffusionSolver
from multiway_blocks.guided_sampling import LatentSampler
from multiway_blocks.next_token_diffusion import next_token_diffusion_loss
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice.sequences import NONE, Batch

SAMPLING_TEMPERATURES = 0.5, 1.0
"""Noise temperature of the sampled frames, least and most: synthesis uses one in between."""


@dataclass(frozen=True)
class TtsObjective:
    """Loss of a batch for the trainer, a mean over frames.

    Attributes:
        draws: noisy versions of each frame.
        choice_weight: of the choice between going on and what comes next.
        history_noise: the frames that the model hears carry up to so much noise, since those it makes are not perfect.
        history_drop: share of them that it does not hear: so it cannot know a sentence again by its sound.
        sampling_passes: passes of scheduled sampling at most; each batch draws a number from 0 to this.
        sampling_steps: of the diffusion solver in these passes.
    """

    draws: int = 2
    choice_weight: float = 0.2
    history_noise: float = 0.3
    history_drop: float = 0.15
    sampling_passes: int = 2
    sampling_steps: int = 3

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        assert isinstance(model, VibeVoice)
        own_ND: Tensor | None = None
        for _ in range(int(torch.randint(self.sampling_passes + 1, ()))):
            own_ND = self._sample_frames(model, batch, own_ND)
        hidden_BTE, learnt_ND = read_batch(model, batch, self.history_noise, self.history_drop, own_ND)
        frame_N = next_token_diffusion_loss(
            model.head, model.schedule, hidden_BTE, batch.spoken_BT, learnt_ND, draws=self.draws
        )
        choice, right = self._choices(model, hidden_BTE, batch)
        count = len(frame_N)
        total = frame_N.sum() + self.choice_weight * choice * count
        metrics = {"frame": frame_N.detach().mean(), "choice": choice.detach(), "right": right}
        return Loss(total, count, metrics, samples=len(batch.tokens_BT))

    @torch.no_grad()
    def _sample_frames(self, model: VibeVoice, batch: Batch, own_ND: Tensor | None) -> Tensor:
        """The spoken frames, normalized, as the model samples them behind ``own``, or behind the teacher's frames."""
        hidden_BTE, learnt_ND = read_batch(model, batch, self.history_noise, self.history_drop, own_ND)
        before_NE = hidden_BTE[:, :-1][batch.spoken_BT[:, 1:]]
        solver = DiffusionSolver(model.schedule, self.sampling_steps)
        temperature = torch.empty(()).uniform_(*SAMPLING_TEMPERATURES).item()
        return LatentSampler(model.head, solver, guidance=1.0)(
            before_NE, lambda: temperature * torch.randn_like(learnt_ND)
        )

    def _choices(self, model: VibeVoice, hidden_BTE: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of "the next phone begins" against "this one goes on", and how often it is right."""
        is_choice_BT = batch.following_BT != NONE
        following_C = batch.following_BT[is_choice_BT]
        if not len(following_C):
            return hidden_BTE.sum() * 0, hidden_BTE.new_zeros(())
        matrix_VE = model.language_model.output_matrix_VE
        apart_CE = matrix_VE[following_C] - matrix_VE[model.config.tokens.frame]
        logits_C = (hidden_BTE[is_choice_BT].float() * apart_CE.float()).sum(dim=-1)
        begins_C = batch.tokens_BT.roll(-1, dims=1)[is_choice_BT] == following_C
        loss = nn.functional.binary_cross_entropy_with_logits(logits_C, begins_C.float())
        return loss, ((logits_C.detach() > 0) == begins_C).float().mean()


def read_batch(
    model: VibeVoice, batch: Batch, history_noise: float, history_drop: float, own_ND: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Hidden states (B, T, E), and the normalized frames (N, D) that are to be learnt, row by row.

    ``own``: other frames (N, D) that are heard in place of those.
    """
    is_frame_BT = (batch.tokens_BT == model.config.tokens.frame) & batch.valid_BT
    latents_ND = model.normalize(batch.latents_ND)
    is_spoken_N = batch.spoken_BT[is_frame_BT]
    learnt_ND = latents_ND[is_spoken_N]
    if own_ND is not None:
        latents_ND = latents_ND.masked_scatter(is_spoken_N[:, None], own_ND.to(latents_ND.dtype))
    row_N = is_frame_BT.nonzero()[:, 0]
    level_N1 = history_noise * torch.rand(len(batch.tokens_BT), 1, device=latents_ND.device)[row_N]
    heard_ND = latents_ND + level_N1 * torch.randn_like(latents_ND)
    heard_ND = heard_ND * (torch.rand(len(heard_ND), 1, device=heard_ND.device) >= history_drop)
    x_BTE = model.language_model.embed(batch.tokens_BT, is_frame_BT, model.acoustic_connector(heard_ND))
    if len(batch.written_RT):
        written_NE = model.embed_phones(batch.written_RT)[batch.written_valid_RT]
        x_BTE = x_BTE.masked_scatter(batch.written_BT[..., None], written_NE.to(x_BTE.dtype))
    return model.language_model.decoder(x_BTE, batch.valid_BT), learnt_ND
